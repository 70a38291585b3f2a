//! What one backend costs at the batch sizes it is meant for, while nobody asks the others.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::drive::{Calls, Load, Pace, Target};
use crate::set::Backends;
use crate::targets::{Enqueues, Upserts};

/// How long the servers are watched without calls.
const IDLE: Duration = Duration::from_secs(5);
/// How long each kind of call is measured.
const STEADY: Duration = Duration::from_secs(8);
/// Items a second that 18,000 sends of `messenger-18k` store for devices: 2.7 a send, as its reports say.
const ITEMS: f64 = 48_000.0;
/// Rows a second that they write.
const ROWS: f64 = 18_000.0;

/// Calls of one kind.
struct Kind {
    what: &'static str,
    server: &'static str,
    load: Load,
    warm_up: Duration,
    target: Arc<dyn Target>,
}

/// What they cost.
pub(crate) struct Alone {
    pub(crate) calls: Calls,
    /// Microseconds of the server's CPU an item, beyond what it uses without calls.
    pub(crate) server_us: f64,
    /// Microseconds an item that the server says its scripts took.
    pub(crate) script_us: Option<f64>,
}

/// Relay queues and history, one kind of call after the other.
pub(crate) async fn run(backends: &Backends) -> Vec<Alone> {
    let queue = |source| Enqueues::new(Arc::clone(&backends.queue), source, false);
    let history = |together| Upserts::new(Arc::clone(&backends.history), together);
    let redis = |what, source, items| Kind {
        what,
        server: "chat-redis",
        load: Load { mean: items, a_second: ITEMS / items },
        warm_up: Duration::from_secs(4),
        target: Arc::new(queue(source)),
    };
    // A virtual machine compiles for so long.
    let cassandra = |what, rows: u64| Kind {
        what,
        server: "chat-cassandra",
        load: Load { mean: rows as f64, a_second: ROWS / rows as f64 },
        warm_up: Duration::from_secs(30),
        target: Arc::new(history(rows)),
    };
    let kinds = [
        redis("enqueue 16", "sixteen", 16.0),
        redis("enqueue 64", "more", 64.0),
        cassandra("upsert 25", 25),
        cassandra("upsert 50", 50),
    ];
    let idle = backends.cores(IDLE).await;
    let mut all = Vec::new();
    for Kind { what, server, load, warm_up, target } in kinds {
        let scripts = || (server == "chat-redis").then(|| backends.script_us()).flatten();
        let measured = Arc::new(AtomicBool::new(false));
        let end = Instant::now() + warm_up + STEADY;
        let pace = Pace { load, end, measured: Arc::clone(&measured) };
        let mut driven = JoinSet::new();
        driven.spawn(pace.drive(target));
        sleep(warm_up).await;
        let (before, began) = (scripts(), Instant::now());
        measured.store(true, Relaxed);
        let used = backends.cores(STEADY).await;
        measured.store(false, Relaxed);
        let (after, wall) = (scripts(), began.elapsed().as_secs_f64());
        let calls = Calls::of(what, &driven.join_all().await.concat(), wall);
        let items = calls.items_a_second * wall;
        let script_us = after.zip(before).map(|(after, before)| (after - before) / items);
        all.push(Alone {
            server_us: (used[server] - idle[server]) * wall * 1e6 / items,
            script_us,
            calls,
        });
    }
    all
}
