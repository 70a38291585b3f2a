//! What a node runs, on a thread of this process or in a process of its own: join the registry, start the roles, serve until drained or shut down.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use chat_gateway::balancer::{Backend, Balancer};
use chat_ports::clock::SharedClock;
use chat_ports::consumer::FoldViews;
use chat_ports::net;
use chat_ports::nodes::{LeaseState, NodeKeeper, NodeView};
use chat_ports::observe::Observer;
use chat_ports::registry::Role;
use chat_protocol::token::TokenKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::config::Settings;
use crate::substrate::Ports;
use crate::unit::Kind;

/// How often a node that cannot join tries again; it goes on until it is shut down, as a supervisor would.
const JOIN_PAUSE: Duration = Duration::from_millis(200);

/// How long an incarnation that lost its lease waits for its connections to close.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// What the nodes of a system share that run in one process.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// The gateways, for a balancer.
    pub(crate) gateways: Vec<Backend>,
    pub(crate) clock: SharedClock,
    pub(crate) observer: Observer,
    pub(crate) folds: FoldViews,
}

/// What a node tells those who look after it.
#[derive(Default)]
pub(crate) struct Signs {
    /// Node epoch of the present incarnation.
    pub(crate) epoch: AtomicU64,
    /// Open client connections.
    pub(crate) connections: AtomicU64,
}

/// One start of a node.
pub(crate) struct Start {
    pub(crate) name: Arc<str>,
    pub(crate) addr: SocketAddr,
    pub(crate) roles: Vec<Role>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) signs: Arc<Signs>,
    /// Set once the node serves.
    pub(crate) ready: watch::Sender<bool>,
    /// Cancelled to begin a drain.
    pub(crate) drain: CancellationToken,
    /// Cancelled to end the node.
    pub(crate) shutdown: CancellationToken,
}

impl Start {
    /// Joins the registry; tries until it answers.
    async fn join(&self, ports: &Ports) -> Option<(NodeKeeper, NodeView)> {
        loop {
            let registry = Arc::clone(&ports.node.registry);
            let joined = NodeKeeper::join(
                registry,
                &self.name,
                self.addr,
                &self.roles,
                &self.shared.settings.timers,
            )
            .await;
            match joined {
                Ok((keeper, view)) => {
                    self.signs.epoch.store(view.key.epoch, Relaxed);
                    return Some((keeper, view));
                }
                Err(error) => {
                    tracing::debug!(node = %self.name, %error, "The node could not join; it tries again.");
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(JOIN_PAUSE) => {}
            }
        }
    }

    async fn listen(&self) -> Option<net::Listener> {
        match net::listen(self.addr).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!(node = %self.name, addr = %self.addr, %error, "The node cannot listen.");
                None
            }
        }
    }
}

/// Runs a node until it was drained or shut down, or cannot go on. Only a balancer runs without ports.
pub(crate) async fn run(kind: Kind, start: Start, ports: Option<Ports>) {
    match (kind, ports) {
        (Kind::Gateway, Some(ports)) => Box::pin(gateway(start, ports)).await,
        (Kind::Service, Some(ports)) => Box::pin(service(start, ports)).await,
        (Kind::Balancer, _) => Box::pin(balancer(start)).await,
        (_, None) => tracing::error!(node = %start.name, "The node has no ports."),
    }
}

/// A gateway; one that fenced itself starts again under a new node epoch.
async fn gateway(start: Start, ports: Ports) {
    while !start.shutdown.is_cancelled() {
        let Some(listener) = start.listen().await else { return };
        let Some((keeper, view)) = start.join(&ports).await else { return };
        let settings = &start.shared.settings;
        let tracker = TaskTracker::new();
        let lease = CancellationToken::new();
        tracker.spawn(keeper.run(lease.clone()));
        let deps = chat_gateway::Deps {
            view,
            clock: Arc::clone(&start.shared.clock),
            timers: settings.timers,
            observer: start.shared.observer.of_node(&start.name),
            token_key: TokenKey::new(settings.secret),
            tables: Arc::clone(&ports.node.tables),
            partitions: settings.partitions,
            seed: settings.seed,
            limits: chat_gateway::Limits::default(),
            policies: settings.policies.gateway,
        };
        let gateway = chat_gateway::start(listener, deps, &tracker, &start.shutdown);
        start.ready.send_replace(true);
        let ended = serve_gateway(&start, gateway).await;
        start.signs.connections.store(0, Relaxed);
        lease.cancel();
        tracker.close();
        tracker.wait().await;
        if ended != chat_gateway::Ended::Fenced {
            return;
        }
    }
}

