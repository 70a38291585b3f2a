//! A chat server of one thread, for stories over real sockets and for benchmarks: it keeps everything in memory, answers at
//! once and forgets nothing. `/echo` sends every frame back as it came.
#![expect(clippy::unwrap_used, reason = "a test server that fails ends the test")]
#![expect(clippy::panic, reason = "a plan that is wrong or a wait without end ends the test")]
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use chat_client::Policies;
use chat_protocol::codec::Codec;
use chat_protocol::frame::{
    CaughtUp, ClientFrame, Deliver, Receipt, ResumeOutcome, Sent, ServerFrame, Welcome,
};
use chat_protocol::limits::Timers;
use chat_protocol::rest::{MessagePage, PageMessage, TokenAnswer, TokenRequest};
use chat_protocol::{ConvId, DeviceId, fold};
use futures_util::{SinkExt, StreamExt};
use storm_load::{Engine, EngineConfig, Entries, RunClock, Stats};
use storm_workload::document::{Document, SourceText};
use storm_workload::{Overrides, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::task::TaskTracker;

/// Frames that may wait for one connection.
const OUT_MAX: usize = 4_096;

#[derive(Default)]
struct DeviceQueue {
    next: u64,
    items: VecDeque<(u64, ServerFrame)>,
    conn: Option<Sender<ServerFrame>>,
    conn_epoch: u64,
}

#[derive(Default)]
struct Chat {
    devices: BTreeMap<DeviceId, DeviceQueue>,
    history: BTreeMap<ConvId, Vec<PageMessage>>,
    deliver: bool,
    epochs: u64,
}

/// A running server.
pub(crate) struct Stub {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Each word cuts every chat connection without a close frame.
    pub(crate) cut: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Stub {
    /// Starts the thread; without `deliver` sends are answered and go nowhere.
    pub(crate) fn start(deliver: bool) -> Self {
        let (told, address) = mpsc::sync_channel(1);
        let (cut, cuts) = channel(4);
        let thread = std::thread::Builder::new()
            .name("stub".to_owned())
            .spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                LocalSet::new().block_on(&runtime, async move {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    told.send(listener.local_addr().unwrap()).unwrap();
                    serve(listener, deliver, cuts).await;
                });
            })
            .unwrap();
        Self { address: address.recv().unwrap(), cut, thread }
    }

    /// Ends the server.
    pub(crate) fn stop(self) {
        drop(self.cut);
        self.thread.join().unwrap();
    }
}

/// An engine with this plan whose devices talk to `address`.
pub(crate) fn engine(
    address: SocketAddr,
    plan: &str,
    shards: u32,
    timers: &Timers,
    policies: Policies,
) -> (Engine, RunClock) {
    let doc = Document::read(&SourceText::new("t.yaml", plan))
        .unwrap_or_else(|errors| panic!("{errors}"));
    let (plan, _) = Plan::resolve_document(&doc, &Overrides::default(), &[])
        .unwrap_or_else(|errors| panic!("{errors}"));
    let clock = RunClock::start();
    let config = EngineConfig {
        plan: Arc::new(plan),
        shards,
        entries: Entries { addresses: vec![address], ahead: None },
        timers: *timers,
        policies,
        run_id: "t".to_owned(),
        clock,
        on_thread: None,
    };
    (Engine::start(&config).unwrap(), clock)
}

