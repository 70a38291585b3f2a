//! Sizes, limits and the policy of reading.
use std::time::Duration;

use chat_ports::log::Topic;
use chat_protocol::limits::Timers;

/// Which records a fetch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadIsolation {
    /// Those below the high watermark.
    #[default]
    Replicated,
    /// Everything the leader has; a change of leader may take some of it back.
    Everything,
}

/// How a log is built. Every partition has a replica on every broker.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Brokers, numbered from 1.
    pub brokers: u32,
    /// Partitions of each topic.
    pub partitions: Vec<(Topic, u32)>,
    /// An append needs this many replicas in sync.
    pub min_insync: usize,
    /// Bytes kept of a partition; the oldest batches go first.
    pub retention_bytes: u64,
    /// Age kept of a partition.
    pub retention: Duration,
    /// Bytes of appends without answer, over all producers; a further append is refused.
    pub log_buffer: u64,
    /// How long every replication fetch takes; 0: within the same turn.
    pub fetch_delay: Duration,
    /// Which records a fetch shows.
    pub isolation: ReadIsolation,
    /// A dead broker leaves every ISR, and its partitions get other leaders, after this long.
    pub election: Duration,
    /// How long an append may wait. A follower that was behind for as long leaves the ISR.
    pub append: Duration,
    /// A group member without heartbeat for this long is out.
    pub session: Duration,
}

impl LogConfig {
    /// The reference log: three brokers, `min.insync` 2, 128 MiB or an hour a partition.
    pub fn new(partitions: u32, timers: &Timers) -> Self {
        Self {
            brokers: 3,
            partitions: Topic::ALL.map(|topic| (topic, partitions)).to_vec(),
            min_insync: 2,
            retention_bytes: 128 * 1024 * 1024,
            retention: Duration::from_hours(1),
            log_buffer: 32 * 1024 * 1024,
            fetch_delay: Duration::ZERO,
            isolation: ReadIsolation::Replicated,
            election: timers.log_election,
            append: timers.log_append,
            session: timers.log_session,
        }
    }
}
