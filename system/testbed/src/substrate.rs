//! What a system stands on: the operator's side of its backends, and the ports of a node.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_control::inspect::{BrokerInfo, GroupLag, LeaseView, QueueView, RouteChange, ThreadCpu};
use chat_embedded::NodePorts;
use chat_ports::PortError;
use chat_ports::history::History;
use chat_ports::log::EventLog;
use chat_protocol::DeviceId;

/// A node's ports, guarded, and the log as each consumer group of the node reads it.
pub(crate) struct Ports {
    pub(crate) node: NodePorts,
    pub(crate) sequencer_log: Arc<dyn EventLog>,
    pub(crate) receipts_log: Arc<dyn EventLog>,
    pub(crate) history_log: Arc<dyn EventLog>,
}

/// The backends of one system.
#[async_trait]
pub(crate) trait Substrate: Send + Sync {
    /// See `Control::port_rule`.
    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<(), PortError>;

    /// History, as no node's port conditions it.
    fn history(&self) -> Arc<dyn History>;

    /// All brokers of the log.
    async fn brokers(&self) -> Result<Vec<BrokerInfo>, PortError>;

    /// See `Control::broker_kill`.
    async fn broker_kill(&self, broker: u32) -> Result<(), PortError>;

    /// See `Control::broker_start`.
    async fn broker_start(&self, broker: u32) -> Result<(), PortError>;

    /// See `Control::broker_slow`.
    async fn broker_slow(&self, broker: u32, delay: Duration) -> Result<(), PortError>;

    /// See `Control::store_wipe`.
    async fn store_wipe(&self) -> Result<(), PortError>;

    /// See `Control::history_stop`.
    async fn history_stop(&self) -> Result<(), PortError>;

    /// See `Control::history_start`.
    async fn history_start(&self) -> Result<(), PortError>;

    /// How far every group is behind.
    async fn lags(&self) -> Result<Vec<GroupLag>, PortError>;

    /// Changes of routes since a cursor, and the next cursor.
    async fn routes_since(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64), PortError>;

    /// All node leases, ended ones included.
    async fn leases(&self) -> Result<Vec<LeaseView>, PortError>;

    /// Queues of devices, in order.
    async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>, PortError>;

    /// CPU time of backends that are not in this process; their names begin with `chat-`, as the threads of those that are. What stands
    /// between nodes and backends is the harness's: its names begin with `storm-`.
    async fn cpu(&self) -> Vec<ThreadCpu> {
        Vec::new()
    }

    /// What the servers of real backends say of their version, by name.
    fn servers(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Ends the backends; what they say later is refused.
    async fn stop(&self);
}
