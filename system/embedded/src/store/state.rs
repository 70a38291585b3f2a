//! The whole store as a state machine: every call is one atomic step, time comes in as an argument.
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_control::inspect::{LeaseView, QueueView, RouteChange};
use chat_ports::PortError;
use chat_ports::registry::{NodeKey, NodeLease, Registered, Role, Route, RouteEntry};
use chat_ports::relay_queue::{Enqueue, QueuePage, QueueState, SourceOutcome, SourceRange, Stored};
use chat_protocol::DeviceId;

use super::feed::{Feed, view};
use super::nodes::Nodes;
use super::queue::Queue;

/// A moment: since the start of the store, and on the wall.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Since the start of the store.
    pub at: Duration,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// Connection epoch of the newest registration.
    conn_epoch: u64,
    /// When the route last changed, milliseconds since 1970.
    changed_ms: u64,
    route: Option<Route>,
    queue: Option<Queue>,
}

/// Node leases, routes, relay queues and watermarks.
#[derive(Debug)]
pub struct Store {
    incarnation: u64,
    queue_max: usize,
    nodes: Nodes,
    devices: HashMap<DeviceId, Device>,
    watermarks: BTreeMap<u32, BTreeMap<Arc<str>, u64>>,
    feed: Feed,
    raised: Vec<DeviceId>,
    longest: usize,
}

impl Store {
    /// An empty store. A queue holds at most `queue_max` items (one at least).
    pub fn new(now: Now, queue_max: u64) -> Self {
        Self {
            incarnation: now.wall_ms.max(1),
            queue_max: usize::try_from(queue_max).unwrap_or(usize::MAX).max(1),
            nodes: Nodes::default(),
            devices: HashMap::new(),
            watermarks: BTreeMap::new(),
            feed: Feed::default(),
            raised: Vec::new(),
            longest: 0,
        }
    }

    /// Forgets everything at once, as a store that was emptied: node leases and their epochs, routes, queues, watermarks. It goes
    /// on as another incarnation. The operator's feed is no part of the store and shows the routes as removed; the floor of every
    /// queue counts as raised, because its content is lost.
    pub fn wipe(&mut self, now: Now) {
        let mut routed: Vec<_> =
            self.devices.iter().filter(|(_, d)| d.route.is_some()).map(|(id, _)| *id).collect();
        routed.sort_unstable();
        for device in routed {
            self.feed.note(device, None, now.wall_ms);
        }
        let mut queued: Vec<_> =
            self.devices.iter().filter(|(_, d)| d.queue.is_some()).map(|(id, _)| *id).collect();
        queued.sort_unstable();
        self.raised.extend(queued);
        self.incarnation = now.wall_ms.max(self.incarnation + 1);
        self.nodes = Nodes::default();
        self.devices = HashMap::new();
        self.watermarks = BTreeMap::new();
    }

    /// See `SessionRegistry::join`. Takes the name over from an older incarnation, whose lease ends.
    pub fn join(
        &mut self,
        now: Now,
        name: &str,
        addr: SocketAddr,
        roles: Vec<Role>,
        ttl: Duration,
    ) -> u64 {
        self.nodes.join(now, name, addr, roles, ttl)
    }

    /// See `SessionRegistry::renew`.
    pub fn renew(&mut self, now: Now, node: &NodeKey, ttl: Duration) -> bool {
        self.nodes.renew(now.at, node, ttl)
    }

    /// See `SessionRegistry::leave`.
    pub fn leave(&mut self, now: Now, node: &NodeKey) {
        self.nodes.leave(now.at, node);
    }

    /// See `SessionRegistry::nodes`.
    pub fn nodes(&self, now: Now) -> Vec<NodeLease> {
        self.nodes.list(now.at)
    }

