//! What all tasks of a gateway share: connections, streams, state, and what waits for an answer.
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_ports::registry::Role;
use chat_ports::streams::Peers;
use chat_ports::streams::kinds::{
    DeliverStream, DeliverUpItem, MessagesStream, ReadsStream, SessionsStream, SessionsUpItem,
};
use chat_protocol::ids::{partition_of, slot_of};
use chat_protocol::{ConvId, DeviceId, UserId, node};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::deps::{Deps, FenceRule, WindowRule};
use crate::mailbox::Handle;
use crate::metrics::Metrics;
use crate::owners::Owners;

/// Bit that tells ids of REST calls from ids of connections.
const REST_BIT: u64 = 1 << 63;
/// Low bits of a connection id are its place in the table.
const PLACE_BITS: u32 = 24;
/// Unregistrations kept while no sessions node is reachable, and those of the last seconds, which a broken stream may have
/// lost; beyond it the oldest is dropped, and its route lives until the device's next connection or the node's end.
const UNREGISTERS_KEPT: usize = 16_384;
/// How long an unregistration counts as possibly lost.
const UNREGISTER_DOUBT: Duration = Duration::from_secs(10);
/// Devices remembered as served before, for `CursorScope::Node`; a further one is not remembered.
const SERVED_MAX: usize = 1_000_000;

/// The answer to a send by REST.
pub(crate) enum SendAnswer {
    Sent(node::Sent),
    Reject(node::Reject),
}

/// Tasks of the node that turn to every connection, and what they are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rounds {
    /// Slots whose devices must pull.
    pub(crate) verify: u64,
    /// Every device must register again.
    pub(crate) register: bool,
}

/// A store check under way.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) id: u64,
    pub(crate) yes: u32,
    pub(crate) no: u32,
}

/// The shared state of a gateway.
pub(crate) struct Hub {
    pub(crate) deps: Deps,
    pub(crate) metrics: Metrics,
    pub(crate) messages: Owners<MessagesStream>,
    pub(crate) deliver: Owners<DeliverStream>,
    pub(crate) sessions: Peers<SessionsStream>,
    pub(crate) reads: Peers<ReadsStream>,
    table: Mutex<Table>,
    by_device: Mutex<HashMap<DeviceId, u64>>,
    registered: AtomicU64,
    pub(crate) sockets: AtomicUsize,
    pub(crate) handshakes: AtomicUsize,
    draining: AtomicBool,
    fenced: AtomicBool,
    outage: AtomicBool,
    /// Pushes or pages were dropped while it was not known whether this node may deliver.
    dropped: AtomicBool,
    rest_sends: Mutex<HashMap<u64, oneshot::Sender<SendAnswer>>>,
    rest_reads: Mutex<HashMap<u64, oneshot::Sender<node::Reply>>>,
    rest_ids: AtomicU64,
    unregisters: Mutex<Unregisters>,
    served: Mutex<HashSet<DeviceId>>,
    pub(crate) rounds: Mutex<Rounds>,
    pub(crate) round_due: Notify,
    pub(crate) check: Mutex<Check>,
    pub(crate) checked: Notify,
}

#[derive(Default)]
struct Table {
    places: Vec<Option<Arc<Handle>>>,
    free: Vec<usize>,
    serial: u64,
}

#[derive(Default)]
struct Unregisters {
    waiting: VecDeque<node::Unregister>,
    recent: VecDeque<(Instant, node::Unregister)>,
}

/// The streams of a gateway.
pub(crate) struct Streams {
    pub(crate) messages: Peers<MessagesStream>,
    pub(crate) deliver: Peers<DeliverStream>,
    pub(crate) sessions: Peers<SessionsStream>,
    pub(crate) reads: Peers<ReadsStream>,
}

