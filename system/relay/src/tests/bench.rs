//! What every story stands on: a relay node, a gateway and a sequencer with their streams.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use chat_ports::registry::{
    NodeKey, NodeLease, Registered, Role, Route, RouteEntry, SessionRegistry,
};
use chat_ports::streams::kinds::{DeliverStream, DeliverUpItem, EnqueueStream};
use chat_ports::streams::{Open, PeerEvent, Peers, StreamSender};
use chat_ports::twins::{TwinLog, TwinQueue, eventually, view};
use chat_protocol::DeviceId;
use chat_protocol::ids::slot_of;
use chat_protocol::limits::Timers;
use chat_protocol::node::{
    DeliverDown, EnqueueBatch, EnqueueDown, EnqueueResult, Page, Pull, Push, QueueItem,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{DeliveryRule, Deps};

pub(super) const PARTITIONS: u32 = 4;

pub(super) struct Bench {
    pub(super) queue: Arc<TwinQueue>,
    pub(super) log: Arc<TwinLog>,
    pub(super) observer: Observer,
    pub(super) gateway: Peer<DeliverStream>,
    pub(super) sequencer: Peer<EnqueueStream>,
    _tracker: TaskTracker,
}

/// The opening end of one stream.
pub(super) struct Peer<O: Open> {
    pub(super) stream: StreamSender<O::Up>,
    events: mpsc::Receiver<PeerEvent<O::Down>>,
    _peers: Peers<O>,
}

impl<O: Open> Peer<O> {
    async fn open(
        own: &NodeKey,
        relay: &(NodeKey, SocketAddr, Vec<Role>),
        tracker: &TaskTracker,
    ) -> Self {
        let (sender, mut events) = mpsc::channel(64);
        let view = view(own, std::slice::from_ref(relay));
        let keepalive = Duration::from_secs(2);
        let peers = Peers::<O>::start(&view, keepalive, sender, tracker, &CancellationToken::new());
        assert!(matches!(events.recv().await, Some(PeerEvent::Opened(_))));
        eventually("the stream", || peers.to(&relay.0).is_some()).await;
        let stream = peers.to(&relay.0).unwrap();
        Self { stream, events, _peers: peers }
    }

    pub(super) async fn message(&mut self) -> O::Down {
        match self.events.recv().await {
            Some(PeerEvent::Message(_, down)) => down,
            _ => panic!("the stream ended"),
        }
    }
}

impl Peer<DeliverStream> {
    pub(super) async fn pushes(&mut self) -> Vec<Push> {
        let down: DeliverDown = self.message().await;
        down.pushes
    }

    pub(super) async fn pull(&mut self, pull: Pull) -> Page {
        self.stream.offer(DeliverUpItem::Pull(pull)).unwrap();
        self.message().await.pages.remove(0)
    }
}

impl Peer<EnqueueStream> {
    /// Offers one batch of a source for a device and awaits the answer.
    pub(super) async fn offer(
        &mut self,
        source: &str,
        prev: u64,
        device: DeviceId,
        payloads: &[&'static str],
    ) -> EnqueueResult {
        let item = |payload: &&'static str| QueueItem {
            device: device.0,
            payload: Bytes::from_static(payload.as_bytes()),
        };
        let items: Vec<_> = payloads.iter().map(item).collect();
        let last = prev + items.len() as u64;
        let slot = slot_of(device.user());
        self.stream
            .offer(EnqueueBatch { slot, source: source.into(), prev, last, items, incarnation: 0 })
            .unwrap();
        let down: EnqueueDown = self.message().await;
        down.results.into_iter().next().unwrap()
    }
}

pub(super) fn gateway_key() -> NodeKey {
    NodeKey { name: "gateway-1".into(), epoch: 7 }
}

pub(super) fn route(node: NodeKey, conn: u64) -> Route {
    Route { node, conn_epoch: 1, conn }
}

impl Bench {
    pub(super) async fn new(delivery: DeliveryRule) -> Self {
        let clock = Arc::new(SteadyClock::new(1_700_000_000_000));
        let (queue, log) =
            (TwinQueue::new(), TwinLog::new(Arc::<SteadyClock>::clone(&clock), PARTITIONS));
        let observer = Observer::new(clock);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let relay = (NodeKey { name: "services-1".into(), epoch: 1 }, addr, vec![Role::Relay]);
        let live = [relay.clone(), (gateway_key(), addr, vec![Role::Gateway])];
        let mut timers = Timers::short();
        timers.node_table = Duration::from_millis(20);
        let tracker = TaskTracker::new();
        let deps = Deps {
            view: view(&relay.0, &live),
            queue: Arc::<TwinQueue>::clone(&queue),
            registry: Arc::new(Routes(Arc::clone(&queue))),
            log: Arc::<TwinLog>::clone(&log),
            timers,
            observer: observer.clone(),
            partitions: PARTITIONS,
            delivery,
        };
        let handle = crate::start(deps, &tracker, &CancellationToken::new());
        let server = tonic::transport::Server::builder()
            .add_service(handle.enqueue)
            .add_service(handle.deliver)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tracker.spawn(async move { server.await.unwrap() });
        let gateway = Peer::open(&gateway_key(), &relay, &tracker).await;
        let own = NodeKey { name: "services-2".into(), epoch: 1 };
        let sequencer = Peer::open(&own, &relay, &tracker).await;
        // The gateway's first batch names it; a page comes back once the relay has read that.
        let mut bench = Self { queue, log, observer, gateway, sequencer, _tracker: tracker };
        bench.gateway.pull(Pull { device: 1, resume: true, ..Pull::default() }).await;
        bench
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.observer.counter(name).get()
    }

    pub(super) fn stored(&self, device: DeviceId) -> Vec<Bytes> {
        self.queue.payloads(device)
    }
}

/// A registry that knows the routes of the store and nothing else.
struct Routes(Arc<TwinQueue>);

fn refused<T>() -> Result<T, PortError> {
    Err(PortError::Refused("only routes can be read here".into()))
}

#[async_trait]
impl SessionRegistry for Routes {
    async fn join(
        &self,
        _: &str,
        _: SocketAddr,
        _: &[Role],
        _: Duration,
    ) -> Result<u64, PortError> {
        refused()
    }

    async fn renew(&self, _: &NodeKey, _: Duration) -> Result<bool, PortError> {
        refused()
    }

    async fn leave(&self, _: &NodeKey) -> Result<(), PortError> {
        refused()
    }

    async fn nodes(&self) -> Result<Vec<NodeLease>, PortError> {
        refused()
    }

    async fn register(
        &self,
        _: &NodeKey,
        _: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError> {
        refused()
    }

    async fn unregister(&self, _: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
        refused()
    }

    async fn routes(&self, devices: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError> {
        Ok(devices.iter().map(|device| self.0.route(*device)).collect())
    }

    async fn routes_of(&self, _: &NodeKey, _: usize) -> Result<Vec<RouteEntry>, PortError> {
        refused()
    }

    async fn claim_dead(&self, _: &str, _: Duration) -> Result<Option<NodeKey>, PortError> {
        refused()
    }

    async fn forget(&self, _: &NodeKey) -> Result<bool, PortError> {
        refused()
    }
}
