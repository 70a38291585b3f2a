//! Ctrl-C and SIGTERM: the first asks for a graceful end, the second leaves within two seconds.
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::exit::{Edge, Exit};

/// After the second signal the process ends at the latest after this long.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// What the signals of this process asked for.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Cancelled by the first signal: end the load, heal, drain, judge.
    pub stop: CancellationToken,
    /// Cancelled by the second signal: heal what can be healed at once and leave.
    pub leave: CancellationToken,
}

impl Signals {
    /// Installs the handler; once a process.
    pub fn install() -> Result<Self, Edge> {
        let signals = Self { stop: CancellationToken::new(), leave: CancellationToken::new() };
        let seen = Arc::new(AtomicU32::new(0));
        let handler = signals.clone();
        ctrlc::set_handler(move || handler.on_signal(seen.fetch_add(1, Relaxed))).map_err(
            |error| Edge::internal("no signal handler can be installed").caused_by(error),
        )?;
        Ok(signals)
    }

    /// Whether a graceful end was asked for.
    pub fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn on_signal(&self, earlier: u32) {
        self.stop.cancel();
        if earlier == 1 {
            self.leave.cancel();
            // Runs on the handler's own thread, so the rest of the process goes on leaving meanwhile.
            let timer = thread::Builder::new().name("storm-leave".into()).spawn(|| {
                let (_kept, never) = mpsc::sync_channel::<()>(1);
                if never.recv_timeout(LEAVE_LIMIT).is_err() {
                    end();
                }
            });
            if timer.is_err() {
                end();
            }
        }
    }
}

#[expect(clippy::exit, reason = "the second signal must end the process whatever still hangs")]
fn end() {
    std::process::exit(Exit::Stopped.code().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_signal_stops_and_does_not_leave() {
        let signals = Signals { stop: CancellationToken::new(), leave: CancellationToken::new() };
        assert!(!signals.stopped());
        signals.on_signal(0);
        assert!(signals.stopped());
        assert!(!signals.leave.is_cancelled());
    }
}
