//! Fault stories: what a port promises while what stands behind it is silent, killed, restarted, wiped or full.
//!
//! An arm lends a story a site: the port, and the means to break what is behind it. [`fault_stories`] runs each
//! story on the arms that can be broken the same way:
//!
//! - `silence`: nothing is answered for a while. The real arm freezes the server, which does what it was sent once it goes on. The
//!   embedded arm runs the story twice, once with requests that are lost and once with answers that are lost after their effect.
//! - `death`: killed and started again with its data, or wiped.
//! - `real only`: the embedded arm cannot be broken that way, and does not count. Its registry and relay queues are in memory, so a
//!   restart is a wipe there; its brokers are slow or dead, but never silent for so long that another one leads while they live.
//!
//! [`ledger`] holds the log to what it answered.
mod blobs;
pub(crate) mod embedded;
mod event_log;
mod front;
mod history;
mod ledger;
mod registry;
mod relay_queue;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::inspect::BrokerInfo;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use chat_ports::history::History;
use chat_ports::log::{EventLog, Partition};
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;
use chat_ports::tables::{Table, Tables};
use chat_protocol::{ConvId, UserId};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use crate::arm::within;

/// How long what was broken may take until it is whole again: a virtual machine starts, beside others and on two cores.
pub(crate) const HEALING: Duration = Duration::from_mins(2);
/// Calls that may wait through one handle, the same on both arms.
const WAITING_MAX: usize = 256;
/// So many more are tried.
const BEYOND: usize = 44;

/// The longest call of the registry and the relay queues, on both arms.
pub(crate) const STORE_CALL: Duration = Duration::from_secs(1);
/// The longest call of history, tables and blobs, on both arms.
pub(crate) const FILES_CALL: Duration = Duration::from_secs(2);
/// The longest append, on both arms.
pub(crate) const APPEND: Duration = Duration::from_secs(1);
/// Bytes of appends that have no fate yet, on both arms.
pub(crate) const LOG_BUFFER: u64 = 64 * 1024;

/// Breaks what stands behind a port. Each verb is undone by its partner before another one is used.
#[async_trait]
pub(crate) trait Breaker: Send + Sync {
    /// Nothing is answered from now on; connections stay.
    async fn freeze(&self);
    /// Ends the silence.
    async fn thaw(&self);
    /// Ends the server without a farewell.
    async fn kill(&self);
    /// Starts the server again, with the data it has.
    async fn revive(&self);
    /// Takes all data away. The server may or may not be another one afterwards.
    async fn wipe(&self);
}

/// A port that can be broken, as one story has it for itself.
pub(crate) struct Site<P: Answers + ?Sized> {
    pub(crate) port: Arc<P>,
    pub(crate) breaker: Box<dyn Breaker>,
}

impl<P: Answers + ?Sized> Site<P> {
    async fn freeze(&self) {
        self.breaker.freeze().await;
    }

    async fn thaw(&self) {
        self.breaker.thaw().await;
        self.answers().await;
    }

    async fn kill(&self) {
        self.breaker.kill().await;
    }

    async fn revive(&self) {
        self.breaker.revive().await;
        self.answers().await;
    }

    async fn wipe(&self) {
        self.breaker.wipe().await;
        self.answers().await;
    }

    async fn answers(&self) {
        within(HEALING, "an answer after the fault", async || {
            self.port.answers().await.then_some(())
        })
        .await;
    }
}

/// A harmless question.
#[async_trait]
pub(crate) trait Answers: Send + Sync {
    async fn answers(&self) -> bool;
}

#[async_trait]
impl Answers for dyn SessionRegistry {
    async fn answers(&self) -> bool {
        self.nodes().await.is_ok()
    }
}

#[async_trait]
impl Answers for dyn RelayQueue {
    async fn answers(&self) -> bool {
        self.incarnation().await.is_ok()
    }
}

#[async_trait]
impl Answers for dyn History {
    async fn answers(&self) -> bool {
        let nobody = ConvId::direct(UserId(7_000_000), UserId(7_000_001)).unwrap();
        self.digests(&[nobody]).await.is_ok()
    }
}

#[async_trait]
impl Answers for dyn Tables {
    async fn answers(&self) -> bool {
        self.get(Table::DevicesByUser, &[7_000_000]).await.is_ok()
    }
}

#[async_trait]
impl Answers for dyn Blobs {
    async fn answers(&self) -> bool {
        self.get("nothing").await.is_ok()
    }
}

