//! The `Sessions` stream: registrations up, answers and displaced connections down.
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_ports::observe::Counter;
use chat_ports::registry::{NodeKey, Route};
use chat_ports::streams::kinds::SessionsDownItem;
use chat_ports::streams::{StreamSender, serving};
use chat_protocol::DeviceId;
use chat_protocol::node::{
    Registered, SessionsDown, SessionsUp, StoreCheck, StoreSeen, sessions_server::Sessions,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::{Deps, routes};

/// How long a stream may stay without its opener.
const OPENER_WAIT: Duration = Duration::from_secs(5);
/// Batches of one stream that may wait for the registry; beyond it registrations are refused and unregistrations kept for later.
const BATCHES_WAITING: usize = 64;
/// Unregistrations kept until the registry answers; beyond it the oldest is dropped, and its route lives until the next
/// connection of the device or the end of its node.
const LATE_MAX: usize = 65_536;
/// Probes of the registry under way for store checks; a further check is left unanswered.
const PROBES_MAX: u64 = 16;

/// What streams, sweeper and probes share.
pub(crate) struct Shared {
    pub(crate) deps: Deps,
    streams: Mutex<BTreeMap<NodeKey, (u64, StreamSender<SessionsDown>)>>,
    late: Mutex<VecDeque<(DeviceId, Route)>>,
    stream_ids: AtomicU64,
    probes: AtomicU64,
    pub(crate) counters: Counters,
}

/// Counters of the role, looked up once.
pub(crate) struct Counters {
    pub(crate) registered: Counter,
    pub(crate) register_failed: Counter,
    pub(crate) displaced: Counter,
    pub(crate) displaced_unreachable: Counter,
    pub(crate) unregistered: Counter,
    pub(crate) unregister_stale: Counter,
    pub(crate) unregister_dropped: Counter,
}

impl Shared {
    pub(crate) fn new(deps: Deps) -> Self {
        let counter = |name: &str| deps.observer.counter(format!("sessions.{name}"));
        let counters = Counters {
            registered: counter("registered"),
            register_failed: counter("register_failed"),
            displaced: counter("displaced"),
            displaced_unreachable: counter("displaced_unreachable"),
            unregistered: counter("unregistered"),
            unregister_stale: counter("unregister_stale"),
            unregister_dropped: counter("unregister_dropped"),
        };
        Self {
            deps,
            streams: Mutex::default(),
            late: Mutex::default(),
            stream_ids: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            counters,
        }
    }

    /// The open stream of a gateway incarnation.
    pub(crate) fn stream_of(&self, node: &NodeKey) -> Option<StreamSender<SessionsDown>> {
        lock(&self.streams).get(node).map(|(_, sender)| sender.clone())
    }

    /// Keeps unregistrations for the next beat of the sweeper.
    pub(crate) fn keep_for_later(&self, routes: impl IntoIterator<Item = (DeviceId, Route)>) {
        let mut late = lock(&self.late);
        for route in routes {
            if late.len() >= LATE_MAX {
                late.pop_front();
                self.counters.unregister_dropped.add(1);
            }
            late.push_back(route);
        }
    }

    /// Takes up to `limit` unregistrations that were kept.
    pub(crate) fn take_late(&self, limit: usize) -> Vec<(DeviceId, Route)> {
        let mut late = lock(&self.late);
        let take = limit.min(late.len());
        late.drain(..take).collect()
    }

    /// Whether this node's own lease was renewed so lately that the registry must be alive. Half of the self-fence time: when a
    /// gateway asks, an outage that began with its last renewal is older than that, and a living registry renews more often.
    fn renewed_lately(&self) -> bool {
        let lease = *self.deps.view.lease.borrow();
        !lease.lost && lease.renewed.elapsed() < self.deps.timers.self_fence / 2
    }
}

/// The served role.
pub struct Service {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Service {
    pub(crate) fn new(
        shared: Arc<Shared>,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self { shared, tracker, shutdown }
    }
}

#[tonic::async_trait]
impl Sessions for Service {
    type OpenStream = ReceiverStream<Result<SessionsDown, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<SessionsUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut up = request.into_inner();
        let first = tokio::time::timeout(OPENER_WAIT, up.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no opener"))??;
        let opener = first
            .and_then(|first| first.opener)
            .ok_or_else(|| Status::invalid_argument("no opener"))?;
        let node = NodeKey { name: opener.node.into(), epoch: opener.node_epoch };
        let (sender, down, pump) = serving::<SessionsDown>();
        let id = self.shared.stream_ids.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.streams).insert(node.clone(), (id, sender.clone()));
        let (shared, tracker, shutdown) =
            (Arc::clone(&self.shared), self.tracker.clone(), self.shutdown.clone());
        self.tracker.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = pump => {}
                () = serve(&shared, &node, up, &sender, &tracker) => {}
            }
            let mut streams = lock(&shared.streams);
            if streams.get(&node).is_some_and(|(present, _)| *present == id) {
                streams.remove(&node);
            }
        });
        Ok(Response::new(down))
    }
}

/// One stream until it ends. Store checks never wait behind registrations, because they are asked when those hang.
async fn serve(
    shared: &Arc<Shared>,
    node: &NodeKey,
    mut up: Streaming<SessionsUp>,
    down: &StreamSender<SessionsDown>,
    tracker: &TaskTracker,
) {
    let (work, waiting) = mpsc::channel(BATCHES_WAITING);
    let read = async {
        while let Ok(Some(batch)) = up.message().await {
            for check in &batch.checks {
                answer_check(shared, *check, down, tracker);
            }
            if batch.registers.is_empty() && batch.unregisters.is_empty() {
                continue;
            }
            if let Err(refused) = work.try_send(batch) {
                refuse(shared, node, refused.into_inner(), down).await;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = routes::work(shared, node, waiting, down) => {}
    }
}

/// Says no at once when the registry is too far behind.
async fn refuse(
    shared: &Shared,
    node: &NodeKey,
    batch: SessionsUp,
    down: &StreamSender<SessionsDown>,
) {
    shared.counters.register_failed.add(batch.registers.len() as u64);
    for register in batch.registers {
        let answer =
            Registered { device: register.device, conn: register.conn, ok: false, conn_epoch: 0 };
        if down.send(SessionsDownItem::Registered(answer)).await.is_err() {
            break;
        }
    }
    shared.keep_for_later(batch.unregisters.iter().map(|gone| routes::route_of(node, gone)));
}

fn answer_check(
    shared: &Arc<Shared>,
    check: StoreCheck,
    down: &StreamSender<SessionsDown>,
    tracker: &TaskTracker,
) {
    if shared.renewed_lately() {
        offer_seen(down, check.id, true);
        return;
    }
    if shared.probes.fetch_add(1, Ordering::Relaxed) >= PROBES_MAX {
        shared.probes.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    // An own renewal may be late for other reasons than the registry's, so the registry itself is asked before saying no.
    let (shared, down) = (Arc::clone(shared), down.clone());
    tracker.spawn(async move {
        let seen = shared.deps.registry.nodes().await.is_ok();
        shared.probes.fetch_sub(1, Ordering::Relaxed);
        offer_seen(&down, check.id, seen);
    });
}

fn offer_seen(down: &StreamSender<SessionsDown>, id: u64, seen: bool) {
    if down.offer(SessionsDownItem::StoreSeen(StoreSeen { id, seen })).is_err() {
        tracing::debug!("A store check was not answered, its stream is full or gone.");
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
