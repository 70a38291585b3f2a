//! Node leases, claims of sweepers, and which devices are routed to a node.
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_control::inspect::LeaseView;
use chat_ports::registry::{NodeKey, NodeLease, Role};
use chat_protocol::DeviceId;

use super::state::Now;

#[derive(Debug)]
struct Node {
    addr: SocketAddr,
    roles: Vec<Role>,
    /// End of the lease.
    ends: Duration,
    /// End of the newest sweeper's claim.
    claimed: Option<Duration>,
    /// Devices whose route points here.
    devices: BTreeSet<DeviceId>,
}

/// All nodes that were not swept.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<NodeKey, Node>,
    epochs: BTreeMap<Arc<str>, u64>,
}

impl Nodes {
    pub(super) fn join(
        &mut self,
        now: Now,
        name: &str,
        addr: SocketAddr,
        roles: Vec<Role>,
        ttl: Duration,
    ) -> u64 {
        let name: Arc<str> = Arc::from(name);
        let epoch =
            self.epochs.get(&name).map_or(now.wall_ms, |previous| now.wall_ms.max(previous + 1));
        self.epochs.insert(Arc::clone(&name), epoch);
        // The name is taken over: whatever had it before is dead from now on.
        for (_, node) in self.nodes.iter_mut().filter(|(key, _)| key.name == name) {
            node.ends = node.ends.min(now.at);
        }
        let node =
            Node { addr, roles, ends: now.at + ttl, claimed: None, devices: BTreeSet::new() };
        self.nodes.insert(NodeKey { name, epoch }, node);
        epoch
    }

    pub(super) fn renew(&mut self, now: Duration, key: &NodeKey, ttl: Duration) -> bool {
        let newest = self.epochs.get(&key.name) == Some(&key.epoch);
        // A claimed node may have lost routes already, so it cannot come back.
        let Some(node) = self.nodes.get_mut(key).filter(|n| newest && n.claimed.is_none()) else {
            return false;
        };
        node.ends = now + ttl;
        true
    }

    pub(super) fn leave(&mut self, now: Duration, key: &NodeKey) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.ends = node.ends.min(now);
        }
    }

    pub(super) fn list(&self, now: Duration) -> Vec<NodeLease> {
        let lease = |(key, node): (&NodeKey, &Node)| NodeLease {
            key: key.clone(),
            addr: node.addr,
            roles: node.roles.clone(),
            left: node.ends.checked_sub(now).filter(|left| !left.is_zero()),
        };
        self.nodes.iter().map(lease).collect()
    }

    pub(super) fn views(&self, now: Duration) -> Vec<LeaseView> {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let view = |(key, node): (&NodeKey, &Node)| LeaseView {
            node: key.name.to_string(),
            epoch: key.epoch,
            left_ms: ms(node.ends) - ms(now),
        };
        self.nodes.iter().map(view).collect()
    }

    pub(super) fn claim_dead(&mut self, now: Duration, claim: Duration) -> Option<NodeKey> {
        let free = |node: &Node| node.ends <= now && node.claimed.is_none_or(|until| until <= now);
        let (key, node) = self
            .nodes
            .iter_mut()
            .filter(|(_, n)| free(n))
            .min_by_key(|(_, n)| (n.claimed, n.ends))?;
        node.claimed = Some(now + claim);
        Some(key.clone())
    }

    pub(super) fn forget(&mut self, now: Duration, key: &NodeKey) -> bool {
        match self.nodes.get(key) {
            None => true,
            Some(node) if node.ends <= now && node.devices.is_empty() => {
                self.nodes.remove(key);
                true
            }
            Some(_) => false,
        }
    }

    pub(super) fn knows(&self, key: &NodeKey) -> bool {
        self.nodes.contains_key(key)
    }

    pub(super) fn attach(&mut self, key: &NodeKey, device: DeviceId) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.devices.insert(device);
        }
    }

    pub(super) fn detach(&mut self, key: &NodeKey, device: DeviceId) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.devices.remove(&device);
        }
    }

    /// Devices routed to a node, at most `limit`, ascending.
    pub(super) fn devices(&self, key: &NodeKey, limit: usize) -> Vec<DeviceId> {
        self.nodes
            .get(key)
            .map_or_else(Vec::new, |n| n.devices.iter().take(limit).copied().collect())
    }
}
