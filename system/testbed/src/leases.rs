//! A registry whose leases never end for those who ask: the policy behind routes that outlive their node.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_ports::PortError;
use chat_ports::registry::{
    NodeKey, NodeLease, Registered, Role, Route, RouteEntry, SessionRegistry,
};
use chat_protocol::DeviceId;
use chat_sessions::LeaseRule;

use crate::substrate::Ports;

impl Ports {
    /// The same ports with the leases that a policy asks for.
    pub(crate) fn under(mut self, leases: LeaseRule) -> Self {
        if leases == LeaseRule::Ignored {
            self.node.registry = Arc::new(EndlessLeases(self.node.registry));
        }
        self
    }
}

/// Shows every lease as running and no node as dead.
struct EndlessLeases(Arc<dyn SessionRegistry>);

/// What an endless lease shows as the time left.
const LEFT: Duration = Duration::from_secs(1);

#[async_trait]
impl SessionRegistry for EndlessLeases {
    async fn join(
        &self,
        name: &str,
        addr: SocketAddr,
        roles: &[Role],
        ttl: Duration,
    ) -> Result<u64, PortError> {
        self.0.join(name, addr, roles, ttl).await
    }

    async fn renew(&self, node: &NodeKey, ttl: Duration) -> Result<bool, PortError> {
        self.0.renew(node, ttl).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<(), PortError> {
        self.0.leave(node).await
    }

    async fn nodes(&self) -> Result<Vec<NodeLease>, PortError> {
        let mut nodes = self.0.nodes().await?;
        for node in &mut nodes {
            node.left = node.left.or(Some(LEFT));
        }
        Ok(nodes)
    }

    async fn register(
        &self,
        node: &NodeKey,
        devices: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError> {
        self.0.register(node, devices).await
    }

    async fn unregister(&self, routes: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
        self.0.unregister(routes).await
    }

    async fn routes(&self, devices: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError> {
        self.0.routes(devices).await
    }

    async fn routes_of(&self, node: &NodeKey, limit: usize) -> Result<Vec<RouteEntry>, PortError> {
        self.0.routes_of(node, limit).await
    }

    async fn claim_dead(&self, _: &str, _: Duration) -> Result<Option<NodeKey>, PortError> {
        Ok(None)
    }

    async fn forget(&self, node: &NodeKey) -> Result<bool, PortError> {
        self.0.forget(node).await
    }
}
