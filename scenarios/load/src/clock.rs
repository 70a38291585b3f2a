//! The one clock of a run: nanoseconds since the run's start, monotonic, the same on every thread.
use chat_client::app::Clock;
use tokio::time::Instant;

/// The clock.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    start: Instant,
}

impl RunClock {
    /// A clock that reads 0 now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The instant the clock reads 0 at.
    pub fn zero(&self) -> Instant {
        self.start
    }

    /// Nanoseconds since the run's start.
    pub fn now_ns(&self) -> u64 {
        // A run of 584 years would overflow.
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Clock for RunClock {
    fn now_ns(&self) -> u64 {
        Self::now_ns(self)
    }
}