async fn serve_gateway(start: &Start, gateway: chat_gateway::Gateway) -> chat_gateway::Ended {
    let mut count = tokio::time::interval(Duration::from_millis(100));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = gateway.ended() => return ended,
            () = start.drain.cancelled(), if !draining => {
                draining = true;
                gateway.drain();
            }
            _ = count.tick() => start.signs.connections.store(gateway.connections(), Relaxed),
        }
    }
}

/// The balancer in front of all gateways.
async fn balancer(start: Start) {
    let Some(listener) = start.listen().await else { return };
    let tracker = TaskTracker::new();
    let observer = start.shared.observer.of_node(&start.name);
    let balancer = match Balancer::start(
        listener,
        start.shared.gateways.clone(),
        start.shared.settings.timers,
        &observer,
        &tracker,
        &start.shutdown,
    ) {
        Ok(balancer) => balancer,
        Err(error) => {
            tracing::error!(%error, "The balancer did not start.");
            return;
        }
    };
    start.ready.send_replace(true);
    let mut count = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            () = start.shutdown.cancelled() => break,
            () = start.drain.cancelled() => break,
            _ = count.tick() => start.signs.connections.store(balancer.connections(), Relaxed),
        }
    }
    start.shutdown.cancel();
    tracker.close();
    tracker.wait().await;
}

/// A service node with one or more roles on one gRPC server.
///
/// One that lost its lease, because it stood still or was cut off for longer, starts all its roles again under a new node
/// epoch. The old epoch is dead for everybody: no gateway opens a stream to it, so it would sequence partitions whose
/// senders never hear of it.
async fn service(start: Start, ports: Ports) {
    while !start.shutdown.is_cancelled() {
        if serve_roles(&start, &ports).await != Life::LeaseLost {
            return;
        }
        start.shared.observer.counter("node.rejoined").add(1);
    }
}

/// Why an incarnation of a service node ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It was told to, or cannot serve.
    Ended,
    /// The registry gave its lease up.
    LeaseLost,
}

/// One incarnation of a service node.
async fn serve_roles(start: &Start, ports: &Ports) -> Life {
    let Some(listener) = start.listen().await else { return Life::Ended };
    let Some((keeper, view)) = start.join(ports).await else { return Life::Ended };
    let tracker = TaskTracker::new();
    let lease = CancellationToken::new();
    tracker.spawn(keeper.run(lease.clone()));
    // A drain of a service node is an orderly end: groups are left, the lease is given back.
    let stop = start.shutdown.child_token();
    let services = Services::start(start, ports, &view, &tracker, &stop);
    let keepalive = start.shared.settings.timers.stream_keepalive;
    // The server's own option does not reach sockets that it did not accept, and Nagle's algorithm with delayed
    // acknowledgements would hold single frames back for 40 ms.
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive + keepalive / 2))
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .add_optional_service(services.messages)
        .add_optional_service(services.enqueue)
        .add_optional_service(services.deliver)
        .add_optional_service(services.sessions)
        .add_optional_service(services.reads)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let mut server = std::pin::pin!(server);
    start.ready.send_replace(true);
    let ended = tokio::select! {
        served = &mut server => {
            if let Err(error) = served {
                tracing::error!(node = %start.name, %error, "The node stopped serving.");
            }
            Life::Ended
        }
        () = start.drain.cancelled() => Life::Ended,
        () = start.shutdown.cancelled() => Life::Ended,
        () = lost(view.lease) => Life::LeaseLost,
    };
    stop.cancel();
    lease.cancel();
    // The next incarnation listens on the same port, so this one closes its connections first. They end with their
    // streams; one whose peer stands still is left to the keepalive.
    if ended == Life::LeaseLost && tokio::time::timeout(CLOSE_LIMIT, server).await.is_err() {
        tracing::debug!(node = %start.name, "A connection outlives the incarnation that it was opened to.");
    }
    tracker.close();
    tracker.wait().await;
    ended
}

