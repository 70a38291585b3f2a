//! The guard in front of the registry and the relay queues.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_ports::PortError;
use chat_ports::registry::{
    NodeKey, NodeLease, Registered, Role, Route, RouteEntry, SessionRegistry,
};
use chat_ports::relay_queue::{Enqueue, QueuePage, QueueState, RelayQueue, SourceOutcome};
use chat_protocol::DeviceId;

use super::guarded::{Guarded, Port};

impl Port for dyn SessionRegistry {
    const NAME: &'static str = "registry";
    const OPS: &'static [&'static str] = &[
        "join",
        "renew",
        "leave",
        "nodes",
        "register",
        "unregister",
        "routes",
        "routes_of",
        "claim_dead",
        "forget",
    ];
}

#[async_trait]
impl SessionRegistry for Guarded<dyn SessionRegistry> {
    async fn join(
        &self,
        name: &str,
        addr: SocketAddr,
        roles: &[Role],
        ttl: Duration,
    ) -> Result<u64, PortError> {
        self.call(0, self.inner.join(name, addr, roles, ttl)).await
    }

    async fn renew(&self, node: &NodeKey, ttl: Duration) -> Result<bool, PortError> {
        self.call(1, self.inner.renew(node, ttl)).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<(), PortError> {
        self.call(2, self.inner.leave(node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeLease>, PortError> {
        self.call(3, self.inner.nodes()).await
    }

    async fn register(
        &self,
        node: &NodeKey,
        devices: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError> {
        self.call(4, self.inner.register(node, devices)).await
    }

    async fn unregister(&self, routes: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
        self.call(5, self.inner.unregister(routes)).await
    }

    async fn routes(&self, devices: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError> {
        self.call(6, self.inner.routes(devices)).await
    }

    async fn routes_of(&self, node: &NodeKey, limit: usize) -> Result<Vec<RouteEntry>, PortError> {
        self.call(7, self.inner.routes_of(node, limit)).await
    }

    async fn claim_dead(
        &self,
        sweeper: &str,
        claim: Duration,
    ) -> Result<Option<NodeKey>, PortError> {
        self.call(8, self.inner.claim_dead(sweeper, claim)).await
    }

    async fn forget(&self, node: &NodeKey) -> Result<bool, PortError> {
        self.call(9, self.inner.forget(node)).await
    }
}

impl Port for dyn RelayQueue {
    const NAME: &'static str = "relay_queue";
    const OPS: &'static [&'static str] =
        &["enqueue", "trim", "read", "states", "watermarks", "incarnation"];
}

#[async_trait]
impl RelayQueue for Guarded<dyn RelayQueue> {
    async fn enqueue(&self, call: Enqueue) -> Result<Vec<SourceOutcome>, PortError> {
        self.passed(
            call.sources.iter().flat_map(|s| &s.items).map(|(_, payload)| payload.len()).sum(),
        );
        self.call(0, self.inner.enqueue(call)).await
    }

    async fn trim(&self, acks: &[(DeviceId, u64, u64)]) -> Result<(), PortError> {
        self.call(1, self.inner.trim(acks)).await
    }

    async fn read(&self, pages: &[(DeviceId, u64, u32)]) -> Result<Vec<QueuePage>, PortError> {
        let read = self.call(2, self.inner.read(pages)).await;
        if let Ok(pages) = &read {
            self.passed(pages.iter().flat_map(|p| &p.items).map(|i| i.payload.len()).sum());
        }
        read
    }

    async fn states(&self, devices: &[DeviceId]) -> Result<Vec<QueueState>, PortError> {
        self.call(3, self.inner.states(devices)).await
    }

    async fn watermarks(&self) -> Result<Vec<(Arc<str>, u32, u64)>, PortError> {
        self.call(4, self.inner.watermarks()).await
    }

    async fn incarnation(&self) -> Result<u64, PortError> {
        self.call(5, self.inner.incarnation()).await
    }
}
