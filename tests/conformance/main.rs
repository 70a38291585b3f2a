//! One suite a port, run against every arm. When both arms pass, a verdict of the embedded substrate can be trusted for that
//! port: services see the same promises kept as on the real backends, and the same fates of calls when a backend is silent, dies, returns,
//! forgets or is full. What nobody knows is never answered as done or as not done on either arm.
//!
//! A suite is a file of plain functions over the port's trait; `stories!` runs each of them on the arms there are. The fault stories
//! stand in [`faults`], whose page says how each arm is broken and what only one of them can be.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on fails")]

mod arm;
mod blobs;
mod event_log;
mod faults;
mod history;
#[cfg(feature = "containers")]
mod real;
mod registry;
mod relay_queue;
mod tables;

/// Runs stories of a suite on the embedded arm, each on a system of its own, and with the feature `containers` on the real one, each
/// with names of its own.
macro_rules! stories {
    ($port:ident: $($story:ident),+ $(,)?) => {
        #[cfg(feature = "containers")]
        mod real {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    if let Some(port) = crate::real::$port().await {
                        super::$story(port).await;
                    }
                }
            )+
        }

        mod embedded {
            $(
                #[tokio::test]
                async fn $story() {
                    let arm = crate::arm::Arm::embedded();
                    super::$story(arm.$port()).await;
                }
            )+
        }
    };
}
pub(crate) use stories;
