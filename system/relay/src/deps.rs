//! What relay needs of its node, and the policy it can be given.
use std::sync::Arc;

use chat_ports::log::EventLog;
use chat_ports::nodes::NodeView;
use chat_ports::observe::Observer;
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;
use chat_protocol::limits::Timers;

/// What the service needs. Ports are already guarded.
pub struct Deps {
    /// This node and the live node table.
    pub view: NodeView,
    /// The queues.
    pub queue: Arc<dyn RelayQueue>,
    /// Routes, read before storing under [`DeliveryRule::PushFirst`] only.
    pub registry: Arc<dyn SessionRegistry>,
    /// The log, for receipts.
    pub log: Arc<dyn EventLog>,
    /// Timers of the system.
    pub timers: Timers,
    /// Counters and events, attributed to this node.
    pub observer: Observer,
    /// Partitions of the log's topics.
    pub partitions: u32,
    /// What comes first, the store or the socket.
    pub delivery: DeliveryRule,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeliveryRule {
    /// Everything is stored before it is pushed.
    #[default]
    StoreFirst,
    /// What has a live route is pushed; only the rest is stored.
    PushFirst,
}
