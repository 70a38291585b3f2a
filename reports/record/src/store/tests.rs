//! A folder is written and read back, also when the run was killed.
use std::fs::OpenOptions;

use storm_workload::metrics::Metric;
use storm_workload::plan::Window;

use super::*;
use crate::facts::{Fact, FinalPhase, WindowBegan};
use crate::ledger::number::Number;
use crate::ledger::{LedgerConfig, StreamShape};
use crate::manifest::{FORMAT, Manifest};
use crate::promises::Promises;
use crate::series::{Filter, SeriesKey};
use crate::shard::Shard;

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        run: "r1".to_owned(),
        version: "0.1.0".to_owned(),
        binary: "b".to_owned(),
        host: "h".to_owned(),
        substrate: "embedded".to_owned(),
        scenario: "smoke".to_owned(),
        experiment: None,
        arm: None,
        hypothesis: None,
        plan_hash: "p".to_owned(),
        seed: 1,
        scale: "ci".to_owned(),
        variants: Vec::new(),
        settings: std::collections::BTreeMap::new(),
        timers: chat_protocol::limits::Timers::DEFAULT,
        servers: std::collections::BTreeMap::new(),
        partitions: 8,
        started_ms: 0,
        command: String::new(),
        again: String::new(),
        steered: false,
    }
}

fn run(folder: &RunFolder) {
    folder.begin(&manifest(), &serde_json::json!({"name": "smoke"}), &Promises::default()).unwrap();
    let mut facts = folder.facts().unwrap();
    for (phase, name, at_ns) in [(0, "connect", 0), (1, "steady", 2_000_000_000)] {
        let began = WindowBegan { phase, name: name.to_owned(), window: Window::Steady, at_ns };
        facts.append(&Fact::Window(began)).unwrap();
    }
    let end = FinalPhase { drained: true, read: true, missing: Vec::new(), at_ns: 5_000_000_000 };
    facts.append(&Fact::Final(end)).unwrap();
    facts.flush().unwrap();
    let streams = vec![StreamShape { numbers: 100, slots: 3 }];
    let (mut shard, feed) = Shard::new(LedgerConfig { shard: 0, streams, devices: 4, pairs: 8 });
    let collector = Collector::start(folder, vec![feed]).unwrap();
    let series = shard.recorder.series(SeriesKey::of(Metric::MessageDelivered));
    for second in 0..15_u64 {
        let now = second * 1_000_000_000;
        if second == 2 {
            shard.recorder.begin_window(now);
        }
        shard.recorder.due(now);
        shard.recorder.record_due(series, now, 3_000_000);
        shard.recorder.good(now, true);
        shard.ledger.submitted(Number { stream: 0, k: second });
        shard.tick(now + 999_999_999);
    }
    shard.finish(15_000_000_000);
    collector.finish().unwrap();
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run")).unwrap();
    run(&folder);
    let record = folder.read().unwrap();
    assert!(record.damaged.is_empty(), "{:?}", record.damaged);
    assert_eq!(record.manifest, manifest());
    assert_eq!(record.facts.windows.len(), 2);
    assert!(record.facts.last.is_some());
    let delivered = Filter::of(Metric::MessageDelivered);
    assert_eq!(record.samples(0, &delivered).count(), 2);
    assert_eq!(record.samples(1, &delivered).count(), 13);
    assert_eq!(record.due().values().map(|second| second.on_time).sum::<u64>(), 15);
    assert_eq!(record.ledger.counts().submitted, 15);
    assert_eq!(record.counts(0).offered + record.counts(1).offered, 15);
}

#[test]
fn a_killed_run_is_readable_and_has_no_final_phase() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run")).unwrap();
    run(&folder);
    std::fs::remove_file(folder.path().join("totals.bin")).unwrap();
    for name in ["events.jsonl", "slices.bin", "ledger/shard-0.bin"] {
        let path = folder.path().join(name);
        let len = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 7).unwrap();
    }
    let record = folder.read().unwrap();
    assert!(record.facts.last.is_none());
    assert_eq!(record.damaged.len(), 4, "{:?}", record.damaged);
    assert!(!record.slices.is_empty());
    assert!(!record.totals.is_empty());
    assert!(record.ledger.was_submitted(Number { stream: 0, k: 3 }));
}
