//! A registry in memory, without tasks: leases end when a story says so.
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chat_ports::PortError;
use chat_ports::registry::{
    NodeKey, NodeLease, Registered, Role, Route, RouteEntry, SessionRegistry,
};
use chat_protocol::DeviceId;

use crate::service::lock;

#[derive(Default)]
pub(super) struct Twin {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    out: bool,
    hangs: bool,
    conn_epoch: u64,
    routes: BTreeMap<DeviceId, Route>,
    dead: BTreeSet<NodeKey>,
    claimed: BTreeSet<NodeKey>,
    forgotten: BTreeSet<NodeKey>,
}

impl Twin {
    /// Calls fail from now on, or not any more.
    pub(super) fn set_out(&self, out: bool) {
        lock(&self.state).out = out;
    }

    /// Registrations never end.
    pub(super) fn hang(&self) {
        lock(&self.state).hangs = true;
    }

    pub(super) fn put(&self, device: DeviceId, node: &NodeKey, conn: u64) -> Route {
        let mut state = lock(&self.state);
        state.conn_epoch += 1;
        let route = Route { node: node.clone(), conn_epoch: state.conn_epoch, conn };
        state.routes.insert(device, route.clone());
        route
    }

    pub(super) fn route(&self, device: DeviceId) -> Option<Route> {
        lock(&self.state).routes.get(&device).cloned()
    }

    pub(super) fn die(&self, node: &NodeKey) {
        lock(&self.state).dead.insert(node.clone());
    }

    pub(super) fn is_forgotten(&self, node: &NodeKey) -> bool {
        lock(&self.state).forgotten.contains(node)
    }

    fn call<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, PortError> {
        let mut state = lock(&self.state);
        if state.out { Err(PortError::Unknown("out".into())) } else { Ok(act(&mut state)) }
    }
}

#[async_trait]
impl SessionRegistry for Twin {
    async fn join(
        &self,
        _: &str,
        _: SocketAddr,
        _: &[Role],
        _: Duration,
    ) -> Result<u64, PortError> {
        self.call(|_| 1)
    }

    async fn renew(&self, _: &NodeKey, _: Duration) -> Result<bool, PortError> {
        self.call(|_| true)
    }

    async fn leave(&self, _: &NodeKey) -> Result<(), PortError> {
        self.call(|_| ())
    }

    async fn nodes(&self) -> Result<Vec<NodeLease>, PortError> {
        self.call(|_| Vec::new())
    }

    async fn register(
        &self,
        node: &NodeKey,
        devices: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError> {
        if lock(&self.state).hangs {
            std::future::pending::<()>().await;
        }
        self.call(|state| {
            let mut answers = Vec::new();
            for (device, conn) in devices {
                state.conn_epoch += 1;
                let route = Route { node: node.clone(), conn_epoch: state.conn_epoch, conn: *conn };
                let previous = state.routes.insert(*device, route);
                answers.push(Registered { conn_epoch: state.conn_epoch, previous });
            }
            answers
        })
    }

    async fn unregister(&self, routes: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
        self.call(|state| {
            let delete = |(device, route): &(DeviceId, Route)| {
                let same = state.routes.get(device) == Some(route);
                if same {
                    state.routes.remove(device);
                }
                same
            };
            routes.iter().map(delete).collect()
        })
    }

    async fn routes(&self, devices: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError> {
        self.call(|state| devices.iter().map(|device| state.routes.get(device).cloned()).collect())
    }

    async fn routes_of(&self, node: &NodeKey, limit: usize) -> Result<Vec<RouteEntry>, PortError> {
        self.call(|state| {
            let all = state.routes.iter().filter(|(_, route)| route.node == *node).take(limit);
            all.map(|(device, route)| RouteEntry { device: *device, route: route.clone() })
                .collect()
        })
    }

    async fn claim_dead(&self, _: &str, _: Duration) -> Result<Option<NodeKey>, PortError> {
        self.call(|state| {
            let free = state
                .dead
                .iter()
                .find(|node| !state.claimed.contains(node) && !state.forgotten.contains(node));
            let free = free.cloned();
            state.claimed.extend(free.clone());
            free
        })
    }

    async fn forget(&self, node: &NodeKey) -> Result<bool, PortError> {
        self.call(|state| {
            let empty = !state.routes.values().any(|route| route.node == *node);
            if empty {
                state.forgotten.insert(node.clone());
            }
            empty
        })
    }
}
