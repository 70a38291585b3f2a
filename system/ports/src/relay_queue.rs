//! Durable queue of each device, fed by numbered sources.
//!
//! A source is a log partition: `m<p>` messages, `r<p>` receipts; its positions are offsets + 1, so that 0 means *nothing
//! yet*. Its watermark in a slot means: everything up to it that concerns the slot is stored. Queues and watermarks change
//! in one atomic step, so replays are skipped and gaps are refused.
//!
//! A store that restarted may lack its newest writes, but queues and watermarks agree: whoever goes on from the watermarks brings
//! exactly what is missing, under a newer queue epoch. A store that was wiped has no watermarks, and its queues have a newer floor:
//! a source that begins after the wipe says where, since what lies before is gone from every queue.
use async_trait::async_trait;
use bytes::Bytes;
use chat_protocol::DeviceId;

use crate::PortError;
use crate::registry::Route;

/// One call for one slot: several sources, all their items in order.
#[derive(Clone, Debug)]
pub struct Enqueue {
    /// The slot everything is in.
    pub slot: u32,
    /// What each source brings. A refused source is taken out, the rest is applied.
    pub sources: Vec<SourceRange>,
}

/// Positions (`prev`, `last`] of a source: everything of them that concerns the slot.
#[derive(Clone, Debug)]
pub struct SourceRange {
    /// Name of the source.
    pub source: std::sync::Arc<str>,
    /// Position up to which the caller believes the slot has it.
    pub prev: u64,
    /// Position up to which the slot has it afterwards.
    pub last: u64,
    /// Incarnation of the store when the caller began. Where it is the one that the store began empty with, a slot that knows
    /// nothing of the source begins at `prev`; anywhere else such a slot has watermark 0.
    pub incarnation: u64,
    /// What devices are owed, in order.
    pub items: Vec<(DeviceId, Bytes)>,
}

/// Fate of one source of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceOutcome {
    /// Stored; one entry an item, in order.
    Applied(Vec<Stored>),
    /// The slot has it already up to this watermark.
    Duplicate(u64),
    /// The slot lacks what is before `prev`; go on from this watermark.
    Gap(u64),
}

/// Where an item was stored, and where its device was at that instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Queue epoch.
    pub epoch: u64,
    /// Position in the device's queue.
    pub dseq: u64,
    /// Route in force at that instant.
    pub route: Option<Route>,
}

/// One item of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Position.
    pub dseq: u64,
    /// An encoded envelope.
    pub payload: Bytes,
}

/// State of a device's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueueState {
    /// Queue epoch; 0: the queue does not exist yet.
    pub epoch: u64,
    /// Epoch of the last content loss; a cursor of an older epoch is a `gap`.
    pub floor: u64,
    /// Lowest position still stored; `top + 1` when empty.
    pub base: u64,
    /// Highest position ever given out in this epoch.
    pub top: u64,
}

/// A page of a queue with the state it was read in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePage {
    /// State of the queue at that instant.
    pub state: QueueState,
    /// Items above the asked position, in order.
    pub items: Vec<QueueItem>,
}

/// The relay queues of all devices.
#[async_trait]
pub trait RelayQueue: Send + Sync {
    /// Stores items and advances watermarks, atomically a call. Outcomes come in the order of `sources`.
    async fn enqueue(&self, call: Enqueue) -> Result<Vec<SourceOutcome>, PortError>;

    /// Deletes everything up to each position; another epoch than the queue's is ignored.
    async fn trim(&self, acks: &[(DeviceId, u64, u64)]) -> Result<(), PortError>;

    /// Up to `limit` items above `after`, for each device. A missing queue is created, so that its numbering is fixed from then on.
    async fn read(&self, pages: &[(DeviceId, u64, u32)]) -> Result<Vec<QueuePage>, PortError>;

    /// State of queues, for the observer; a missing queue has epoch 0.
    async fn states(&self, devices: &[DeviceId]) -> Result<Vec<QueueState>, PortError>;

    /// Watermark of each source in each slot that knows it: (source, slot, watermark).
    async fn watermarks(&self) -> Result<Vec<(std::sync::Arc<str>, u32, u64)>, PortError>;

    /// Incarnation of the store: changes when it restarted or was wiped.
    async fn incarnation(&self) -> Result<u64, PortError>;
}
