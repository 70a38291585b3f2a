//! What happened inside the system, as it says itself.
use serde::{Deserialize, Serialize};

use crate::ledger::number::Device;

/// Something that happened inside the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemFact {
    /// When, converted from the system's wall clock.
    pub at_ns: u64,
    /// Node, empty for a backend.
    pub node: String,
    /// What.
    pub what: SystemWhat,
}

/// What happened inside the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemWhat {
    /// The server closed a client connection.
    ConnectionClosed {
        /// Device.
        device: Device,
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
    RouteSwept(Device),
    /// The floor of a queue was raised: content was lost, announced as `gap`.
    FloorRaised(Device),
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
