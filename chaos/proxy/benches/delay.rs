//! What the delay line gives for what it was asked: `cargo bench -p storm-proxy --bench delay`.
//!
//! 100 ms injected at 5,000 frames a second (bound: p99 104 ms); 3,000 frames at 500 a second while the delay goes from 100 to 0 to 50 ms
//! (bound: none lost, none moved); the time until a change is in force on 200 connections under traffic (bound: 50 ms).
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::SocketAddr;
use std::time::Duration;

use storm_proxy::{Latency, ProxyConfig, ProxyControl, ProxySet, Rules, Stream, Toxic, ToxicKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::{Instant, MissedTickBehavior, interval};

const FRAME_BYTES: usize = 16;

fn main() {
    let set = ProxySet::start().expect("the thread starts");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let config = ProxyConfig {
            name: String::from("bench"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            upstream: listener.local_addr().expect("bound"),
            rules: Rules::neutral(),
            seed: 1,
            preamble: false,
        };
        let control = set.handle().add(config).await.expect("the proxy starts");
        steady(&control, &listener).await;
        changing(&control, &listener).await;
        change_in_force(&control, &listener).await;
        set.handle().shutdown().await;
    });
    set.shutdown();
}

async fn pair(control: &ProxyControl, listener: &TcpListener) -> (OwnedWriteHalf, OwnedReadHalf) {
    let client = TcpStream::connect(control.listen_addr()).await.expect("the proxy takes it");
    client.set_nodelay(true).expect("a live socket");
    let (server, _) = listener.accept().await.expect("the proxy dials");
    (client.into_split().1, server.into_split().0)
}

fn set_latency(control: &ProxyControl, ms: u64) -> u64 {
    let latency = Latency::fixed(Duration::from_millis(ms));
    control
        .put_toxic(Toxic::new("slow", ToxicKind::Latency(latency)).on(Stream::Up))
        .expect("good rules")
}

async fn steady(control: &ProxyControl, listener: &TcpListener) {
    control.applied(set_latency(control, 100)).await.expect("in force");
    let delays =
        stream(pair(control, listener).await, 25_000, Duration::from_micros(200), |_| ()).await;
    report("100 ms at 5,000/s, bound p99 104 ms", &delays);
    let up = control.counters().up;
    println!(
        "  by the proxy's own figures: mean {:?}, longest {:?}, line full {}",
        up.delay_given_mean(),
        up.delay_given_max,
        up.line_full
    );
}

async fn changing(control: &ProxyControl, listener: &TcpListener) {
    control.applied(set_latency(control, 100)).await.expect("in force");
    let delays = stream(pair(control, listener).await, 3_000, Duration::from_millis(2), |number| {
        if let Some((_, ms)) = [(1_000, 0), (2_000, 50)].into_iter().find(|(at, _)| *at == number) {
            set_latency(control, ms);
        }
    })
    .await;
    report("100 -> 0 -> 50 ms at 500/s, bound 3,000 of 3,000 in order", &delays);
}

async fn change_in_force(control: &ProxyControl, listener: &TcpListener) {
    control.applied(set_latency(control, 100)).await.expect("in force");
    let mut pairs = Vec::new();
    for _ in 0..200 {
        pairs.push(pair(control, listener).await);
    }
    let mut longest = (Duration::ZERO, Duration::ZERO);
    for ms in [100, 0, 50, 100, 0, 20, 0, 100] {
        for (writer, _) in &mut pairs {
            writer.write_all(&[7; 200]).await.expect("the proxy reads");
        }
        let start = Instant::now();
        let generation = set_latency(control, ms);
        longest.0 = longest.0.max(start.elapsed());
        control.applied(generation).await.expect("in force");
        longest.1 = longest.1.max(start.elapsed());
    }
    println!(
        "change on 200 connections under traffic: call returned in {:?}, in force in {:?}, bound 50 ms",
        longest.0, longest.1
    );
}

/// Sends numbered frames at a pace and returns how long each took, in order of arrival, which must be the order of sending.
async fn stream(
    (mut to, mut from): (OwnedWriteHalf, OwnedReadHalf),
    frames: u64,
    gap: Duration,
    at: impl Fn(u64),
) -> Vec<Duration> {
    let start = Instant::now();
    let sending = async {
        let mut tick = interval(gap.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut number = 0;
        while number < frames {
            tick.tick().await;
            let due = start.elapsed();
            while number < frames && gap * u32::try_from(number).expect("few frames") <= due {
                at(number);
                let mut frame = [0; FRAME_BYTES];
                frame[..8].copy_from_slice(&number.to_be_bytes());
                let now = u64::try_from(start.elapsed().as_nanos()).expect("a short run");
                frame[8..].copy_from_slice(&now.to_be_bytes());
                to.write_all(&frame).await.expect("the proxy reads");
                number += 1;
            }
        }
    };
    let receiving = async {
        let mut delays = Vec::new();
        for number in 0..frames {
            assert_eq!(
                from.read_u64().await.expect("every frame arrives"),
                number,
                "frames arrive in order"
            );
            let sent = Duration::from_nanos(from.read_u64().await.expect("every frame arrives"));
            delays.push(start.elapsed().saturating_sub(sent));
        }
        delays
    };
    tokio::join!(sending, receiving).1
}

fn report(what: &str, delays: &[Duration]) {
    let mut sorted = delays.to_vec();
    sorted.sort();
    let at = |permille: usize| sorted[(sorted.len() - 1) * permille / 1_000];
    println!(
        "{what}: {} arrived, p50 {:?}, p99 {:?}, longest {:?}",
        sorted.len(),
        at(500),
        at(990),
        at(1_000)
    );
}
