//! Wall and monotonic time. Services never read a system clock themselves.
use std::sync::Arc;

use tokio::time::Instant;

/// A clock. One a process in production; a test may give a node its own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn wall_ms(&self) -> u64;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// Wall time that starts at a given instant and advances with tokio's clock, so that paused time works and no step of the
/// host's clock can disturb a run.
#[derive(Debug)]
pub struct SteadyClock {
    start: Instant,
    start_ms: u64,
}

impl SteadyClock {
    /// A clock that reads `start_ms` now.
    pub fn new(start_ms: u64) -> Self {
        Self { start: Instant::now(), start_ms }
    }
}

impl Clock for SteadyClock {
    fn wall_ms(&self) -> u64 {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start_ms.saturating_add(passed)
    }
}