/// Breaks brokers, which have numbers from 1.
#[async_trait]
pub(crate) trait Brokers: Send + Sync {
    /// All brokers, as the operator sees them.
    async fn all(&self) -> Result<Vec<BrokerInfo>, PortError>;
    /// The broker answers nothing for longer than an append may take; what it was sent it will still do.
    async fn freeze(&self, broker: u32);
    /// Ends that.
    async fn thaw(&self, broker: u32);
    /// Ends a broker without a farewell.
    async fn kill(&self, broker: u32);
    /// Starts it again, with the data it has.
    async fn revive(&self, broker: u32);
}

/// A log whose brokers can be broken, as one story has it for itself.
pub(crate) struct LogSite {
    pub(crate) port: Arc<dyn EventLog>,
    pub(crate) brokers: Box<dyn Brokers>,
}

impl LogSite {
    /// Who leads a partition; waits until somebody does.
    async fn leader(&self, (topic, number): Partition) -> u32 {
        let title = format!("{}/{number}", topic.name());
        within(HEALING, "a leader", async || {
            let all = self.brokers.all().await.ok()?;
            all.iter().find(|broker| broker.up && broker.leads.contains(&title)).map(|b| b.id)
        })
        .await
    }

    /// Waits until every broker is up and has everything.
    pub(crate) async fn whole(&self) {
        within(HEALING, "all brokers in sync", async || {
            let all = self.brokers.all().await.ok()?;
            all.iter().all(|b| b.up && b.replicas > 0 && b.in_sync == b.replicas).then_some(())
        })
        .await;
    }

    async fn thaw(&self, broker: u32) {
        self.brokers.thaw(broker).await;
        self.whole().await;
    }

    async fn revive(&self, brokers: &[u32]) {
        for broker in brokers {
            self.brokers.revive(*broker).await;
        }
        self.whole().await;
    }
}

/// Makes more calls at once than may wait, while nothing is answered: those beyond the limit are refused before any other one ends.
async fn crowd<T, Call: Future<Output = Result<T, PortError>>>(call: impl Fn() -> Call) {
    let mut calls: FuturesUnordered<_> = (0..WAITING_MAX + BEYOND).map(|_| call()).collect();
    for _ in 0..BEYOND {
        assert!(matches!(calls.next().await, Some(Err(PortError::Refused(_)))));
    }
    assert!(calls.next().now_or_never().is_none(), "the others wait");
}

/// What ended without an answer; a call that was answered all the same is no silence.
fn unanswered<T: std::fmt::Debug>(outcome: &Result<T, PortError>) {
    assert!(outcome.is_err(), "nothing answers: {outcome:?}");
}

fn is_unknown<T>(outcome: &Result<T, PortError>) -> bool {
    matches!(outcome, Err(PortError::Unknown(_)))
}

/// Runs fault stories of a port; see the page of this module.
macro_rules! fault_stories {
    (
        $port:ident,
        silence: [$($silent:ident),* $(,)?],
        death: [$($dead:ident),* $(,)?],
        real only: [$($real:ident),* $(,)?] $(,)?
    ) => {
        #[cfg(feature = "containers")]
        mod real {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $silent() {
                    if let Some(site) = $crate::real::faults::$port().await {
                        super::$silent(site).await;
                    }
                }
            )*
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $dead() {
                    if let Some(site) = $crate::real::faults::$port().await {
                        super::$dead(site).await;
                    }
                }
            )*
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $real() {
                    if let Some(site) = $crate::real::faults::$port().await {
                        super::$real(site).await;
                    }
                }
            )*
        }

        mod embedded {
            use $crate::faults::embedded::Loss;

            mod requests_lost {
                $(
                    #[tokio::test]
                    async fn $silent() {
                        let site = $crate::faults::embedded::$port(super::Loss::Requests);
                        super::super::$silent(site).await;
                    }
                )*
            }

            mod answers_lost {
                $(
                    #[tokio::test]
                    async fn $silent() {
                        let site = $crate::faults::embedded::$port(super::Loss::Answers);
                        super::super::$silent(site).await;
                    }
                )*
            }

            $(
                #[tokio::test]
                async fn $dead() {
                    let site = $crate::faults::embedded::$port(Loss::Requests);
                    super::$dead(site).await;
                }
            )*
        }
    };
}
pub(crate) use fault_stories;
