//! What messaging needs of its node, and the policies it can be given.
use std::sync::Arc;

use chat_ports::blobs::Blobs;
use chat_ports::clock::SharedClock;
use chat_ports::consumer::{FoldViews, MidRule};
use chat_ports::log::EventLog;
use chat_ports::nodes::NodeView;
use chat_ports::observe::Observer;
use chat_ports::relay_queue::RelayQueue;
use chat_ports::tables::Tables;
use chat_protocol::limits::Timers;

/// What the service needs. Ports are already guarded.
pub struct Deps {
    /// This node and the live node table.
    pub view: NodeView,
    /// The log as the intake appends to it.
    pub log: Arc<dyn EventLog>,
    /// The log as the group `sequencer` reads it.
    pub sequencer_log: Arc<dyn EventLog>,
    /// The log as the group `receipts` reads it.
    pub receipts_log: Arc<dyn EventLog>,
    /// Directory of users and devices.
    pub tables: Arc<dyn Tables>,
    /// Fold snapshots.
    pub blobs: Arc<dyn Blobs>,
    /// Watermarks of the slots; nothing is enqueued through it.
    pub queue: Arc<dyn RelayQueue>,
    /// Time.
    pub clock: SharedClock,
    /// Timers of the system.
    pub timers: Timers,
    /// Counters and events, attributed to this node.
    pub observer: Observer,
    /// Where the sequencer shows its folds.
    pub folds: FoldViews,
    /// Partitions of the log's topics.
    pub partitions: u32,
    /// How it behaves.
    pub policies: Policies,
}

/// When the sender is told that a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AnswerPoint {
    /// After the fold has accepted the record that the log has.
    #[default]
    AfterFold,
    /// When the intake receives the send, before it is appended.
    BeforeAppend,
}

/// With which state a new owner of a partition starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StartRule {
    /// With the newest usable snapshot, folded up to where effects begin.
    #[default]
    FromSnapshot,
    /// With nothing, at the committed position.
    Empty,
}

/// How the service behaves where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policies {
    /// When the sender is told that a message is sent.
    pub answer: AnswerPoint,
    /// With which state a new owner of a partition starts.
    pub start: StartRule,
    /// Where `mid`s come from.
    pub mids: MidRule,
}