/// Waits half a minute at most.
#[expect(clippy::disallowed_methods, reason = "it waits for other threads")]
pub(crate) fn until(engine: &Engine, what: &str, holds: impl Fn(&Stats) -> bool) {
    for _ in 0..600 {
        if holds(&engine.stats()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never {what}: {:?}", engine.stats());
}

async fn serve(listener: TcpListener, deliver: bool, mut cuts: Receiver<()>) {
    let chat = Rc::new(RefCell::new(Chat { deliver, ..Chat::default() }));
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            stream = listener.accept() => {
                let (stream, _) = stream.unwrap();
                drop(tasks.spawn_local(connection(stream, Rc::clone(&chat))));
            }
            cut = cuts.recv() => {
                if cut.is_none() {
                    return;
                }
                for device in chat.borrow_mut().devices.values_mut() {
                    device.conn = None;
                }
            }
        }
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(16 * 1024)
}

async fn connection(stream: TcpStream, chat: Rc<RefCell<Chat>>) {
    stream.set_nodelay(true).unwrap();
    let mut head = [0; 16];
    loop {
        match stream.peek(&mut head).await {
            Ok(n) if n >= 10 => break,
            Ok(n) if n > 0 => tokio::task::yield_now().await,
            _ => return,
        }
    }
    if head.starts_with(b"GET /v1/ws") {
        talk(stream, chat).await;
    } else if head.starts_with(b"GET /echo ") {
        echo(stream).await;
    } else {
        rest(stream, chat).await;
    }
}

async fn echo(stream: TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config())).await
    else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn rest(mut stream: TcpStream, chat: Rc<RefCell<Chat>>) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|t| t.split("\r\n").next()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while bytes.len() < end + 4 + length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body: Vec<u8> = bytes.drain(..end + 4 + length).skip(end + 4).collect();
        let answer = if head.starts_with("post /v1/tokens ") {
            let ask: TokenRequest = serde_json::from_slice(&body).unwrap();
            chat.borrow_mut().devices.entry(ask.device).or_default();
            serde_json::to_vec(&TokenAnswer {
                token: ask.device.0.to_string(),
                device: ask.device,
                class: ask.class,
                expires_ms: u64::MAX,
            })
            .unwrap()
        } else {
            let path = head.split(' ').nth(1).unwrap();
            let conv: ConvId = path.split('/').nth(3).unwrap().parse().unwrap();
            let after: u64 =
                path.split("after=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
            let chat = chat.borrow();
            let rows = chat.history.get(&conv).map_or(&[][..], |rows| rows);
            let messages = rows.iter().filter(|row| row.cseq > after).take(200).cloned().collect();
            serde_json::to_vec(&MessagePage { conv, messages }).unwrap()
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(&[head.as_bytes(), &answer].concat()).await.is_err() {
            return;
        }
    }
}

#[expect(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    reason = "the signature is the library's"
)]
fn accept(
    request: &Request,
    mut response: Response,
) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    let protocol = request.headers()["sec-websocket-protocol"].clone();
    response.headers_mut().insert("sec-websocket-protocol", protocol);
    Ok(response)
}

