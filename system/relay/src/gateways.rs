//! The open `Deliver` streams, and pushes onto them.
//!
//! A push that cannot leave now is not retried item by item: the device's newest one is remembered and sent as soon as it can, so
//! that the gateway sees a hole and pulls it. There are two reasons: the stream's queue is full, or the lease of the gateway has
//! ended although its stream is still open. Such a gateway may have stood still and may come back before it is swept.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chat_ports::nodes::NodeTable;
use chat_ports::observe::{Counter, Gauge, Observer};
use chat_ports::registry::NodeKey;
use chat_ports::streams::StreamSender;
use chat_ports::streams::kinds::DeliverDownItem;
use chat_protocol::node::{DeliverDown, Push};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Devices of one gateway whose newest push waits for room. Beyond it the stream is ended: the gateway then pulls for all.
pub(crate) const MISSED_MAX: usize = 10_000;

/// One gateway's open stream. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    key: NodeKey,
    pub(crate) stream: StreamSender<DeliverDown>,
    missed: Arc<Missed>,
    /// The node table has shown this incarnation since the stream was opened.
    listed: Arc<AtomicBool>,
    pub(crate) ended: CancellationToken,
}

#[derive(Default)]
struct Missed {
    newest: Mutex<BTreeMap<u64, Push>>,
    more: Notify,
}

impl Missed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Push>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    pub(crate) fn new(
        key: NodeKey,
        stream: StreamSender<DeliverDown>,
        ended: CancellationToken,
    ) -> Self {
        Self { key, stream, missed: Arc::default(), listed: Arc::default(), ended }
    }

    /// Whether pushes may leave. A gateway that the table has never shown has joined after it was read: it is alive. One that
    /// the table shows no more has lost its lease.
    fn is_alive(&self, table: &NodeTable) -> bool {
        !self.listed.load(Relaxed) || table.has(&self.key)
    }

    /// Remembers a push for later; too many of them end the stream.
    fn keep(&self, push: Push, gauge: &Gauge) {
        let mut missed = self.missed.lock();
        missed.insert(push.device, push);
        gauge.seen(missed.len() as u64);
        if missed.len() > MISSED_MAX {
            self.ended.cancel();
        }
    }

    /// Sends what was kept, as room appears and while the gateway is alive; ends with the stream.
    pub(crate) async fn send_missed(self, table: watch::Receiver<Arc<NodeTable>>) {
        loop {
            self.missed.more.notified().await;
            loop {
                if !self.is_alive(&table.borrow()) {
                    break;
                }
                let Some((_, push)) = self.missed.lock().pop_first() else { break };
                if self.stream.send(DeliverDownItem::Push(push)).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[derive(Clone)]
struct Counters {
    pushes: Counter,
    no_stream: Counter,
    no_room: Counter,
    dead_route: Counter,
    routed_to_dead_route: Counter,
    missed: Gauge,
}

type Open = Vec<Gateway>;

/// The gateways of one relay node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateways {
    open: Arc<RwLock<Arc<Open>>>,
    table: watch::Receiver<Arc<NodeTable>>,
    counters: Counters,
}

impl Gateways {
    pub(crate) fn new(table: watch::Receiver<Arc<NodeTable>>, observer: &Observer) -> Self {
        let counters = Counters {
            pushes: observer.counter("relay.pushes"),
            no_stream: observer.counter("relay.pushes_without_stream"),
            no_room: observer.counter("relay.pushes_without_room"),
            dead_route: observer.counter("relay.dead_route"),
            routed_to_dead_route: observer.counter("sometimes.routed-to-dead-route"),
            missed: observer.gauge("relay.missed", MISSED_MAX as u64),
        };
        Self { open: Arc::default(), table, counters }
    }

    /// Adds a stream; a further one of the same node incarnation replaces it.
    pub(crate) fn add(&self, gateway: Gateway) {
        gateway.listed.store(self.table.borrow().has(&gateway.key), Relaxed);
        self.change(|open| {
            open.retain(|other| other.key != gateway.key);
            open.push(gateway);
        });
    }

    /// Takes the ended streams away.
    pub(crate) fn clear_ended(&self) {
        self.change(|open| {
            open.retain(|gateway| !gateway.ended.is_cancelled() && !gateway.stream.is_closed());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Gateway>)) {
        change(Arc::make_mut(&mut self.open.write().unwrap_or_else(PoisonError::into_inner)));
    }

    /// The table as this node sees it.
    pub(crate) fn table(&self) -> watch::Receiver<Arc<NodeTable>> {
        self.table.clone()
    }

    /// Follows the node table: what was kept for a gateway that is in it again may leave. Ends with the table's keeper.
    pub(crate) async fn follow(self) {
        let mut table = self.table.clone();
        while table.changed().await.is_ok() {
            let table = Arc::clone(&table.borrow_and_update());
            for gateway in self.now().open.iter().filter(|gateway| table.has(&gateway.key)) {
                gateway.listed.store(true, Relaxed);
                gateway.missed.more.notify_one();
            }
        }
    }

    /// The streams and live nodes of this instant, for a batch of pushes.
    pub(crate) fn now(&self) -> Present {
        let open = Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner));
        Present { open, table: Arc::clone(&self.table.borrow()), counters: self.counters.clone() }
    }
}

/// The streams and live nodes of one instant.
pub(crate) struct Present {
    open: Arc<Open>,
    table: Arc<NodeTable>,
    counters: Counters,
}

impl Present {
    fn gateway(&self, node: &NodeKey) -> Option<&Gateway> {
        self.open.iter().find(|gateway| gateway.key == *node)
    }

    /// Whether a push to this node would leave.
    pub(crate) fn reaches(&self, node: &NodeKey) -> bool {
        self.gateway(node).is_some_and(|gateway| gateway.is_alive(&self.table))
    }

    /// All open streams.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamSender<DeliverDown>> {
        self.open.iter().map(|gateway| &gateway.stream)
    }

    /// Pushes to the gateway of the route. What cannot be pushed is stored, and pulled when the gateway or the device is back.
    pub(crate) fn push(&self, node: &NodeKey, push: Push) {
        let gateway = self.gateway(node);
        let alive =
            gateway.map_or_else(|| self.table.has(node), |gateway| gateway.is_alive(&self.table));
        if !alive {
            self.counters.dead_route.add(1);
            self.counters.routed_to_dead_route.add(1);
        }
        match gateway {
            None if alive => self.counters.no_stream.add(1),
            None => {}
            Some(gateway) if !alive => gateway.keep(push, &self.counters.missed),
            Some(gateway) => match gateway.stream.offer(DeliverDownItem::Push(push)) {
                Ok(()) => self.counters.pushes.add(1),
                Err(DeliverDownItem::Push(push)) => {
                    self.counters.no_room.add(1);
                    gateway.keep(push, &self.counters.missed);
                    gateway.missed.more.notify_one();
                }
                Err(_) => unreachable!("a push comes back as a push"),
            },
        }
    }
}