    /// See `SessionRegistry::register`. A node that the store does not know is refused: nobody would sweep its routes.
    pub fn register(
        &mut self,
        now: Now,
        node: &NodeKey,
        devices: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError> {
        if !self.nodes.knows(node) {
            return Err(PortError::Refused(format!(
                "there is no node {} of epoch {}",
                node.name, node.epoch
            )));
        }
        let mut answers = Vec::with_capacity(devices.len());
        for (id, conn) in devices {
            let device = self.devices.entry(*id).or_default();
            device.conn_epoch = now.wall_ms.max(device.conn_epoch + 1);
            device.changed_ms = now.wall_ms;
            let route = Route { node: node.clone(), conn_epoch: device.conn_epoch, conn: *conn };
            let previous = device.route.replace(route.clone());
            if let Some(previous) = &previous
                && previous.node != *node
            {
                self.nodes.detach(&previous.node, *id);
            }
            self.nodes.attach(node, *id);
            answers.push(Registered { conn_epoch: route.conn_epoch, previous });
            self.feed.note(*id, Some(route), now.wall_ms);
        }
        Ok(answers)
    }

    /// See `SessionRegistry::unregister`.
    pub fn unregister(&mut self, now: Now, routes: &[(DeviceId, Route)]) -> Vec<bool> {
        let mut answers = Vec::with_capacity(routes.len());
        for (id, route) in routes {
            let same =
                self.devices.get_mut(id).filter(|device| device.route.as_ref() == Some(route));
            answers.push(same.is_some());
            let Some(device) = same else { continue };
            device.route = None;
            device.changed_ms = now.wall_ms;
            self.nodes.detach(&route.node, *id);
            self.feed.note(*id, None, now.wall_ms);
        }
        answers
    }

    /// See `SessionRegistry::routes`.
    pub fn routes(&self, devices: &[DeviceId]) -> Vec<Option<Route>> {
        devices.iter().map(|id| self.devices.get(id).and_then(|d| d.route.clone())).collect()
    }

    /// See `SessionRegistry::routes_of`.
    pub fn routes_of(&self, node: &NodeKey, limit: usize) -> Vec<RouteEntry> {
        let entry = |device: DeviceId| {
            let route = self.devices.get(&device)?.route.clone()?;
            Some(RouteEntry { device, route })
        };
        self.nodes.devices(node, limit).into_iter().filter_map(entry).collect()
    }

    /// See `SessionRegistry::claim_dead`.
    pub fn claim_dead(&mut self, now: Now, claim: Duration) -> Option<NodeKey> {
        self.nodes.claim_dead(now.at, claim)
    }

    /// See `SessionRegistry::forget`.
    pub fn forget(&mut self, now: Now, node: &NodeKey) -> bool {
        self.nodes.forget(now.at, node)
    }

    /// See `RelayQueue::enqueue`.
    pub fn enqueue(&mut self, now: Now, call: Enqueue) -> Result<Vec<SourceOutcome>, PortError> {
        if call.sources.iter().any(|range| range.last < range.prev) {
            return Err(PortError::Refused("a range ends before it starts".to_owned()));
        }
        let slot = call.slot;
        Ok(call.sources.into_iter().map(|range| self.enqueue_source(now, slot, range)).collect())
    }

    fn enqueue_source(&mut self, now: Now, slot: u32, range: SourceRange) -> SourceOutcome {
        let marks = self.watermarks.entry(slot).or_default();
        // It never restarts with what it had, so every incarnation began empty.
        let unknown = if range.incarnation == self.incarnation { range.prev } else { 0 };
        let mark = marks.get(&range.source).copied().unwrap_or(unknown);
        if range.prev < mark {
            return SourceOutcome::Duplicate(mark);
        }
        if range.prev > mark {
            return SourceOutcome::Gap(mark);
        }
        marks.insert(range.source, range.last);
        SourceOutcome::Applied(
            range.items.iter().map(|(id, payload)| self.store(now, *id, payload)).collect(),
        )
    }

    fn store(&mut self, now: Now, id: DeviceId, payload: &Bytes) -> Stored {
        let first = now.wall_ms.max(self.incarnation);
        let device = self.devices.entry(id).or_default();
        let queue = device.queue.get_or_insert_with(|| Queue::new(first));
        let (epoch, dseq, raised) = queue.push(now.wall_ms, payload, self.queue_max);
        self.longest = self.longest.max(queue.len());
        if raised {
            self.raised.push(id);
        }
        Stored { epoch, dseq, route: device.route.clone() }
    }

    /// See `RelayQueue::trim`.
    pub fn trim(&mut self, acks: &[(DeviceId, u64, u64)]) {
        for (id, epoch, up_to) in acks {
            if let Some(queue) = self.devices.get_mut(id).and_then(|d| d.queue.as_mut()) {
                queue.trim(*epoch, *up_to);
            }
        }
    }

    /// See `RelayQueue::read`.
    pub fn read(&mut self, now: Now, pages: &[(DeviceId, u64, u32)]) -> Vec<QueuePage> {
        let first = now.wall_ms.max(self.incarnation);
        let page = |(id, after, limit): &(DeviceId, u64, u32)| {
            let queue =
                self.devices.entry(*id).or_default().queue.get_or_insert_with(|| Queue::new(first));
            QueuePage { state: queue.state(), items: queue.read(*after, *limit) }
        };
        pages.iter().map(page).collect()
    }

    /// See `RelayQueue::states`.
    pub fn states(&self, devices: &[DeviceId]) -> Vec<QueueState> {
        devices
            .iter()
            .map(|id| self.queue(*id).map_or_else(QueueState::default, Queue::state))
            .collect()
    }

    /// See `RelayQueue::watermarks`.
    pub fn watermarks(&self) -> Vec<(Arc<str>, u32, u64)> {
        let all = self
            .watermarks
            .iter()
            .flat_map(|(slot, marks)| marks.iter().map(|(s, m)| (Arc::clone(s), *slot, *m)));
        all.collect()
    }

    /// See `RelayQueue::incarnation`.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn queue(&self, device: DeviceId) -> Option<&Queue> {
        self.devices.get(&device)?.queue.as_ref()
    }

