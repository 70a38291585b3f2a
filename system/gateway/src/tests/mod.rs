//! Stories of a gateway between real sockets and services that are played by the test.
mod delivering;
mod edge;
mod joining;
mod leaving;
mod played;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_ports::clock::SteadyClock;
use chat_ports::net;
use chat_ports::nodes::{LeaseState, LiveNode, NodeTable, NodeView};
use chat_ports::observe::Observer;
use chat_ports::registry::{NodeKey, NodeLease, Role};
use chat_protocol::codec::Codec;
use chat_protocol::frame::{
    Ack, Beat, ClientFrame, Cursor, DeviceClass, Hello, PROTO, ServerFrame, Welcome,
};
use chat_protocol::limits::Timers;
use chat_protocol::token::TokenKey;
use chat_protocol::{ConvId, DeviceId, UserId};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::deps::{Deps, Limits, Policies};
use crate::node::{Gateway, start};
use played::Played;

/// No story waits longer than this for anything; it only bounds a failure.
const LIMIT: Duration = Duration::from_secs(10);

/// A gateway with its played services.
struct Bed {
    addr: SocketAddr,
    gateway: Gateway,
    services: Arc<Played>,
    observer: Observer,
    lease: watch::Sender<LeaseState>,
    key: TokenKey,
    _table: watch::Sender<Arc<NodeTable>>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

/// What a story changes before the start.
struct Setup {
    timers: Timers,
    limits: Limits,
    policies: Policies,
}

impl Default for Setup {
    fn default() -> Self {
        Self { timers: Timers::DEFAULT, limits: Limits::default(), policies: Policies::default() }
    }
}

impl Bed {
    async fn start(setup: Setup) -> Self {
        let (tracker, of_services) = (TaskTracker::new(), TaskTracker::new());
        let shutdown = CancellationToken::new();
        let services = Arc::new(Played::default());
        let services_addr = services.listen(&of_services, &shutdown).await;
        let listener = net::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let node = |name: &str, addr, roles: &[Role]| NodeLease {
            key: NodeKey { name: name.into(), epoch: 1 },
            addr,
            roles: roles.to_vec(),
            left: Some(Duration::from_secs(7)),
        };
        let table = NodeTable::of(vec![
            node("gateway-1", addr, &[Role::Gateway]),
            node("services-1", services_addr, &Role::SERVICES),
        ]);
        assert!(matches!(table.with(Role::Relay)[..], [LiveNode { .. }]));
        let (table, table_view) = watch::channel(Arc::new(table));
        let (lease, lease_view) =
            watch::channel(LeaseState { renewed: Instant::now(), lost: false });
        let clock = Arc::new(SteadyClock::new(1_700_000_000_000));
        let observer = Observer::new(Arc::<SteadyClock>::clone(&clock));
        let key = TokenKey::new([7; 32]);
        let deps = Deps {
            view: NodeView {
                key: NodeKey { name: "gateway-1".into(), epoch: 1 },
                table: table_view,
                lease: lease_view,
            },
            clock,
            timers: setup.timers,
            observer: observer.clone(),
            token_key: key.clone(),
            tables: Arc::<played::Directory>::default(),
            partitions: 4,
            seed: 1,
            limits: setup.limits,
            policies: setup.policies,
        };
        let gateway = start(listener, deps, &tracker, &shutdown);
        let bed = Self {
            addr,
            gateway,
            services,
            observer,
            lease,
            key,
            _table: table,
            tracker,
            shutdown,
        };
        until(|| bed.gateway.is_ready()).await;
        bed
    }

    fn token(&self, device: DeviceId) -> String {
        self.key.sign(device, 1_800_000_000)
    }

    /// A connection that has not said hello.
    async fn connect(&self, codec: Codec) -> Phone {
        let mut request = format!("ws://{}/v1/ws", self.addr).into_client_request().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", codec.subprotocol().parse().unwrap());
        let (socket, _) = timeout(LIMIT, connect_async(request)).await.unwrap().unwrap();
        Phone { socket, codec }
    }

    /// A connection of a device, welcomed.
    async fn join(&self, device: DeviceId, resume: Option<Cursor>) -> (Phone, Welcome) {
        let mut phone = self.connect(Codec::MessagePack).await;
        phone.say(&self.hello(device, resume)).await;
        let ServerFrame::Welcome(welcome) = phone.hear().await else { panic!("no welcome") };
        (phone, welcome)
    }

    fn hello(&self, device: DeviceId, resume: Option<Cursor>) -> ClientFrame {
        let token = self.token(device);
        ClientFrame::Hello(Hello {
            token,
            device,
            class: DeviceClass::Mobile,
            proto: PROTO,
            resume,
        })
    }

    fn count(&self, name: &str) -> u64 {
        self.observer.counter(name).get()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A client's end.
struct Phone {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    codec: Codec,
}

impl Phone {
    async fn say(&mut self, frame: &ClientFrame) {
        let bytes = self.codec.encode(frame).unwrap();
        let message = match self.codec {
            Codec::MessagePack => Message::Binary(bytes),
            Codec::Json => Message::Text(String::from_utf8(bytes.to_vec()).unwrap().into()),
        };
        self.socket.send(message).await.unwrap();
    }

    async fn ack(&mut self, dseq: u64) {
        self.say(&ClientFrame::Ack(Ack { dseq })).await;
    }

    async fn next(&mut self) -> Option<Message> {
        timeout(LIMIT, self.socket.next())
            .await
            .expect("the gateway says something")
            .and_then(Result::ok)
    }

    /// The next frame; pings are answered and not shown.
    async fn hear(&mut self) -> ServerFrame {
        loop {
            let frame = match self.next().await.expect("a frame") {
                Message::Binary(bytes) => self.codec.decode(&bytes).unwrap(),
                Message::Text(text) => self.codec.decode(text.as_bytes()).unwrap(),
                other => panic!("not a frame: {other:?}"),
            };
            match frame {
                ServerFrame::Ping(Beat { t_ms }) => {
                    self.say(&ClientFrame::Pong(Beat { t_ms })).await;
                }
                frame => return frame,
            }
        }
    }

    /// The close code; frames before it are skipped.
    async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(Message::Close(None)) | None => return 1006,
                Some(_) => {}
            }
        }
    }

    /// Positions of the next `count` items.
    async fn positions(&mut self, count: usize) -> Vec<u64> {
        let mut positions = Vec::new();
        while positions.len() < count {
            if let ServerFrame::Deliver(item) = self.hear().await {
                positions.push(item.dseq);
            }
        }
        positions
    }
}

/// Waits until something is so.
async fn until(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, wait).await.expect("it becomes so");
}

fn device(user: u64) -> DeviceId {
    UserId(user).device(0)
}

fn conv(a: u64, b: u64) -> ConvId {
    ConvId::direct(UserId(a), UserId(b)).unwrap()
}
