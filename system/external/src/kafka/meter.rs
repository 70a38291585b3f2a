//! How many bytes were appended to each partition, and how long that took. Brokers do not tell it; their producers know.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chat_ports::log::Partition;
use tokio::time::Instant;

/// How long an append counts as recent.
const RECENT: Duration = Duration::from_secs(1);

/// What the producers that share it appended since the start.
#[derive(Debug, Default)]
pub struct AppendMeter {
    partitions: Mutex<BTreeMap<Partition, Metered>>,
}

#[derive(Debug)]
struct Metered {
    bytes: u64,
    /// When the present window began, its slowest append, and that of the window before.
    since: Instant,
    slowest: [Duration; 2],
}

impl Metered {
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < RECENT {
            return;
        }
        let before = if age < 2 * RECENT { self.slowest[0] } else { Duration::ZERO };
        (self.since, self.slowest) = (now, [Duration::ZERO, before]);
    }
}

impl AppendMeter {
    /// Counts an append that was acknowledged.
    pub(super) fn appended(&self, now: Instant, partition: Partition, bytes: u64, took: Duration) {
        let mut all = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Metered { bytes: 0, since: now, slowest: [Duration::ZERO; 2] };
        let metered = all.entry(partition).or_insert_with(new);
        metered.turn(now);
        metered.bytes += bytes;
        metered.slowest[0] = metered.slowest[0].max(took);
    }

    /// Bytes appended to a partition since the start, and its slowest append of the last second or two.
    pub(super) fn read(&self, now: Instant, partition: Partition) -> (u64, Duration) {
        let mut all = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(metered) = all.get_mut(&partition) else { return (0, Duration::ZERO) };
        metered.turn(now);
        (metered.bytes, metered.slowest[0].max(metered.slowest[1]))
    }
}

#[cfg(test)]
mod tests {
    use chat_ports::log::Topic;

    use super::*;

    const P0: Partition = (Topic::Messages, 0);

    #[test]
    fn slowest_append_is_forgotten_after_two_windows_and_bytes_never() {
        let (meter, start) = (AppendMeter::default(), Instant::now());
        meter.appended(start, P0, 10, Duration::from_millis(7));
        meter.appended(start + RECENT, P0, 5, Duration::from_millis(3));
        assert_eq!(meter.read(start + RECENT, P0), (15, Duration::from_millis(7)));
        assert_eq!(meter.read(start + 2 * RECENT, P0), (15, Duration::from_millis(3)));
        assert_eq!(meter.read(start + 4 * RECENT, P0), (15, Duration::ZERO));
    }
}
