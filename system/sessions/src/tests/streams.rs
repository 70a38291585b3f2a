//! Registrations, displaced connections, unregistrations and store checks over real streams.
use chat_ports::streams::kinds::SessionsStream;
use chat_ports::streams::{Open as _, StreamSender, batching, kinds::SessionsUpItem};
use chat_protocol::DeviceId;
use chat_protocol::node::{Opener, Register, SessionsDown, SessionsUp, StoreCheck, Unregister};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::*;
use crate::{RouteCompare, start};

struct Bed {
    registry: Arc<Twin>,
    lease: watch::Sender<LeaseState>,
    addr: std::net::SocketAddr,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Bed {
    async fn start(compare: RouteCompare) -> Self {
        let registry = Arc::<Twin>::default();
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let timers = Timers { sweep: Duration::from_millis(20), ..Timers::DEFAULT };
        let (deps, lease) = deps(&registry, &timers, Policies { compare, ..Policies::default() });
        let handle = start(deps, &tracker, &shutdown);
        let listener = chat_ports::net::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tonic::transport::Server::builder().add_service(handle.service);
        let stop = shutdown.clone().cancelled_owned();
        tracker.spawn(async move { server.serve_with_incoming_shutdown(incoming, stop).await });
        Self { registry, lease, addr, tracker, shutdown }
    }

    /// The stream of one gateway.
    async fn gateway(&self, name: &str) -> Gateway {
        let channel = Endpoint::from_shared(format!("http://{}", self.addr))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let opener = Opener { node: name.to_owned(), node_epoch: 1 };
        let (up, batches, pump) = batching::<SessionsUp>(Some(opener));
        self.tracker.spawn(pump);
        let down = SessionsStream::open(channel, batches).await.unwrap();
        Gateway { up, down }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

struct Gateway {
    up: StreamSender<SessionsUp>,
    down: Streaming<SessionsDown>,
}

impl Gateway {
    fn say(&self, item: SessionsUpItem) {
        assert!(self.up.offer(item).is_ok());
    }

    fn register(&self, device: u64, conn: u64) {
        self.say(SessionsUpItem::Register(Register { device, conn }));
    }

    fn unregister(&self, device: u64, conn: u64, conn_epoch: u64) {
        self.say(SessionsUpItem::Unregister(Unregister { device, conn, conn_epoch }));
    }

    async fn hear(&mut self) -> SessionsDown {
        let heard = tokio::time::timeout(Duration::from_secs(10), self.down.message()).await;
        heard.expect("an answer").unwrap().unwrap()
    }

    /// Registers and answers the connection epoch.
    async fn registered(&mut self, device: u64, conn: u64) -> u64 {
        self.register(device, conn);
        let answer = self.hear().await;
        assert!(answer.registered[0].ok);
        answer.registered[0].conn_epoch
    }
}

#[tokio::test]
async fn a_newer_connection_displaces_the_older_on_another_node() {
    let bed = Bed::start(RouteCompare::Whole).await;
    let (mut first, mut second) = (bed.gateway("gateway-1").await, bed.gateway("gateway-2").await);
    let old = first.registered(256, 11).await;
    let new = second.registered(256, 22).await;
    assert!(new > old);
    let displaced = first.hear().await.displaced;
    assert_eq!((displaced[0].device, displaced[0].conn, displaced[0].conn_epoch), (256, 11, old));
    assert_eq!(&*bed.registry.route(DeviceId(256)).unwrap().node.name, "gateway-2");
}

#[tokio::test]
async fn a_connection_that_registers_again_displaces_nobody() {
    let bed = Bed::start(RouteCompare::Whole).await;
    let mut gateway = bed.gateway("gateway-1").await;
    gateway.registered(256, 11).await;
    gateway.register(256, 11);
    gateway.register(512, 12);
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let heard = gateway.hear().await;
        assert!(heard.displaced.is_empty());
        answers.extend(heard.registered);
    }
}

/// Registers a device twice on one node and once on another, and reports the route after the late close of each.
async fn late_closes(compare: RouteCompare) -> (bool, bool) {
    let bed = Bed::start(compare).await;
    let (mut first, mut second) = (bed.gateway("gateway-1").await, bed.gateway("gateway-2").await);
    let old = first.registered(256, 11).await;
    first.registered(256, 12).await;
    first.unregister(256, 11, old);
    // Answers come in order, so the close before it has had its effect.
    first.registered(512, 13).await;
    let kept_on_one_node = bed.registry.route(DeviceId(256)).is_some();
    let old = first.registered(768, 14).await;
    second.registered(768, 21).await;
    first.unregister(768, 14, old);
    loop {
        first.register(1_024, 15);
        if first.hear().await.registered.iter().any(|answer| answer.device == 1_024) {
            break;
        }
    }
    let kept_on_two_nodes = bed.registry.route(DeviceId(768)).is_some();
    (kept_on_one_node, kept_on_two_nodes)
}

#[tokio::test]
async fn a_late_close_never_removes_a_newer_route() {
    assert_eq!(late_closes(RouteCompare::Whole).await, (true, true));
}

#[tokio::test]
async fn comparing_less_than_the_whole_route_removes_newer_ones() {
    assert_eq!(late_closes(RouteCompare::NodeOnly).await, (false, true));
    assert_eq!(late_closes(RouteCompare::Nothing).await, (false, false));
}

#[tokio::test]
async fn a_registry_outage_refuses_registrations_and_keeps_unregistrations() {
    let bed = Bed::start(RouteCompare::Whole).await;
    let mut gateway = bed.gateway("gateway-1").await;
    let conn_epoch = gateway.registered(256, 11).await;
    bed.registry.set_out(true);
    gateway.unregister(256, 11, conn_epoch);
    gateway.register(512, 12);
    assert!(!gateway.hear().await.registered[0].ok);
    assert!(bed.registry.route(DeviceId(256)).is_some());
    bed.registry.set_out(false);
    until(|| bed.registry.route(DeviceId(256)).is_none()).await;
}

#[tokio::test]
async fn a_store_check_tells_an_outage_from_a_fault_even_while_registrations_hang() {
    let bed = Bed::start(RouteCompare::Whole).await;
    let mut gateway = bed.gateway("gateway-1").await;
    bed.registry.hang();
    gateway.register(256, 11);
    gateway.say(SessionsUpItem::Check(StoreCheck { id: 1 }));
    assert!(gateway.hear().await.seen[0].seen, "the own lease is fresh");
    bed.lease.send_modify(|lease| lease.lost = true);
    gateway.say(SessionsUpItem::Check(StoreCheck { id: 2 }));
    assert!(gateway.hear().await.seen[0].seen, "the registry itself answers");
    bed.registry.set_out(true);
    gateway.say(SessionsUpItem::Check(StoreCheck { id: 3 }));
    assert!(!gateway.hear().await.seen[0].seen);
}
