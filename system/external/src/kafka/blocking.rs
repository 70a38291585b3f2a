//! Calls of the library that block until a broker answers.
//!
//! Each has a thread of its own, not one of the runtime: a runtime waits for its threads when it ends, and a node that is killed
//! while a broker is silent must not wait for that broker.
use std::sync::Arc;

use chat_ports::PortError;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// Runs calls that block, a bounded number at a time.
#[derive(Clone)]
pub(super) struct Blocking(Arc<Semaphore>);

impl Blocking {
    /// At most `places` calls at a time; a further one waits, and is refused when its time is over.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Runs a call in a thread of its own, and waits for it until then. A thread that takes longer keeps its place, and ends when
    /// the library gives up, which it does within `keeper::CLOSING`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        until: Instant,
        call: impl FnOnce() -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let place = timeout_at(until, Arc::clone(&self.0).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(PortError::Refused("too many calls waiting".to_owned()));
        };
        let (reply, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("kafka-call".to_owned());
        let begun = thread.spawn(move || {
            let outcome = call();
            drop(place);
            if reply.send(outcome).is_err() {
                tracing::trace!("A caller went away before its answer.");
            }
        });
        begun.map_err(|error| PortError::Refused(format!("no thread for a call: {error}")))?;
        match timeout_at(until, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(PortError::Unknown("the call ended early".to_owned())),
            Err(_) => Err(PortError::Unknown("no answer in time".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn call_without_a_place_is_refused_and_a_slow_one_is_unknown() {
        let (blocking, (go, wait)) = (Blocking::new(1), channel::<()>());
        let soon = Instant::now() + Duration::from_millis(20);
        let slow = blocking.run(soon, move || Ok(wait.recv().is_ok())).await;
        assert!(matches!(slow, Err(PortError::Unknown(_))));
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(matches!(blocking.run(soon, || Ok(())).await, Err(PortError::Refused(_))));
        go.send(()).unwrap();
        let later = Instant::now() + Duration::from_secs(20);
        assert_eq!(blocking.run(later, || Ok(7)).await, Ok(7));
    }
}
