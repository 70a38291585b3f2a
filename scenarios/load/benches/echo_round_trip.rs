//! CPU of a round trip (send and `sent`) at 18,000 a second over 2,000 sockets: the engine against a bare tokio-tungstenite
//! probe, both against the same kind of server in the same run, in CPU time of their own threads.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no figure")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use chat_client::{Policies, Seal};
use chat_protocol::limits::Timers;
use futures_util::{SinkExt, StreamExt};
use storm_load::Stats;
use support::{Stub, until};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::task::TaskTracker;

const SOCKETS: u32 = 2_000;
const RATE: u32 = 18_000;
const SECONDS: u32 = 10;
/// Bytes of a frame that the engine writes for its 48-byte body.
const FRAME: usize = 200;

/// What one side spent.
struct Spent {
    /// CPU of all its threads.
    ns: u64,
    /// Round trips in the same time.
    trips: u64,
}

impl Spent {
    fn us(&self) -> f64 {
        self.ns as f64 / 1_000.0 / self.trips.max(1) as f64
    }
}

fn main() {
    let probe = probe();
    println!("probe: {:.2} us CPU a round trip ({} round trips)", probe.us(), probe.trips);
    for (name, seal) in [("plain", Seal::Off), ("sealed", Seal::Envelope([7; 32]))] {
        let engine = engine(seal);
        let (us, trips) = (engine.us(), engine.trips);
        println!("engine, {name}: {us:.2} us CPU a round trip ({trips} round trips)");
        println!("ratio, {name}: {:.2} (bound 1.25)", us / probe.us());
    }
}

/// Nanoseconds of CPU that threads of this process spent whose names start with `prefix`.
fn cpu_ns(prefix: &str) -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            total += stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    total
}

#[expect(clippy::disallowed_methods, reason = "the main thread waits for others")]
fn sleep(seconds: u32) {
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
}

fn probe() -> Spent {
    let stub = Stub::start(false);
    let address = stub.address;
    let (told, ready) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let echoes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&echoes);
    let thread = std::thread::Builder::new().name("probe".to_owned());
    let thread = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, probing(address, seen, told, stopped));
    });
    let thread = thread.unwrap();
    ready.recv().unwrap();
    sleep(1);
    let (before, first) = (cpu_ns("probe"), echoes.load(Relaxed));
    sleep(SECONDS);
    let spent = Spent { ns: cpu_ns("probe") - before, trips: echoes.load(Relaxed) - first };
    stop.send(()).unwrap();
    thread.join().unwrap();
    stub.stop();
    spent
}

async fn probing(
    address: SocketAddr,
    echoes: Arc<AtomicU64>,
    told: std::sync::mpsc::SyncSender<()>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(16 * 1024);
    let tasks = TaskTracker::new();
    let mut senders = Vec::new();
    for _ in 0..SOCKETS {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let url = "ws://probe/echo";
        let (mut socket, _) =
            tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await.unwrap();
        let (sender, mut due) = tokio::sync::mpsc::channel::<Message>(256);
        senders.push(sender);
        let echoes = Arc::clone(&echoes);
        drop(tasks.spawn_local(async move {
            loop {
                tokio::select! {
                    message = due.recv() => {
                        let Some(message) = message else { return };
                        if socket.send(message).await.is_err() {
                            return;
                        }
                    }
                    echo = socket.next() => {
                        if !matches!(echo, Some(Ok(_))) {
                            return;
                        }
                        echoes.fetch_add(1, Relaxed);
                    }
                }
            }
        }));
    }
    told.send(()).unwrap();
    let body = bytes::Bytes::from(vec![7_u8; FRAME]);
    let start = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let mut sent = 0_u64;
    loop {
        tick.tick().await;
        if stopped.try_recv().is_ok() {
            return;
        }
        let due = u64::try_from(start.elapsed().as_micros()).unwrap() * u64::from(RATE) / 1_000_000;
        while sent < due {
            // A stride that visits all sockets and no two neighbours at once.
            let at = usize::try_from(sent * 7_919 % u64::from(SOCKETS)).unwrap();
            drop(senders[at].try_send(Message::Binary(body.clone())));
            sent += 1;
        }
    }
}

fn engine(seal: Seal) -> Spent {
    let text = format!(
        "format: 1\nname: t\nseed: 3\n\
         population: {{users: {SOCKETS}, community: 500, online: 1.0, devices: {{1: 1.0}}}}\n\
         sessions: {{connect: 2k/s}}\n\
         streams: {{chat: {{rate: {RATE}/s, arrival: poisson, deadline: 10s, payload: {{const: 48B}}}}}}\n\
         phases: [{{name: steady, role: steady, for: 60s, load: {{hold: 1.0}}}}, \
         {{name: drain, role: drain, until: settled, limit: 10s}}]\n"
    );
    let stub = Stub::start(false);
    let policies = Policies { seal, ..Policies::default() };
    let (engine, clock) = support::engine(stub.address, &text, 1, &Timers::DEFAULT, policies);
    engine.provision();
    until(&engine, "provisioned", |stats| stats.provisioned >= u64::from(SOCKETS));
    engine.connect();
    until(&engine, "connected (are there descriptors for all sockets?)", Stats::all_connected);
    engine.begin_phase(0, clock.now_ns());
    sleep(1);
    let figures = || (cpu_ns("storm-io"), cpu_ns("storm-sched"), engine.stats());
    let (io, scheduler, before) = figures();
    sleep(SECONDS);
    let (io_end, scheduler_end, stats) = figures();
    let (io, scheduler) = (io_end - io, scheduler_end - scheduler);
    let spent = Spent { ns: io + scheduler, trips: stats.accepted - before.accepted };
    println!(
        "  of it scheduler {:.2} us; lag p99 {} us, in flight {}, dropped {}",
        scheduler as f64 / 1_000.0 / spent.trips.max(1) as f64,
        stats.lag_p99_ns / 1_000,
        stats.in_flight,
        stats.dropped
    );
    drop(engine.stop());
    stub.stop();
    spent
}
