//! The operator's switch of the history: a server that ended answers nobody, and has kept its files when it starts again.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use chat_ports::PortError;

/// Ends and starts the history as its callers see it.
#[derive(Clone, Debug, Default)]
pub struct HistoryAdmin {
    /// Ends and starts so far: odd while it is down.
    turns: Arc<AtomicU64>,
}

impl HistoryAdmin {
    /// Ends it: calls are refused, and those under way lose their answers. Once it is down this does nothing.
    pub fn stop(&self) {
        self.turn(false);
    }

    /// Starts it on the files it had. While it runs this does nothing.
    pub fn start(&self) {
        self.turn(true);
    }

    fn turn(&self, up: bool) {
        let next = |turns: u64| (turns.is_multiple_of(2) != up).then_some(turns + 1);
        if self.turns.fetch_update(SeqCst, SeqCst, next).is_err() {
            tracing::debug!(up, "The history already is as told.");
        }
    }

    /// Does a call against the server: refused while it is down, unknown where it ended or started over the call.
    pub(super) async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        let turns = self.turns.load(SeqCst);
        if !turns.is_multiple_of(2) {
            return Err(PortError::Refused("the history is down".to_owned()));
        }
        let result = work.await;
        if self.turns.load(SeqCst) == turns {
            result
        } else {
            Err(PortError::Unknown("the history ended before it answered".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn ended_history_refuses_until_it_is_started() {
        let admin = HistoryAdmin::default();
        assert_eq!(admin.call(ready(Ok(1))).await, Ok(1));
        admin.stop();
        admin.stop();
        // The work of a refused call is not begun.
        assert!(matches!(admin.call(pending::<Result<u8, _>>()).await, Err(PortError::Refused(_))));
        admin.start();
        admin.start();
        assert_eq!(admin.call(ready(Ok(2))).await, Ok(2));
    }

    #[tokio::test]
    async fn call_over_the_end_of_the_history_has_lost_its_answer() {
        let admin = HistoryAdmin::default();
        let (done, answer) = oneshot::channel();
        let work = async move { Ok(answer.await.unwrap()) };
        let mut call = pin!(admin.call(work));
        assert!(call.as_mut().now_or_never().is_none());
        admin.stop();
        admin.start();
        done.send(1).unwrap();
        assert!(matches!(call.await, Err(PortError::Unknown(_))));
    }
}