impl Hub {
    pub(crate) fn new(deps: Deps, streams: Streams) -> Self {
        let metrics = Metrics::new(&deps.observer, &deps.view.key.name, &deps.limits);
        let partitions = deps.partitions.max(1);
        Self {
            deps,
            metrics,
            messages: Owners::new(streams.messages, partitions),
            deliver: Owners::new(streams.deliver, chat_protocol::ids::SLOTS),
            sessions: streams.sessions,
            reads: streams.reads,
            table: Mutex::default(),
            by_device: Mutex::default(),
            registered: AtomicU64::new(0),
            sockets: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            outage: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            rest_sends: Mutex::default(),
            rest_reads: Mutex::default(),
            rest_ids: AtomicU64::new(0),
            unregisters: Mutex::default(),
            served: Mutex::default(),
            rounds: Mutex::default(),
            round_due: Notify::new(),
            check: Mutex::default(),
            checked: Notify::new(),
        }
    }

    // --- Connections ---

    /// Adds a connection to the table.
    pub(crate) fn open(&self) -> Arc<Handle> {
        let mut table = lock(&self.table);
        table.serial += 1;
        let place = table.free.pop().unwrap_or_else(|| {
            table.places.push(None);
            table.places.len() - 1
        });
        let conn = (table.serial << PLACE_BITS | place as u64) & !REST_BIT;
        let handle = Arc::new(Handle::new(conn));
        table.places[place] = Some(Arc::clone(&handle));
        handle
    }

    /// The connection of an id, if it still is.
    pub(crate) fn connection(&self, conn: u64) -> Option<Arc<Handle>> {
        let place = usize::try_from(conn & ((1 << PLACE_BITS) - 1)).ok()?;
        lock(&self.table).places.get(place)?.as_ref().filter(|handle| handle.conn == conn).cloned()
    }

