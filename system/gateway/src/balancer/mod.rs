//! The L4 proxy in front of gateways: least connections with slow start, health checks, ejection with a panic threshold.
//!
//! - `choice` which gateway gets a connection.
//! - `health` the active checks.
//! - `splice` copies bytes both ways.
mod choice;
mod health;
mod splice;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat_ports::net::{self, Listener, Stream};
use chat_ports::observe::{Counter, Gauge, Observer};
use chat_protocol::limits::Timers;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::lock;
use choice::Backends;

/// Idle connections are closed after this long; heartbeats must come more often.
pub const IDLE: Duration = Duration::from_mins(1);
/// Connections at a time; a further one is closed unanswered.
pub const CONNECTIONS_MAX: usize = 40_000;
/// Gateways tried for one connection.
const TRIES: usize = 3;
/// Pause after a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A gateway behind the balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Name, for example `gateway-1`.
    pub name: String,
    /// Its public address.
    pub addr: SocketAddr,
}

/// The heartbeats are too slow for the idle timeout: healthy connections would be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatsTooSlow;

impl std::fmt::Display for BeatsTooSlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the idle timeout of the balancer must be longer than a heartbeat period, its jitter and its answer")
    }
}

impl std::error::Error for BeatsTooSlow {}

/// A running balancer.
pub struct Balancer {
    shared: Arc<Shared>,
}

struct Shared {
    backends: Mutex<Backends>,
    open: AtomicUsize,
    timers: Timers,
    idle: Duration,
    accepted: Counter,
    refused: Counter,
    failed_dials: Counter,
    unserved: Counter,
    idle_closed: Counter,
    connections: Gauge,
}

impl Balancer {
    /// Starts a balancer on a listener. Its tasks run on `tracker` and end with `shutdown`, which closes every connection.
    /// `observer` is the system's, already of this node.
    pub fn start(
        listener: Listener,
        backends: Vec<Backend>,
        timers: Timers,
        observer: &Observer,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<Self, BeatsTooSlow> {
        if timers.ping * 6 / 5 + timers.pong >= IDLE {
            return Err(BeatsTooSlow);
        }
        let counter = |name: &str| observer.counter(format!("balancer.{name}"));
        let shared = Arc::new(Shared {
            backends: Mutex::new(Backends::new(backends, &timers, observer)),
            open: AtomicUsize::new(0),
            timers,
            idle: IDLE,
            accepted: counter("accepted"),
            refused: counter("refused"),
            failed_dials: counter("failed_dials"),
            unserved: counter("unserved"),
            idle_closed: counter("idle_closed"),
            connections: observer.gauge("balancer.connections", CONNECTIONS_MAX as u64),
        });
        health::start(&shared, tracker, shutdown);
        tracker.spawn(accept(listener, Arc::clone(&shared), tracker.clone(), shutdown.clone()));
        Ok(Self { shared })
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.shared.open.load(Relaxed) as u64
    }

    /// Open connections by gateway, in the order the gateways were given in.
    pub fn spread(&self) -> Vec<(String, u64)> {
        lock(&self.shared.backends).spread()
    }
}

async fn accept(
    listener: Listener,
    shared: Arc<Shared>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = net::accept(&listener) => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        if shared.open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
            shared.open.fetch_sub(1, Relaxed);
            shared.refused.add(1);
            continue;
        }
        shared.accepted.add(1);
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        tracker.spawn(async move {
            let open = Open { shared: &shared };
            shared.connections.set(shared.open.load(Relaxed) as u64);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = serve(&shared, stream) => {}
            }
            drop(open);
        });
    }
}

/// Counts a connection until it is dropped.
struct Open<'a> {
    shared: &'a Shared,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let before = self.shared.open.fetch_sub(1, Relaxed);
        self.shared.connections.set(before.saturating_sub(1) as u64);
    }
}

/// Counts a connection of one gateway until it is dropped.
struct Assigned<'a> {
    shared: &'a Shared,
    backend: usize,
}

impl Drop for Assigned<'_> {
    fn drop(&mut self) {
        lock(&self.shared.backends).closed(self.backend);
    }
}

async fn serve(shared: &Shared, client: Stream) {
    let mut tried = Vec::with_capacity(TRIES);
    while tried.len() < TRIES {
        // Chosen and counted in one step, so that connections that come together spread.
        let Some((backend, addr)) = lock(&shared.backends).choose(&tried, Instant::now()) else {
            break;
        };
        let assigned = Assigned { shared, backend };
        match net::dial(addr, shared.timers.store_call).await {
            Ok(gateway) => {
                lock(&shared.backends).dialled(backend, true, Instant::now());
                if splice::copy(client, gateway, shared.idle).await == splice::End::Idle {
                    shared.idle_closed.add(1);
                }
                drop(assigned);
                return;
            }
            Err(error) => {
                tracing::debug!(%addr, %error, "A gateway was not reached.");
                shared.failed_dials.add(1);
                lock(&shared.backends).dialled(backend, false, Instant::now());
                tried.push(backend);
            }
        }
    }
    shared.unserved.add(1);
}