    /// Changes of routes since a cursor, and the next cursor. Cursor 0, and one that fell behind what is kept, get the state
    /// of every device that ever had a route.
    pub fn routes_since(&self, cursor: u64) -> (Vec<RouteChange>, u64) {
        let changes = self.feed.since(cursor).unwrap_or_else(|| {
            let known = self
                .devices
                .iter()
                .filter(|(_, d)| if cursor == 0 { d.route.is_some() } else { d.conn_epoch > 0 });
            let mut all: Vec<_> =
                known.map(|(id, d)| view(*id, d.route.as_ref(), d.changed_ms)).collect();
            all.sort_unstable_by_key(|change| change.device);
            all
        });
        (changes, self.feed.cursor())
    }

    /// All node leases.
    pub fn leases(&self, now: Now) -> Vec<LeaseView> {
        self.nodes.views(now.at)
    }

    /// Queues of devices, in order.
    pub fn queue_views(&self, now: Now, devices: &[DeviceId]) -> Vec<QueueView> {
        let view = |device: &DeviceId| {
            let queue = self.queue(*device);
            let state = queue.map_or_else(QueueState::default, Queue::state);
            let oldest_ms =
                queue.and_then(Queue::oldest_ms).map_or(0, |ms| now.wall_ms.saturating_sub(ms));
            let QueueState { epoch, floor, base, top } = state;
            QueueView { device: *device, epoch, floor, base, top, oldest_ms }
        };
        devices.iter().map(view).collect()
    }

    /// Devices whose floor was raised since the last call.
    pub fn take_raised(&mut self) -> Vec<DeviceId> {
        std::mem::take(&mut self.raised)
    }

    /// Length of the longest queue since the last call, among those that grew.
    pub fn take_longest(&mut self) -> usize {
        std::mem::take(&mut self.longest)
    }
}
