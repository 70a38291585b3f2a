//! CPU time of the proxy against a bare copy loop on the same links, in one run: `cargo bench -p storm-proxy --bench copy_ratio`.
//!
//! Frames of 300 bytes go singly through a relay to an echo and back, paced, over one connection and over fifty. The relay is the proxy
//! without toxics, or `tokio::io::copy_bidirectional` with the same buffer, or the same loop as two tasks; rounds alternate. Only the
//! relay's own thread is counted.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use storm_proxy::{Proxy, ProxyConfig, Rules};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const FRAME_BYTES: usize = 300;
const RATE_PER_S: u32 = 18_000;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const BUFFER_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relay {
    Proxy,
    CopyOneTask,
    CopyTwoTasks,
}

fn main() {
    println!(
        "CPU of the relay thread, µs an echo of {FRAME_BYTES} B, {RATE_PER_S}/s, median of {ROUNDS} rounds"
    );
    for connections in [1, 50] {
        let mut costs = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (slot, relay) in
                [Relay::CopyOneTask, Relay::CopyTwoTasks, Relay::Proxy].into_iter().enumerate()
            {
                costs[slot].push(round(relay, connections));
            }
        }
        let [one, two, proxy] = costs.map(|mut costs| {
            costs.sort_by(f64::total_cmp);
            costs[costs.len() / 2]
        });
        let ratio = proxy / one.min(two);
        println!(
            "{connections:>3} connections: copy loop, one task {one:.2}; copy loop, two tasks {two:.2}; proxy {proxy:.2}; ratio to the cheaper loop {ratio:.3}"
        );
    }
}

/// CPU time of the relay's thread an echo, in microseconds.
fn round(relay: Relay, connections: usize) -> f64 {
    let (echo_at, echo_address) = oneshot::channel();
    let (echo_stop, echo_stopped) = oneshot::channel::<()>();
    let echo = thread::spawn(move || runtime().block_on(echo(echo_at, echo_stopped)));
    let upstream = echo_address.blocking_recv().expect("the echo listens");
    let (relay_at, relay_address) = oneshot::channel();
    let (relay_stop, relay_stopped) = oneshot::channel::<()>();
    let relaying = thread::spawn(move || {
        runtime().block_on(async {
            let listener = match relay {
                Relay::Proxy => {
                    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
                    let config = ProxyConfig {
                        name: String::from("bench"),
                        listen,
                        upstream,
                        rules: Rules::neutral(),
                        seed: 1,
                        preamble: false,
                    };
                    let proxy = Proxy::start(config).await.expect("the proxy starts");
                    relay_at.send(proxy.control().listen_addr()).expect("the driver waits");
                    return measured(relay_stopped, proxy).await;
                }
                Relay::CopyOneTask | Relay::CopyTwoTasks => {
                    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
                }
            };
            relay_at.send(listener.local_addr().expect("bound")).expect("the driver waits");
            let mut tasks = JoinSet::new();
            tasks.spawn(copy(relay, listener, upstream));
            measured(relay_stopped, tasks).await
        })
    });
    let address = relay_address.blocking_recv().expect("the relay listens");
    let echoes = runtime().block_on(drive(address, connections));
    relay_stop.send(()).expect("the relay runs");
    let cpu = relaying.join().expect("the relay ends");
    echo_stop.send(()).expect("the echo runs");
    echo.join().expect("the echo ends");
    cpu.as_secs_f64() * 1e6 / f64::from(echoes)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// CPU time of this thread from now to the stop.
async fn measured<T>(stopped: oneshot::Receiver<()>, relay: T) -> Duration {
    let before = thread_cpu();
    stopped.await.expect("the driver says when");
    let spent = thread_cpu().saturating_sub(before);
    drop(relay);
    spent
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("CPU time is not negative")
}

async fn copy(relay: Relay, listener: TcpListener, upstream: SocketAddr) {
    let mut tasks = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.expect("a connection");
        let mut server = TcpStream::connect(upstream).await.expect("the echo takes it");
        client.set_nodelay(true).expect("a live socket");
        server.set_nodelay(true).expect("a live socket");
        if relay == Relay::CopyOneTask {
            tasks.spawn(async move {
                drop(
                    copy_bidirectional_with_sizes(
                        &mut client,
                        &mut server,
                        BUFFER_BYTES,
                        BUFFER_BYTES,
                    )
                    .await,
                );
            });
        } else {
            let (client_in, client_out) = client.into_split();
            let (server_in, server_out) = server.into_split();
            for (mut from, mut to) in [(client_in, server_out), (server_in, client_out)] {
                tasks.spawn(async move {
                    let mut buffer = vec![0; BUFFER_BYTES];
                    while let Ok(read @ 1..) = from.read(&mut buffer).await {
                        if to.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    }
}

async fn echo(at: oneshot::Sender<SocketAddr>, stopped: oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    at.send(listener.local_addr().expect("bound")).expect("the driver waits");
    let mut tasks = JoinSet::new();
    let serving = async {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            socket.set_nodelay(true).expect("a live socket");
            tasks.spawn(async move {
                let (mut from, mut to) = socket.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    };
    tokio::select! {
        () = serving => {}
        _ = stopped => {}
    }
}

/// Sends frames round robin at the rate, a tick a millisecond, and waits for every echo. Returns how many there were.
async fn drive(relay: SocketAddr, connections: usize) -> u32 {
    let mut writers = Vec::new();
    let mut readers = JoinSet::new();
    let ticks = u32::try_from(ROUND.as_millis()).expect("a short round");
    let frames = ticks * (RATE_PER_S / 1_000);
    let each = usize::try_from(frames).expect("a short round") / connections;
    for _ in 0..connections {
        let socket = TcpStream::connect(relay).await.expect("the relay takes it");
        socket.set_nodelay(true).expect("a live socket");
        let (mut from, to) = socket.into_split();
        writers.push(to);
        readers.spawn(async move {
            let mut frame = [0; FRAME_BYTES];
            for _ in 0..each {
                from.read_exact(&mut frame).await.expect("every frame comes back");
            }
        });
    }
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut order = (0..connections).cycle();
    let mut left = each * connections;
    while 0 < left {
        tick.tick().await;
        // Spread within the tick, so that frames of one connection do not merge into one read.
        for _ in 0..(RATE_PER_S / 1_000).min(u32::try_from(left).expect("a short round")) {
            let to = order.next().expect("a cycle has no end");
            writers[to].write_all(&[7; FRAME_BYTES]).await.expect("the relay reads");
            left -= 1;
            tokio::task::yield_now().await;
        }
    }
    readers.join_all().await;
    u32::try_from(each * connections).expect("a short round")
}