async fn talk(stream: TcpStream, chat: Rc<RefCell<Chat>>) {
    let accepted =
        tokio_tungstenite::accept_hdr_async_with_config(stream, accept, Some(config())).await;
    let Ok(mut socket) = accepted else { return };
    let Some(Ok(Message::Binary(bytes))) = socket.next().await else { return };
    let Ok(ClientFrame::Hello(hello)) = Codec::MessagePack.decode(&bytes) else { return };
    let (conn, mut out) = channel(OUT_MAX);
    let epoch = {
        let mut chat = chat.borrow_mut();
        chat.epochs += 1;
        let epoch = chat.epochs;
        let device = chat.devices.entry(hello.device).or_default();
        let cursor = hello.resume.map_or(0, |resume| resume.dseq);
        device.items.retain(|(dseq, _)| *dseq > cursor);
        let resume = if hello.resume.is_some() { ResumeOutcome::Ok } else { ResumeOutcome::New };
        let next_dseq = device.items.front().map_or(device.next, |(dseq, _)| *dseq - 1) + 1;
        let welcome = Welcome {
            conn_epoch: epoch,
            node: "gateway-1".to_owned(),
            resume,
            epoch: 1,
            next_dseq,
            hb_ms: 25_000,
            max_unacked: 256,
            reconnect_window_ms: 100,
            server_ms: 1_700_000_000_000,
        };
        conn.try_send(ServerFrame::Welcome(welcome)).unwrap();
        for (_, item) in &device.items {
            conn.try_send(item.clone()).unwrap();
        }
        conn.try_send(ServerFrame::CaughtUp(CaughtUp { dseq: device.next })).unwrap();
        device.conn = Some(conn);
        device.conn_epoch = epoch;
        epoch
    };
    loop {
        tokio::select! {
            biased;
            frame = out.recv() => {
                // Without a sender the connection is cut.
                let Some(frame) = frame else { return };
                let mut next = Some(frame);
                while let Some(frame) = next {
                    let bytes = Codec::MessagePack.encode(&frame).unwrap();
                    if socket.feed(Message::Binary(bytes)).await.is_err() {
                        return;
                    }
                    next = out.try_recv().ok();
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
            message = socket.next() => {
                let Some(Ok(message)) = message else { break };
                if let Message::Binary(bytes) = message {
                    let frame = Codec::MessagePack.decode(&bytes).unwrap();
                    chat.borrow_mut().take(hello.device, frame);
                }
            }
        }
    }
    let mut chat = chat.borrow_mut();
    if let Some(device) =
        chat.devices.get_mut(&hello.device).filter(|device| device.conn_epoch == epoch)
    {
        device.conn = None;
    }
}

impl Chat {
    fn take(&mut self, from: DeviceId, frame: ClientFrame) {
        match frame {
            ClientFrame::Send(send) => {
                let history = self.history.entry(send.conv).or_default();
                let known =
                    history.iter().find(|row| row.cid == send.cid).map(|row| (row.mid, row.cseq));
                let (mid, cseq) = known.unwrap_or_else(|| {
                    let cseq = history.last().map_or(0, |row| row.cseq) + 1;
                    let mid = fold::mid_from_bits(
                        u128::from(send.conv.hash64()) << 64 | u128::from(cseq),
                    );
                    let body = if self.deliver { send.body.clone() } else { bytes::Bytes::new() };
                    history.push(PageMessage {
                        cseq,
                        mid,
                        cid: send.cid,
                        from: from.user(),
                        from_device: from,
                        kind: send.kind,
                        body,
                        client_ms: send.client_ms,
                        server_ms: 0,
                    });
                    if !self.deliver {
                        // Only the newest is kept: a benchmark sends without end.
                        let older = history.len() - 1;
                        history.drain(..older);
                    }
                    (mid, cseq)
                });
                self.push(
                    from,
                    ServerFrame::Sent(Sent {
                        cid: send.cid,
                        mid,
                        cseq,
                        server_ms: 0,
                        dup: known.is_some(),
                    }),
                );
                if !self.deliver || known.is_some() {
                    return;
                }
                let (low, high) = send.conv.users();
                for user in [low, high] {
                    for device in
                        (0..=15).map(|index| user.device(index)).filter(|device| *device != from)
                    {
                        self.enqueue(device, |dseq| {
                            let body = send.body.clone();
                            let (conv, kind) = (send.conv, send.kind);
                            ServerFrame::Deliver(Deliver {
                                dseq,
                                mid,
                                conv,
                                cseq,
                                from: from.user(),
                                from_device: from,
                                kind,
                                body,
                            })
                        });
                    }
                }
            }
            ClientFrame::Ack(ack) => {
                let Some(device) = self.devices.get_mut(&from) else { return };
                let mut marks = BTreeMap::new();
                device.items.retain(|(dseq, item)| {
                    if let ServerFrame::Deliver(deliver) = item
                        && *dseq <= ack.dseq
                        && deliver.from != from.user()
                    {
                        marks.insert(deliver.conv, deliver.cseq);
                    }
                    *dseq > ack.dseq
                });
                for (conv, delivered) in marks {
                    let Some(peer) = conv.peer(from.user()) else { continue };
                    for device in (0..=15).map(|index| peer.device(index)) {
                        let who = from.user();
                        self.enqueue(device, |dseq| {
                            ServerFrame::Receipt(Receipt { dseq, conv, who, delivered })
                        });
                    }
                }
            }
            ClientFrame::Ping(beat) => self.push(from, ServerFrame::Pong(beat)),
            ClientFrame::Hello(_) | ClientFrame::Pong(_) => {}
        }
    }

    fn enqueue(&mut self, device: DeviceId, item: impl FnOnce(u64) -> ServerFrame) {
        let Some(queue) = self.devices.get_mut(&device) else { return };
        queue.next += 1;
        let item = item(queue.next);
        queue.items.push_back((queue.next, item.clone()));
        self.push(device, item);
    }

    fn push(&mut self, device: DeviceId, frame: ServerFrame) {
        let Some(queue) = self.devices.get_mut(&device) else { return };
        if let Some(conn) = &queue.conn
            && conn.try_send(frame).is_err()
        {
            queue.conn = None;
        }
    }
}
