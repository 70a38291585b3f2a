//! The replicated event log: topics, partitions, consumer groups. Kafka's words with Kafka's meaning.
//!
//! What both arms promise: **E1** `append` answers [`Appended::Ok`] (on `min.insync` replicas), `NotAppended` or `Unknown`.
//! **E2** Readers see replicated records only, and a prefix once read never changes: same offsets, bytes and times for
//! everybody. **E3** One producer's records keep their order; a record may rarely appear twice. **E4** A partition has one
//! member of a group, which may not know yet that it lost it; positions move only by `commit`.
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::PortError;

/// The topics of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Sends, by conversation.
    Messages,
    /// Progress marks, by conversation.
    Receipts,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Messages, Self::Receipts];

    /// Name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "chat.messages",
            Self::Receipts => "chat.receipts",
        }
    }
}

/// A partition of a topic.
pub type Partition = (Topic, u32);

/// A record as every reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Place in the partition, from 0.
    pub offset: u64,
    /// The broker's stamp, milliseconds since 1970.
    pub log_ms: u64,
    /// Value.
    pub value: Bytes,
}

/// Outcome of an append of a batch: all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// On `min.insync` replicas; the first record's offset and the stamp of all.
    Ok {
        /// Offset of the first record.
        base: u64,
        /// The broker's stamp.
        log_ms: u64,
    },
    /// Nothing was appended, and nothing will be.
    NotAppended(Why),
    /// It may have been, or may yet become, part of the log: as a whole, or up to one of its records.
    Unknown(Why),
}

/// Why an append did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Fewer replicas in sync than `min.insync`.
    NotEnoughReplicas,
    /// The partition has no leader at the moment.
    NoLeader,
    /// The producer's buffer is full (`log_buffer`).
    BufferFull,
    /// No answer within the time limit.
    TimedOut,
    /// Readers lag by more than half of the retention; taking more could lose what they have not read.
    ReadersLag,
    /// The broker's disk is full.
    DiskFull,
}

/// A page read from a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Records from the asked offset on, in order; may be empty after the wait.
    pub records: Vec<Record>,
    /// Offset after the newest replicated record.
    pub high_watermark: u64,
    /// Oldest offset kept.
    pub start: u64,
}

/// What a group member owns. A rise of the generation means: stop what is not in the list, start what is new.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Assignment {
    /// Generation of the group.
    pub generation: u64,
    /// Owned partitions.
    pub partitions: Vec<u32>,
    /// This heartbeat made the caller a member. Whatever it owned before was lost when its session ended, and others may have
    /// owned it since, so even a partition that is in the list again has to be started anew.
    pub joined: bool,
}

/// The event log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends a batch to one partition, all or nothing, in order. The wait has the limit of the producer's time-out; a full
    /// buffer is said at once. What reached a leader is never answered as not appended for want of time.
    async fn append(&self, partition: Partition, values: Vec<Bytes>) -> Appended;

    /// Records from `offset` on, at most `max_bytes` (one record at least), waiting up to `wait` for the first one.
    /// An offset below the start is an error: a jump over lost data is never silent. While a partition has no leader that
    /// answers, a fetch ends as unknown or, after its wait, with no records, though the high watermark may lie above the offset.
    async fn fetch(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fetched, PortError>;

    /// Joins a group, or beats: must be called each `log_heartbeat`. Answers what the member owns now.
    async fn beat(&self, group: &str, topic: Topic, member: &str) -> Result<Assignment, PortError>;

    /// Leaves a group, so that its partitions move at once.
    async fn leave(&self, group: &str, topic: Topic, member: &str) -> Result<(), PortError>;

    /// Stores positions of a group: everything below had its effects. Fenced by `generation`: an older one is refused.
    async fn commit(
        &self,
        group: &str,
        topic: Topic,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError>;

    /// Committed position of each partition asked for; `None` where the group has committed none.
    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<Vec<Option<u64>>, PortError>;
}
