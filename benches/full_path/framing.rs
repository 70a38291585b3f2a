//! The framing-only limit: a WebSocket relay that stores nothing and looks at nothing but one byte a frame.
//!
//! Pairs of devices send to each other; the relay answers every message, forwards it, and turns the recipient's ack into a
//! receipt, so a message costs the same five frames as in the chat system. What is left out is what the chat system adds:
//! codec, sealing, order, durability, history. Both ends run flat out for a fixed time on one thread each.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

/// Messages a device keeps under way.
const UNDER_WAY: usize = 4;
/// Bytes of a message frame with a 200-byte body, as measured of the real codec.
const MESSAGE_BYTES: usize = 290;
/// Bytes of an answer, ack or receipt.
const SMALL_BYTES: usize = 60;
/// Frames that wait for one socket.
const WAITING: usize = 256;

const SEND: u8 = 0;
const SENT: u8 = 1;
const DELIVER: u8 = 2;
const ACK: u8 = 3;
const RECEIPT: u8 = 4;

/// What the relay carried.
pub(crate) struct Outcome {
    /// Messages forwarded.
    pub(crate) messages: u64,
    /// CPU time of both ends together.
    pub(crate) cpu: Duration,
    /// How long it ran.
    pub(crate) wall: Duration,
}

fn settings() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(128 * 1024))
}

fn frame(kind: u8, bytes: usize) -> Bytes {
    let mut frame = vec![0; bytes];
    frame[0] = kind;
    frame.into()
}

/// Runs the relay with `sockets` devices for `time`.
pub(crate) fn run(sockets: usize, time: Duration) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let forwarded = Arc::new(AtomicU64::new(0));
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let server = {
        let (stop, forwarded) = (Arc::clone(&stop), Arc::clone(&forwarded));
        std::thread::spawn(move || on_thread(serve(sockets, stop, forwarded, ready)))
    };
    let addr = is_ready.recv().expect("the relay listens");
    let client = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || on_thread(drive(addr, sockets, stop)))
    };
    // Connects and warms up first, measures after.
    let pause = Duration::from_secs(2)
        + Duration::from_micros(300) * u32::try_from(sockets).expect("few sockets");
    wait(pause);
    let (cpu, messages, began) =
        (crate::process_cpu(), forwarded.load(Relaxed), tokio::time::Instant::now());
    wait(time);
    let outcome = Outcome {
        messages: forwarded.load(Relaxed) - messages,
        cpu: crate::process_cpu().saturating_sub(cpu),
        wall: began.elapsed(),
    };
    stop.store(true, Relaxed);
    client.join().expect("the client ends");
    server.join().expect("the relay ends");
    outcome
}

#[expect(clippy::disallowed_methods, reason = "the measuring thread has nothing to do but wait")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

fn on_thread(future: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, future);
    runtime.shutdown_background();
}

async fn serve(
    sockets: usize,
    stop: Arc<AtomicBool>,
    forwarded: Arc<AtomicU64>,
    ready: std::sync::mpsc::SyncSender<SocketAddr>,
) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    ready.send(listener.local_addr().expect("a bound listener")).expect("the caller waits");
    let (senders, mut receivers): (Vec<_>, Vec<_>) =
        (0..sockets).map(|_| mpsc::channel(WAITING)).unzip();
    let senders = Arc::new(senders);
    receivers.reverse();
    let accept = async {
        for device in 0..sockets {
            let (stream, _) = listener.accept().await.expect("a device connects");
            let (senders, forwarded) = (Arc::clone(&senders), Arc::clone(&forwarded));
            let outbound = receivers.pop().expect("one a device");
            tokio::task::spawn_local(async move {
                stream.set_nodelay(true).expect("a TCP option");
                let socket =
                    accept_async_with_config(stream, Some(settings())).await.expect("a handshake");
                relay(socket, device, &senders, outbound, &forwarded).await;
            });
        }
    };
    accept.await;
    until(&stop).await;
}

async fn relay(
    mut socket: WebSocketStream<TcpStream>,
    device: usize,
    senders: &[mpsc::Sender<Bytes>],
    mut outbound: mpsc::Receiver<Bytes>,
    forwarded: &AtomicU64,
) {
    let peer = &senders[device ^ 1];
    let (sent, receipt) = (frame(SENT, SMALL_BYTES), frame(RECEIPT, SMALL_BYTES));
    let mut batch = Vec::with_capacity(64);
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(Ok(Message::Binary(bytes))) = message else { return };
                match bytes.first() {
                    Some(&SEND) => {
                        forwarded.fetch_add(1, Relaxed);
                        let mut forward = Vec::with_capacity(bytes.len());
                        forward.push(DELIVER);
                        forward.extend_from_slice(&bytes[1..]);
                        drop(peer.try_send(forward.into()));
                        drop(senders[device].try_send(sent.clone()));
                    }
                    Some(&ACK) => drop(peer.try_send(receipt.clone())),
                    _ => return,
                }
            }
            got = outbound.recv_many(&mut batch, 64) => {
                if got == 0 { return }
                for bytes in batch.drain(..) {
                    if socket.feed(Message::Binary(bytes)).await.is_err() { return }
                }
                if socket.flush().await.is_err() { return }
            }
        }
    }
}

async fn drive(addr: SocketAddr, sockets: usize, stop: Arc<AtomicBool>) {
    for _ in 0..sockets {
        let stream = TcpStream::connect(addr).await.expect("the relay accepts");
        stream.set_nodelay(true).expect("a TCP option");
        let url = format!("ws://{addr}/");
        let (socket, _) =
            client_async_with_config(url, stream, Some(settings())).await.expect("a handshake");
        tokio::task::spawn_local(device(socket));
    }
    until(&stop).await;
}

async fn device(mut socket: WebSocketStream<TcpStream>) {
    let (send, ack) = (frame(SEND, MESSAGE_BYTES), frame(ACK, SMALL_BYTES));
    for _ in 0..UNDER_WAY {
        if socket.feed(Message::Binary(send.clone())).await.is_err() {
            return;
        }
    }
    if socket.flush().await.is_err() {
        return;
    }
    loop {
        let Some(Ok(Message::Binary(bytes))) = socket.next().await else { return };
        let answer = match bytes.first() {
            Some(&DELIVER) => &ack,
            Some(&RECEIPT) => &send,
            _ => continue,
        };
        if socket.send(Message::Binary(answer.clone())).await.is_err() {
            return;
        }
    }
}

async fn until(stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
