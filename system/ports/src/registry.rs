//! Node leases and routes: who is alive, and which node serves a device.
//!
//! Death is the end of a lease. Every delete compares the whole value, because a late close of an old connection must
//! never remove the route of a newer one (Signal-Server `8c7975d8`).
//!
//! A store that restarted may lack its newest writes; none is there without those before it. One that was wiped knows nobody: no
//! lease can be renewed and no device registered before its node joins again, under epochs that are higher than all before.
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::DeviceId;

use crate::PortError;

/// A role is a service; a node hosts one or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sockets, heartbeats, REST.
    Gateway,
    /// Routes and the sweeper.
    Sessions,
    /// Intake, sequencer, receipts.
    Messaging,
    /// Relay queues.
    Relay,
    /// Queued writer and paging.
    History,
}

impl Role {
    /// The roles a service node may host.
    pub const SERVICES: [Self; 4] = [Self::Sessions, Self::Messaging, Self::Relay, Self::History];

    /// Name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Sessions => "sessions",
            Self::Messaging => "messaging",
            Self::Relay => "relay",
            Self::History => "history",
        }
    }
}

/// One incarnation of a node: its name and node epoch. The epoch rises at every start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey {
    /// Name, for example `gateway-1`.
    pub name: std::sync::Arc<str>,
    /// Node epoch.
    pub epoch: u64,
}

/// A node as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLease {
    /// Which incarnation.
    pub key: NodeKey,
    /// Where others reach it.
    pub addr: SocketAddr,
    /// What it hosts.
    pub roles: Vec<Role>,
    /// Time left of the lease; `None` when it has ended and the node was not swept yet.
    pub left: Option<Duration>,
}

/// Where a device is: valid only while the lease of exactly this node incarnation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Node that serves the device.
    pub node: NodeKey,
    /// Incarnation of the device's connection: rises with every registration of the device.
    pub conn_epoch: u64,
    /// The node's own id of the connection.
    pub conn: u64,
}

/// A changed route, for the observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Whose.
    pub device: DeviceId,
    /// Where.
    pub route: Route,
}

/// Answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The new connection epoch.
    pub conn_epoch: u64,
    /// The route that was displaced, if there was one.
    pub previous: Option<Route>,
}

/// The registry of nodes and routes.
#[async_trait]
pub trait SessionRegistry: Send + Sync {
    /// Starts a new incarnation of a node with a lease of `ttl`; answers its epoch: `max(previous + 1, registry clock in ms)`.
    async fn join(
        &self,
        name: &str,
        addr: SocketAddr,
        roles: &[Role],
        ttl: Duration,
    ) -> Result<u64, PortError>;

    /// Prolongs the lease to `ttl` from now. `false`: the lease has been swept or taken, the node must stop serving.
    async fn renew(&self, node: &NodeKey, ttl: Duration) -> Result<bool, PortError>;

    /// Gives the lease back. Routes that still point there are left to the sweeper.
    async fn leave(&self, node: &NodeKey) -> Result<(), PortError>;

    /// All nodes that were not swept, ended leases included.
    async fn nodes(&self) -> Result<Vec<NodeLease>, PortError>;

    /// Sets the route of each device to (`node`, `conn`) under a new connection epoch; answers in the same order.
    async fn register(
        &self,
        node: &NodeKey,
        devices: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError>;

    /// Deletes each route if, and only if, it still is exactly this one. Answers which were deleted.
    async fn unregister(&self, routes: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError>;

    /// The present routes of devices, whatever the state of their node.
    async fn routes(&self, devices: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError>;

    /// Routes that point to a node incarnation, at most `limit`.
    async fn routes_of(&self, node: &NodeKey, limit: usize) -> Result<Vec<RouteEntry>, PortError>;

    /// Claims a node whose lease has ended for sweeping, for `claim`; `None` when there is none unclaimed. Heard by the store later than
    /// the limit of a call it claims nobody: where calls are held up, renewals are too.
    async fn claim_dead(
        &self,
        sweeper: &str,
        claim: Duration,
    ) -> Result<Option<NodeKey>, PortError>;

    /// Forgets a swept node: only when no route points to it any more and its lease has ended. Answers whether it is gone.
    async fn forget(&self, node: &NodeKey) -> Result<bool, PortError>;
}
