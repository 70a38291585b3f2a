//! The backends without the system, asked what it asked of them.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chat_ports::log::Topic;
use storm_judge::Report;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::drive::{Calls, Load, Pace, Target};
use crate::set::Backends;
use crate::targets::{Appends, Enqueues, PARTITIONS, Upserts, read};

/// Exercise before the warm-up, as every start of the system has it.
const EXERCISE: Duration = Duration::from_secs(10);
/// Groups that read the messages: sequencers and writers of history.
const READERS: usize = 2;
/// Writes of history: one each 100 ms for each partition, as its writer gathers. The adapter cuts them by conversation, as it does there.
const WRITES_A_SECOND: f64 = 30.0;

/// What the system asked of its backends.
pub(crate) struct Asked {
    log: Load,
    queue: Load,
    history: Load,
}

impl Asked {
    /// From the report of a run.
    pub(crate) fn of(report: &Report) -> Option<Self> {
        let load = |backend: &str| {
            let row = report.batches.iter().find(|row| row.backend == backend)?;
            Some(Load { mean: row.mean, a_second: row.a_second })
        };
        let rows = load("cassandra")?;
        let rows_a_second = rows.mean * rows.a_second;
        let history = Load { mean: rows_a_second / WRITES_A_SECOND, a_second: WRITES_A_SECOND };
        Some(Self { log: load("kafka")?, queue: load("redis")?, history })
    }
}

/// What the bare backends and their client used, in cores.
pub(crate) struct Outcome {
    pub(crate) client: f64,
    pub(crate) backends: BTreeMap<String, f64>,
    pub(crate) calls: Vec<Calls>,
}

/// Asks everything at once, as the system does.
pub(crate) async fn run(
    backends: &Backends,
    asked: &Asked,
    warm_up: Duration,
    steady: Duration,
) -> Outcome {
    let measured = Arc::new(AtomicBool::new(false));
    let warm = EXERCISE + warm_up;
    let end = Instant::now() + warm + steady;
    let pace = |load| Pace { load, end, measured: Arc::clone(&measured) };

    let mut readers = JoinSet::new();
    for partition in 0..PARTITIONS {
        for _ in 0..READERS {
            readers.spawn(read(Arc::clone(&backends.log), (Topic::Messages, partition), end));
        }
    }
    let targets: [(&str, Load, Arc<dyn Target>); 3] = [
        ("append", asked.log, Arc::new(Appends(Arc::clone(&backends.log)))),
        (
            "enqueue",
            asked.queue,
            Arc::new(Enqueues::new(Arc::clone(&backends.queue), "bare", true)),
        ),
        ("upsert", asked.history, Arc::new(Upserts::new(Arc::clone(&backends.history), 1))),
    ];
    let mut driven = JoinSet::new();
    for (what, load, target) in targets {
        let drive = pace(load).drive(target);
        driven.spawn(async move { (what, drive.await) });
    }

    sleep(warm).await;
    let (own, began) = (crate::process_cpu(), Instant::now());
    measured.store(true, Relaxed);
    let used = backends.cores(steady).await;
    measured.store(false, Relaxed);
    let wall = began.elapsed().as_secs_f64();
    let client = crate::process_cpu().saturating_sub(own).as_secs_f64() / wall;
    readers.join_all().await;
    let mut driven = driven.join_all().await;
    driven.sort_by_key(|(what, _)| *what);
    let calls = driven.iter().map(|(what, called)| Calls::of(what, called, wall)).collect();
    Outcome { client, backends: used, calls }
}
