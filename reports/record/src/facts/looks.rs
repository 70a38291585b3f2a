//! What was seen when somebody looked: through the control door, at the process, at partitions that did not answer.
use std::collections::BTreeMap;

use chat_protocol::ConvId;
use serde::{Deserialize, Serialize};

use crate::ledger::number::Device;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSeen {
    /// Node.
    pub node: String,
    /// Node epoch.
    pub node_epoch: u64,
    /// Connection epoch.
    pub conn_epoch: u64,
}

/// A change of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteFact {
    /// Whose.
    pub device: Device,
    /// The new route, `None` when it was removed.
    pub route: Option<RouteSeen>,
    /// When it changed in the registry.
    pub at_ns: u64,
}

/// A node lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSeen {
    /// Node.
    pub node: String,
    /// Node epoch.
    pub epoch: u64,
    /// Milliseconds left; negative: ended so long ago.
    pub left_ms: i64,
}

/// Node leases at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseList {
    /// When.
    pub at_ns: u64,
    /// All of them.
    pub leases: Vec<LeaseSeen>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSeen {
    /// Name.
    pub node: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Node epoch.
    pub epoch: u64,
    /// `running`, `paused`, `draining`, `vanished`, `stopped`.
    pub state: String,
    /// Open client connections.
    pub connections: u64,
}

/// Nodes at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// When.
    pub at_ns: u64,
    /// All of them, sorted by name.
    pub nodes: Vec<NodeSeen>,
}

/// A gauge with its declared limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeSeen {
    /// Dotted name.
    pub name: String,
    /// Highest value since the last look.
    pub value: u64,
    /// Declared limit.
    pub limit: u64,
}

/// Gauges at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeList {
    /// When.
    pub at_ns: u64,
    /// All of them.
    pub gauges: Vec<GaugeSeen>,
}

/// A gauge over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeMax {
    /// Highest value.
    pub value: u64,
    /// When.
    pub at_ns: u64,
    /// Declared limit.
    pub limit: u64,
}

/// Counters at one instant, since the start of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterList {
    /// When.
    pub at_ns: u64,
    /// By dotted name.
    pub counters: BTreeMap<String, u64>,
}

/// How far a group is behind in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSeen {
    /// Group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Records not yet processed.
    pub behind: u64,
    /// Age of the oldest of them, milliseconds.
    pub oldest_ms: u64,
}

/// Lags at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagList {
    /// When.
    pub at_ns: u64,
    /// Those that are behind.
    pub lags: Vec<LagSeen>,
}

/// A digest of a fold at an offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldSeen {
    /// Group.
    pub group: String,
    /// Node that holds it.
    pub node: String,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// Digest of the verdicts up to it.
    pub digest: u64,
}

/// Digests of folds; each (group, node, partition, offset) need be noted once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldList {
    /// When.
    pub at_ns: u64,
    /// Digests.
    pub folds: Vec<FoldSeen>,
}

/// A relay queue that holds something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSeen {
    /// Whose.
    pub device: Device,
    /// Items.
    pub items: u64,
    /// Age of the oldest, milliseconds.
    pub oldest_ms: u64,
}

/// Relay queues at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueList {
    /// When.
    pub at_ns: u64,
    /// Whether this is the look after the drain.
    pub last: bool,
    /// Queues looked at.
    pub looked: u64,
    /// Those that hold something.
    pub queues: Vec<QueueSeen>,
}

/// A conversation in history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestSeen {
    /// Conversation.
    pub conv: ConvId,
    /// Rows.
    pub rows: u64,
    /// Highest `cseq`.
    pub top: u64,
    /// Sum of the hashes of the rows.
    pub digest: u64,
}

/// Conversations in history, after the drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestList {
    /// When.
    pub at_ns: u64,
    /// Conversations; several facts add up.
    pub digests: Vec<DigestSeen>,
}

/// CPU time of threads at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuList {
    /// When.
    pub at_ns: u64,
    /// Nanoseconds so far, by thread name; threads of one name are added up.
    pub threads: BTreeMap<String, u64>,
}

/// Memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFact {
    /// When.
    pub at_ns: u64,
    /// Resident bytes.
    pub resident: u64,
}

/// Who used the cores that this process may run on, from the start of the host or of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFact {
    /// When.
    pub at_ns: u64,
    /// Cores that the process may run on.
    pub cores: u32,
    /// Time in which these cores were not idle, nanoseconds; time that a hypervisor gave to others included.
    pub busy_ns: u64,
    /// CPU time of the process, and of the system's containers, nanoseconds.
    pub own_ns: u64,
}

/// The longest time a partition had sends of connected devices waiting and answered none, over one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptGap {
    /// Window (ordinal).
    pub window: u16,
    /// Partition.
    pub partition: u32,
    /// Nanoseconds.
    pub gap_ns: u64,
}

/// An observer could not look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserverLost {
    /// Which: `routes`, `events`, `counters`, `load`, `process`.
    pub observer: String,
    /// Why.
    pub why: String,
    /// When.
    pub at_ns: u64,
}

impl ObserverLost {
    /// The name of the load generator among the observers: who sends also sees.
    pub const LOAD: &'static str = "load";
    /// A thread of the process panicked: what runs in it, system and observers, cannot be trusted.
    pub const PROCESS: &'static str = "process";
}