/// Returns once the registry said that the lease is not ours any more.
async fn lost(mut lease: watch::Receiver<LeaseState>) {
    if lease.wait_for(|state| state.lost).await.is_err() {
        // The keeper ended without losing it.
        std::future::pending::<()>().await;
    }
}

/// The roles of a node, as services of one server.
struct Services {
    messages: Option<
        chat_protocol::node::messages_server::MessagesServer<chat_messaging::MessagesService>,
    >,
    enqueue: Option<chat_protocol::node::enqueue_server::EnqueueServer<chat_relay::EnqueueService>>,
    deliver: Option<chat_protocol::node::deliver_server::DeliverServer<chat_relay::DeliverService>>,
    sessions: Option<chat_protocol::node::sessions_server::SessionsServer<chat_sessions::Service>>,
    reads: Option<chat_protocol::node::reads_server::ReadsServer<chat_history::ReadsService>>,
}

impl Services {
    fn start(
        start: &Start,
        ports: &Ports,
        view: &NodeView,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let shared = &start.shared;
        let (timers, partitions, policies) =
            (shared.settings.timers, shared.settings.partitions, shared.settings.policies);
        let observer = shared.observer.of_node(&start.name);
        let hosts = |role| start.roles.contains(&role);
        let messaging = hosts(Role::Messaging).then(|| {
            let deps = chat_messaging::Deps {
                view: view.clone(),
                log: Arc::clone(&ports.node.log),
                sequencer_log: Arc::clone(&ports.sequencer_log),
                receipts_log: Arc::clone(&ports.receipts_log),
                tables: Arc::clone(&ports.node.tables),
                blobs: Arc::clone(&ports.node.blobs),
                queue: Arc::clone(&ports.node.relay_queue),
                clock: Arc::clone(&shared.clock),
                timers,
                observer: observer.clone(),
                folds: shared.folds.clone(),
                partitions,
                policies: policies.messaging,
            };
            chat_messaging::start(deps, tracker, stop)
        });
        let relay = hosts(Role::Relay).then(|| {
            let deps = chat_relay::Deps {
                view: view.clone(),
                queue: Arc::clone(&ports.node.relay_queue),
                registry: Arc::clone(&ports.node.registry),
                log: Arc::clone(&ports.node.log),
                timers,
                observer: observer.clone(),
                partitions,
                delivery: policies.delivery,
            };
            chat_relay::start(deps, tracker, stop)
        });
        let sessions = hosts(Role::Sessions).then(|| {
            let deps = chat_sessions::Deps {
                view: view.clone(),
                registry: Arc::clone(&ports.node.registry),
                timers,
                observer: observer.clone(),
                policies: policies.sessions,
            };
            chat_sessions::start(deps, tracker, stop)
        });
        let history = hosts(Role::History).then(|| {
            let deps = chat_history::Deps {
                view: view.clone(),
                log: Arc::clone(&ports.history_log),
                history: Arc::clone(&ports.node.history),
                blobs: Arc::clone(&ports.node.blobs),
                clock: Arc::clone(&shared.clock),
                timers,
                observer: observer.clone(),
                folds: shared.folds.clone(),
                mids: policies.mids,
            };
            chat_history::start(deps, tracker, stop)
        });
        let (enqueue, deliver) = relay.map(|relay| (relay.enqueue, relay.deliver)).unzip();
        Self {
            messages: messaging.map(|role| role.service),
            enqueue,
            deliver,
            sessions: sessions.map(|role| role.service),
            reads: history.map(|role| role.service),
        }
    }
}