    /// All connections.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        lock(&self.table).places.iter().flatten().cloned().collect()
    }

    /// Takes a connection out of the table.
    pub(crate) fn close(&self, handle: &Handle) {
        if let Some(device) = handle.device() {
            let mut by_device = lock(&self.by_device);
            if by_device.get(&device) == Some(&handle.conn) {
                by_device.remove(&device);
            }
        }
        let Ok(place) = usize::try_from(handle.conn & ((1 << PLACE_BITS) - 1)) else { return };
        let mut table = lock(&self.table);
        if table
            .places
            .get(place)
            .and_then(Option::as_ref)
            .is_some_and(|present| present.conn == handle.conn)
        {
            table.places[place] = None;
            table.free.push(place);
        }
    }

    /// Makes a connection the one of its device; answers the one that it displaces on this node.
    pub(crate) fn claim_device(&self, device: DeviceId, conn: u64) -> Option<Arc<Handle>> {
        let previous =
            lock(&self.by_device).insert(device, conn).filter(|previous| *previous != conn)?;
        self.connection(previous)
    }

    /// Counts a connection as registered, or not any more.
    pub(crate) fn count_registered(&self, up: bool) {
        let now = if up {
            self.registered.fetch_add(1, Relaxed) + 1
        } else {
            self.registered.fetch_sub(1, Relaxed).saturating_sub(1)
        };
        self.metrics.connections.set(now);
    }

    /// Open registered connections.
    pub(crate) fn connections(&self) -> u64 {
        self.registered.load(Relaxed)
    }

    /// Whether this node incarnation has served a device before; it has from now on.
    pub(crate) fn serve_device(&self, device: DeviceId) -> bool {
        let mut served = lock(&self.served);
        if served.contains(&device) {
            return true;
        }
        if served.len() < SERVED_MAX {
            served.insert(device);
        }
        false
    }

    // --- State ---

    /// Whether new connections are taken at all.
    pub(crate) fn accepting(&self) -> bool {
        !self.draining.load(Relaxed) && !self.fenced.load(Relaxed)
    }

    /// Whether a new device can be served: streams to sessions and relay are open, and no outage is known.
    pub(crate) fn ready(&self) -> bool {
        self.accepting()
            && !self.outage.load(Relaxed)
            && self.deliver.any()
            && self.messages.any()
            && !self.sessions.open().is_empty()
    }

    /// Starts a drain.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// The node serves nobody any more.
    pub(crate) fn set_fenced(&self) {
        self.fenced.store(true, Relaxed);
    }

    /// Whether the registry is out for everybody.
    pub(crate) fn set_outage(&self, outage: bool) {
        self.outage.store(outage, Relaxed);
    }

    /// Whether the registry is out for everybody.
    pub(crate) fn outage(&self) -> bool {
        self.outage.load(Relaxed)
    }

    /// Whether this node may deliver at the moment. A node that was frozen for longer than its lease must not, even before its
    /// fence task has run.
    pub(crate) fn may_deliver(&self) -> bool {
        if self.deps.policies.fence == FenceRule::Never {
            return true;
        }
        let lease = *self.deps.view.lease.borrow();
        !self.fenced.load(Relaxed)
            && !lease.lost
            && (self.outage.load(Relaxed) || lease.renewed.elapsed() < self.deps.timers.lease_ttl)
    }

    /// Window of the first reconnect delay: the connections here over the accept rate of the other gateways.
    pub(crate) fn reconnect_window_ms(&self) -> u64 {
        if self.deps.policies.window == WindowRule::Zero {
            return 0;
        }
        let gateways = self.deps.view.table.borrow().with(Role::Gateway).len() as u64;
        let per_s =
            u64::from(self.deps.limits.handshakes_per_s).max(1) * gateways.saturating_sub(1).max(1);
        let window = Duration::from_millis(self.connections().saturating_mul(1_000) / per_s);
        millis(window.clamp(self.deps.timers.window_min, self.deps.timers.window_max))
    }

    // --- Streams ---

    /// Hands a send to the intake of its partition; false when nobody can take it.
    pub(crate) fn offer_send(&self, conv: ConvId, send: node::Send) -> bool {
        self.messages.offer(partition_of(conv, self.deps.partitions), send).is_ok()
    }

    /// Hands an ack or a pull to the relay node of a user's slot; gives it back when that is not possible.
    pub(crate) fn offer_deliver(
        &self,
        user: UserId,
        item: DeliverUpItem,
    ) -> Result<(), DeliverUpItem> {
        self.deliver.offer(slot_of(user), item)
    }

    /// Asks for the registration of a connection; false when no sessions node is reachable.
    pub(crate) fn offer_register(&self, device: DeviceId, conn: u64) -> bool {
        let item = SessionsUpItem::Register(node::Register { device: device.0, conn });
        self.sessions.owner(device.user().0).is_some_and(|(_, stream)| stream.offer(item).is_ok())
    }

    /// Gives a route back. It is kept for later when no sessions node is reachable.
    pub(crate) fn unregister(&self, device: DeviceId, conn: u64, conn_epoch: u64) {
        let gone = node::Unregister { device: device.0, conn, conn_epoch };
        let mut all = lock(&self.unregisters);
        if self.offer_unregister(gone) {
            all.recent.push_back((Instant::now(), gone));
            if all.recent.len() > UNREGISTERS_KEPT {
                all.recent.pop_front();
            }
        } else {
            if all.waiting.len() >= UNREGISTERS_KEPT {
                all.waiting.pop_front();
                self.metrics.unregister_dropped.add(1);
            }
            all.waiting.push_back(gone);
        }
    }

    fn offer_unregister(&self, gone: node::Unregister) -> bool {
        let owner = self.sessions.owner(DeviceId(gone.device).user().0);
        owner.is_some_and(|(_, stream)| stream.offer(SessionsUpItem::Unregister(gone)).is_ok())
    }

    /// Offers what was kept, and forgets what is beyond doubt.
    pub(crate) fn work_off_unregisters(&self) {
        let mut all = lock(&self.unregisters);
        let now = Instant::now();
        while all
            .recent
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > UNREGISTER_DOUBT)
        {
            all.recent.pop_front();
        }
        while let Some(gone) = all.waiting.pop_front() {
            if !self.offer_unregister(gone) {
                all.waiting.push_front(gone);
                break;
            }
            all.recent.push_back((now, gone));
        }
    }

    /// A sessions stream broke: what was unregistered lately is unregistered again, because it may have been lost.
    pub(crate) fn doubt_unregisters(&self) {
        let mut all = lock(&self.unregisters);
        let recent: Vec<_> = all.recent.drain(..).map(|(_, gone)| gone).collect();
        let room = UNREGISTERS_KEPT.saturating_sub(all.waiting.len());
        all.waiting.extend(recent.into_iter().take(room));
    }

    /// Items of the unregister queue that wait, for the end of a drain.
    pub(crate) fn unregisters_waiting(&self) -> usize {
        let kept = lock(&self.unregisters).waiting.len();
        let streams: usize =
            self.sessions.open().values().map(chat_ports::streams::StreamSender::waiting).sum();
        kept + streams
    }

    /// Notes that something was dropped because this node might not have been allowed to deliver.
    pub(crate) fn catch_up_later(&self) {
        self.dropped.store(true, Relaxed);
    }

    /// Pulls what was dropped, once this node may deliver again.
    pub(crate) fn catch_up_now(&self) {
        if self.dropped.load(Relaxed) && self.may_deliver() {
            self.dropped.store(false, Relaxed);
            self.ask_round(|rounds| rounds.verify = u64::MAX);
        }
    }

    /// Asks for a round over all connections.
    pub(crate) fn ask_round(&self, change: impl FnOnce(&mut Rounds)) {
        change(&mut lock(&self.rounds));
        self.round_due.notify_one();
    }

    // --- REST ---

    /// An id for a REST send and where its answer comes; `None` when too many wait.
    pub(crate) fn await_send(&self) -> Option<(u64, oneshot::Receiver<SendAnswer>)> {
        let mut waiting = lock(&self.rest_sends);
        if waiting.len() >= self.deps.limits.rest_sends {
            return None;
        }
        let id = self.rest_ids.fetch_add(1, Relaxed) | REST_BIT;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(id, sender);
        Some((id, receiver))
    }

    /// An id for a page read and where its answer comes; `None` when too many wait.
    pub(crate) fn await_read(&self) -> Option<(u64, oneshot::Receiver<node::Reply>)> {
        let mut waiting = lock(&self.rest_reads);
        if waiting.len() >= self.deps.limits.rest_reads {
            return None;
        }
        let id = self.rest_ids.fetch_add(1, Relaxed) | REST_BIT;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(id, sender);
        Some((id, receiver))
    }

    /// Nobody waits for this id any more.
    pub(crate) fn give_up(&self, id: u64) {
        lock(&self.rest_sends).remove(&id);
        lock(&self.rest_reads).remove(&id);
    }

    /// Brings the answer to a REST send; gives it back when it belongs to a connection or nobody waits.
    pub(crate) fn answer_rest(&self, conn: u64, answer: SendAnswer) {
        let waiting = lock(&self.rest_sends).remove(&conn);
        if waiting.is_none_or(|waiting| waiting.send(answer).is_err()) {
            self.metrics.answers_unclaimed.add(1);
        }
    }

    /// Brings the answer to a page read.
    pub(crate) fn answer_read(&self, reply: node::Reply) {
        let waiting = lock(&self.rest_reads).remove(&reply.id);
        if waiting.is_none_or(|waiting| waiting.send(reply).is_err()) {
            self.metrics.answers_unclaimed.add(1);
        }
    }

    /// Whether an id is one of a REST call.
    pub(crate) fn is_rest(conn: u64) -> bool {
        conn & REST_BIT != 0
    }
}

/// Whole milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Locks a mutex; a panic of another holder does not matter, because every change is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
