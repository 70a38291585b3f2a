//! What history needs of its node.
use std::sync::Arc;

use chat_ports::blobs::Blobs;
use chat_ports::clock::SharedClock;
use chat_ports::consumer::{FoldViews, MidRule};
use chat_ports::history::History;
use chat_ports::log::EventLog;
use chat_ports::nodes::NodeView;
use chat_ports::observe::Observer;
use chat_protocol::limits::Timers;

/// What the service needs. Ports are already guarded.
pub struct Deps {
    /// This node.
    pub view: NodeView,
    /// The log as the group `history-writer` reads it.
    pub log: Arc<dyn EventLog>,
    /// Conversations.
    pub history: Arc<dyn History>,
    /// Fold snapshots; this service only reads them.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: SharedClock,
    /// Timers of the system.
    pub timers: Timers,
    /// Counters and events, attributed to this node.
    pub observer: Observer,
    /// Where the writer shows its folds.
    pub folds: FoldViews,
    /// Where `mid`s come from.
    pub mids: MidRule,
}
