//! What can be seen of a system.
use std::net::SocketAddr;

use chat_protocol::{ConvId, DeviceId, Mid};
use serde::{Deserialize, Serialize};

/// State of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Serves.
    Running,
    /// Executes nothing; its sockets are open.
    Paused,
    /// Sends its devices away.
    Draining,
    /// Vanished: executes nothing, its sockets are open, it will not go on.
    Vanished,
    /// Ended.
    Stopped,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Name, for example `gateway-1`.
    pub name: String,
    /// Roles it hosts; a balancer has the role `balancer`.
    pub roles: Vec<String>,
    /// Address clients or nodes reach it at.
    pub addr: SocketAddr,
    /// Node epoch of the present or last incarnation.
    pub epoch: u64,
    /// State.
    pub state: NodeState,
    /// Open client connections, for a gateway that runs.
    pub connections: u64,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerInfo {
    /// Number, from 1.
    pub id: u32,
    /// Whether it runs.
    pub up: bool,
    /// Partitions it leads, as `topic/partition`.
    pub leads: Vec<String>,
    /// Partitions in whose ISR it is.
    pub in_sync: usize,
    /// Partitions it has a replica of.
    pub replicas: usize,
    /// Bytes appended to partitions it led, since the start.
    pub bytes_led: u64,
    /// Sum of the leader epochs of all partitions: rises with every election.
    pub leader_epochs: u64,
    /// Longest append it led during the last second, in microseconds; 0 without one.
    pub append_us: u64,
}

/// One change of a route, or a present route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteChange {
    /// Whose.
    pub device: DeviceId,
    /// The new route, or `None` when it was removed.
    pub route: Option<RouteView>,
    /// When, on the system's wall clock.
    pub at_ms: u64,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Node.
    pub node: String,
    /// Node epoch.
    pub node_epoch: u64,
    /// Connection epoch.
    pub conn_epoch: u64,
}

/// A node lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// Node.
    pub node: String,
    /// Node epoch.
    pub epoch: u64,
    /// Milliseconds left; negative: ended so long ago.
    pub left_ms: i64,
}

/// A relay queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Whose.
    pub device: DeviceId,
    /// Queue epoch, 0 when there is none.
    pub epoch: u64,
    /// Epoch of the last content loss.
    pub floor: u64,
    /// Lowest stored position, `top + 1` when empty.
    pub base: u64,
    /// Highest position given out.
    pub top: u64,
    /// Milliseconds the oldest item has waited; 0 when empty.
    pub oldest_ms: u64,
}

/// Summary of a conversation in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvDigest {
    /// Conversation.
    pub conv: ConvId,
    /// Rows.
    pub rows: u64,
    /// Highest `cseq`.
    pub top: u64,
    /// Sum of `message_hash` over the rows.
    pub digest: u64,
}

/// One row of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Order.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Idempotency key.
    pub cid: chat_protocol::Cid,
}

/// The fold of a partition in one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldView {
    /// Group: `sequencer` or `history-writer`.
    pub group: String,
    /// Node that holds it.
    pub node: String,
    /// Partition of `chat.messages`.
    pub partition: u32,
    /// Offset of the record that comes next.
    pub next_offset: u64,
    /// Remembered `cid`s.
    pub remembered: u64,
    /// (offset, digest) of the newest checkpoints; two folds that differ at one offset convict.
    pub checkpoints: Vec<(u64, u64)>,
}

/// How far a group is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLag {
    /// Group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Committed position.
    pub position: u64,
    /// Offset after the newest replicated record.
    pub end: u64,
    /// Milliseconds since the oldest record above the position was appended; 0 when there is none.
    pub oldest_ms: u64,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterReading {
    /// Dotted name, for example `port.registry.register.calls`.
    pub name: String,
    /// Value since the start of the system.
    pub value: u64,
}

/// A gauge with its declared limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeReading {
    /// Dotted name, for example `gateway-1.outbound_bytes_max`.
    pub name: String,
    /// Highest value since the last reading.
    pub value: u64,
    /// Declared limit.
    pub limit: u64,
}

/// Something that happened inside the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemEvent {
    /// On the system's wall clock.
    pub at_ms: u64,
    /// Node it happened on, empty for a backend.
    pub node: String,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A client connection was closed by the server.
    ConnectionClosed {
        /// Device.
        device: DeviceId,
        /// Connection epoch.
        conn_epoch: u64,
        /// Close code; 1006 when the peer's socket died.
        code: u16,
        /// Milliseconds since the last frame from the device.
        silent_ms: u64,
    },
    /// A gateway stopped serving because it could not keep its lease.
    Fenced,
    /// A route was swept.
    RouteSwept {
        /// Device.
        device: DeviceId,
    },
    /// The floor of a device's queue was raised: content was lost, announced as `gap`.
    FloorRaised {
        /// Device.
        device: DeviceId,
    },
    /// A partition got another leader.
    LeaderElected {
        /// `topic/partition`.
        partition: String,
        /// Broker.
        broker: u32,
    },
    /// A member got a partition.
    PartitionAssigned {
        /// Group.
        group: String,
        /// Partition.
        partition: u32,
    },
    /// A partition cannot go on without a person.
    PartitionStopped {
        /// Group.
        group: String,
        /// Partition.
        partition: u32,
        /// Why.
        why: String,
    },
    /// Older events were dropped before they were read.
    EventsLost,
}

/// CPU time of a thread, or of a container as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadCpu {
    /// Thread name; its prefix tells the group.
    pub thread: String,
    /// CPU time so far, nanoseconds.
    pub cpu_ns: u64,
    /// A container of the system: its time is not part of this process's.
    #[serde(default)]
    pub apart: bool,
}
