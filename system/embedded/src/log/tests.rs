//! Stories of brokers that die, lag and return, told to the state machine directly.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::{Appended, Fetched, Partition, Record, Topic, Why};
use chat_protocol::digest::mix;
use chat_protocol::limits::Timers;

use super::cluster::{Cluster, Effect, Now};
use super::{LogConfig, ReadIsolation};

const P0: Partition = (Topic::Messages, 0);
const WALL_MS: u64 = 1_700_000_000_000;

/// A cluster with a hand on its clock; callers are numbered.
struct Bench {
    cluster: Cluster<u32, u32>,
    at: Duration,
    asked: u32,
    effects: Vec<Effect<u32, u32>>,
}

fn config() -> LogConfig {
    LogConfig::new(3, &Timers::DEFAULT)
}

impl Bench {
    fn new(config: LogConfig) -> Self {
        Self { cluster: Cluster::new(config), at: Duration::ZERO, asked: 0, effects: Vec::new() }
    }

    fn now(&self) -> Now {
        Now { at: self.at, wall_ms: WALL_MS + u64::try_from(self.at.as_millis()).unwrap() }
    }

    /// Lets time pass, stopping wherever the cluster wants to be called.
    fn pass(&mut self, time: Duration) {
        let end = self.at + time;
        self.settle();
        while let Some(due) = self.cluster.next_due().filter(|due| *due <= end) {
            self.at = self.at.max(due);
            self.settle();
        }
        self.at = end;
        self.settle();
    }

    fn settle(&mut self) {
        self.cluster.settle(self.now());
        self.effects.extend(self.cluster.take_effects());
    }

    fn offer(&mut self, partition: Partition, text: &str) -> u32 {
        self.asked += 1;
        let values = vec![Bytes::copy_from_slice(text.as_bytes())];
        self.cluster.append(self.now(), self.at, partition, values, self.asked);
        self.settle();
        self.asked
    }

    fn outcome(&self, token: u32) -> Option<Appended> {
        self.effects.iter().find_map(|e| match e {
            Effect::Appended(t, outcome) if *t == token => Some(outcome.clone()),
            _ => None,
        })
    }

    fn append(&mut self, partition: Partition, text: &str) -> Appended {
        let token = self.offer(partition, text);
        self.outcome(token).expect("the append is answered at once")
    }

    fn await_records(
        &mut self,
        partition: Partition,
        offset: u64,
        wait: Duration,
        group: Option<&str>,
    ) -> u32 {
        self.asked += 1;
        let group = group.map(Arc::from);
        self.cluster.fetch(self.now(), partition, offset, 1 << 20, wait, group, self.asked);
        self.settle();
        self.asked
    }

    fn fetched(&self, token: u32) -> Option<Result<Fetched, PortError>> {
        self.effects.iter().find_map(|e| match e {
            Effect::Fetched(t, fetched) if *t == token => Some(fetched.clone()),
            _ => None,
        })
    }

    fn read(&mut self, partition: Partition, offset: u64) -> Vec<Record> {
        let token = self.await_records(partition, offset, Duration::ZERO, None);
        self.fetched(token).unwrap().unwrap().records
    }

    fn texts(&mut self, partition: Partition) -> Vec<String> {
        self.read(partition, 0)
            .iter()
            .map(|r| String::from_utf8(r.value.to_vec()).unwrap())
            .collect()
    }

    fn kill(&mut self, broker: u32) {
        self.cluster.broker_kill(self.now(), broker).unwrap();
        self.settle();
    }

    fn start(&mut self, broker: u32) {
        self.cluster.broker_start(self.now(), broker).unwrap();
        self.settle();
    }

    fn slow(&mut self, broker: u32, delay: Duration) {
        self.cluster.broker_slow(broker, delay).unwrap();
        self.settle();
    }

    fn leader(&self, partition: &str) -> Option<u32> {
        let brokers = self.cluster.brokers(self.now());
        brokers.iter().find(|b| b.leads.iter().any(|p| p == partition)).map(|b| b.id)
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn append_is_readable_with_its_stamp_and_place() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.append(P0, "a"), Appended::Ok { base: 0, log_ms: WALL_MS });
    bench.pass(5 * MS);
    assert_eq!(bench.append(P0, "b"), Appended::Ok { base: 1, log_ms: WALL_MS + 5 });
    let records = bench.read(P0, 1);
    assert_eq!(
        records,
        [Record { offset: 1, log_ms: WALL_MS + 5, value: Bytes::from_static(b"b") }]
    );
}

#[test]
fn record_is_not_shown_before_it_is_replicated() {
    let mut bench = Bench::new(config());
    bench.slow(2, 400 * MS);
    let token = bench.offer(P0, "a");
    assert!(bench.outcome(token).is_none());
    assert!(bench.texts(P0).is_empty());
    bench.pass(400 * MS);
    assert!(matches!(bench.outcome(token), Some(Appended::Ok { base: 0, .. })));
    assert_eq!(bench.texts(P0), ["a"]);
}

#[test]
fn leader_death_loses_only_what_nobody_was_promised() {
    let mut bench = Bench::new(config());
    bench.append(P0, "kept");
    bench.slow(2, 10 * SECOND);
    bench.slow(3, 10 * SECOND);
    let given_up = bench.offer(P0, "given up");
    bench.pass(2 * SECOND);
    bench.kill(1);
    // The first producer gives up while there is no leader; the second one is still there for the next leader.
    let patient = bench.offer(P0, "patient");
    bench.slow(2, Duration::ZERO);
    bench.slow(3, Duration::ZERO);
    bench.pass(1_500 * MS);
    assert_eq!(bench.outcome(given_up), Some(Appended::Unknown(Why::TimedOut)));
    assert!(matches!(bench.outcome(patient), Some(Appended::Ok { base: 1, .. })));
    assert_eq!(bench.texts(P0), ["kept", "patient"]);
    bench.start(1);
    bench.pass(3 * SECOND);
    assert_eq!(bench.leader("chat.messages/0"), Some(1));
    assert_eq!(bench.texts(P0), ["kept", "patient"]);
}

#[test]
fn producer_offers_again_what_the_next_leader_lacks() {
    let mut bench = Bench::new(config());
    bench.slow(2, 10 * SECOND);
    bench.slow(3, 10 * SECOND);
    let first = bench.offer(P0, "first");
    let second = bench.offer(P0, "second");
    bench.kill(1);
    bench.slow(2, Duration::ZERO);
    bench.slow(3, Duration::ZERO);
    bench.pass(SECOND);
    assert!(matches!(bench.outcome(first), Some(Appended::Ok { base: 0, .. })));
    assert!(matches!(bench.outcome(second), Some(Appended::Ok { base: 1, .. })));
    assert_eq!(bench.texts(P0), ["first", "second"]);
}

#[test]
fn below_min_insync_nothing_is_accepted_and_nothing_more_is_shown() {
    let mut bench = Bench::new(config());
    bench.append(P0, "a");
    bench.kill(2);
    bench.kill(3);
    let caught = bench.offer(P0, "caught");
    bench.pass(SECOND);
    assert_eq!(bench.outcome(caught), Some(Appended::Unknown(Why::NotEnoughReplicas)));
    assert_eq!(bench.append(P0, "late"), Appended::NotAppended(Why::NotEnoughReplicas));
    assert_eq!(bench.texts(P0), ["a"]);
    bench.start(2);
    bench.pass(MS);
    assert!(matches!(bench.append(P0, "b"), Appended::Ok { base: 2, .. }));
    assert_eq!(bench.texts(P0), ["a", "caught", "b"]);
}

#[test]
fn partition_without_any_leader_tells_that_nothing_was_appended() {
    let mut bench = Bench::new(config());
    bench.append(P0, "a");
    for broker in 1..=3 {
        bench.kill(broker);
    }
    bench.pass(SECOND);
    let token = bench.offer(P0, "b");
    bench.pass(3 * SECOND);
    assert_eq!(bench.outcome(token), Some(Appended::NotAppended(Why::NoLeader)));
    assert!(bench.leader("chat.messages/0").is_none());
    // Only the last one that was in sync may lead again.
    bench.start(1);
    bench.pass(SECOND);
    assert!(bench.leader("chat.messages/0").is_none());
    bench.start(3);
    bench.pass(5 * SECOND);
    assert_eq!(bench.texts(P0), ["a"]);
    assert!(matches!(bench.append(P0, "c"), Appended::Ok { base: 1, .. }));
}

#[test]
fn returned_broker_cuts_its_log_catches_up_and_leads_again() {
    let mut bench = Bench::new(config());
    bench.slow(2, 10 * SECOND);
    bench.slow(3, 10 * SECOND);
    bench.offer(P0, "vanishes");
    bench.pass(2_500 * MS);
    bench.kill(1);
    bench.slow(2, Duration::ZERO);
    bench.slow(3, Duration::ZERO);
    bench.pass(SECOND);
    assert!(matches!(bench.append(P0, "stays"), Appended::Ok { base: 0, .. }));
    bench.start(1);
    bench.pass(2 * SECOND);
    assert_eq!(bench.leader("chat.messages/0"), Some(1));
    for broker in bench.cluster.brokers(bench.now()) {
        assert_eq!(
            (broker.leads.len(), broker.in_sync),
            (2, 6),
            "leadership is spread and all are in sync"
        );
    }
    assert_eq!(bench.texts(P0), ["stays"]);
}

#[test]
fn prefix_once_read_never_changes() {
    let mut bench = Bench::new(config());
    let mut seen: Vec<Record> = Vec::new();
    for round in 0..60_u32 {
        match round % 12 {
            2 => bench.slow(2, 300 * MS),
            4 => bench.kill(1),
            6 => bench.slow(2, Duration::ZERO),
            8 => bench.start(1),
            9 => bench.kill(3),
            11 => bench.start(3),
            _ => {}
        }
        bench.offer(P0, &round.to_string());
        bench.pass(700 * MS);
        if bench.leader("chat.messages/0").is_none() {
            continue;
        }
        let records = bench.read(P0, 0);
        assert!(records.starts_with(&seen), "round {round}");
        assert!(records.is_sorted_by(|a, b| a.offset + 1 == b.offset && a.log_ms <= b.log_ms));
        seen = records;
    }
    // What was promised is there, in the order in which it was offered.
    let promised: Vec<u32> = (1..=bench.asked)
        .filter(|t| matches!(bench.outcome(*t), Some(Appended::Ok { .. })))
        .collect();
    assert!(promised.len() > 30);
    let offsets = promised.iter().map(|t| match bench.outcome(*t) {
        Some(Appended::Ok { base, .. }) => base,
        _ => u64::MAX,
    });
    assert!(offsets.is_sorted());
}

#[test]
fn reader_of_everything_sees_records_that_a_change_of_leader_takes_back() {
    let mut bench = Bench::new(LogConfig { isolation: ReadIsolation::Everything, ..config() });
    bench.slow(2, 10 * SECOND);
    bench.slow(3, 10 * SECOND);
    bench.offer(P0, "seen");
    assert_eq!(bench.texts(P0), ["seen"]);
    bench.pass(2_500 * MS);
    bench.kill(1);
    bench.pass(SECOND);
    assert!(bench.texts(P0).is_empty());
}

#[test]
fn slow_follower_leaves_the_isr_and_returns_when_it_has_caught_up() {
    let mut bench = Bench::new(config());
    bench.slow(2, 20 * SECOND);
    let token = bench.offer(P0, "a");
    bench.pass(4 * SECOND);
    assert_eq!(bench.outcome(token), Some(Appended::Unknown(Why::TimedOut)));
    assert!(matches!(bench.append(P0, "b"), Appended::Ok { base: 1, .. }));
    assert_eq!(bench.texts(P0), ["a", "b"]);
    bench.slow(2, Duration::ZERO);
    bench.pass(MS);
    assert!(bench.cluster.brokers(bench.now()).iter().all(|b| b.in_sync == 6));
}

#[test]
fn slow_leader_delays_appends_and_keeps_their_order() {
    let mut bench = Bench::new(config());
    bench.slow(1, 200 * MS);
    let first = bench.offer(P0, "first");
    bench.pass(100 * MS);
    let second = bench.offer(P0, "second");
    bench.pass(100 * MS);
    assert!(bench.outcome(first).is_some());
    assert!(bench.outcome(second).is_none());
    bench.pass(100 * MS);
    assert_eq!(bench.texts(P0), ["first", "second"]);
    assert!(bench.cluster.brokers(bench.now())[0].append_us >= 200_000);
}

#[test]
fn waiting_fetch_is_woken_by_an_append_and_ends_at_its_time() {
    let mut bench = Bench::new(config());
    let woken = bench.await_records(P0, 0, SECOND, None);
    assert!(bench.fetched(woken).is_none());
    bench.append(P0, "a");
    assert_eq!(bench.fetched(woken).unwrap().unwrap().records.len(), 1);
    let idle = bench.await_records(P0, 1, SECOND, None);
    bench.pass(SECOND);
    let fetched = bench.fetched(idle).unwrap().unwrap();
    assert!(fetched.records.is_empty());
    assert_eq!(fetched.high_watermark, 1);
}

#[test]
fn paused_group_reads_nothing_until_it_is_resumed() {
    let mut bench = Bench::new(config());
    bench.cluster.consumer_pause("sequencer", true);
    bench.append(P0, "a");
    let paused = bench.await_records(P0, 0, 10 * SECOND, Some("sequencer"));
    let other = bench.await_records(P0, 0, 10 * SECOND, Some("history-writer"));
    assert!(bench.fetched(paused).is_none());
    assert!(bench.fetched(other).is_some());
    bench.cluster.consumer_pause("sequencer", false);
    bench.settle();
    assert_eq!(bench.fetched(paused).unwrap().unwrap().records.len(), 1);
}

#[test]
fn old_batches_go_and_a_reader_below_the_start_is_told() {
    let mut bench = Bench::new(LogConfig { retention_bytes: 100, ..config() });
    for _ in 0..10 {
        bench.append(P0, &"x".repeat(30));
    }
    let late = bench.await_records(P0, 0, Duration::ZERO, None);
    assert!(matches!(bench.fetched(late), Some(Err(PortError::Refused(_)))));
    assert_eq!(bench.read(P0, 7).len(), 3);
    let mut bench = Bench::new(LogConfig { retention: SECOND, ..config() });
    bench.append(P0, "old");
    bench.pass(2 * SECOND);
    bench.append(P0, "new");
    bench.pass(SECOND);
    assert_eq!(bench.read(P0, 1).len(), 1);
}

#[test]
fn intake_is_refused_when_readers_lag_by_half_of_the_retention() {
    let mut bench = Bench::new(LogConfig { retention_bytes: 100, ..config() });
    let own = bench.cluster.beat(bench.now(), "sequencer", Topic::Messages, "a").unwrap();
    bench.append(P0, &"x".repeat(40));
    bench.append(P0, &"x".repeat(40));
    assert_eq!(bench.append(P0, "x"), Appended::NotAppended(Why::ReadersLag));
    bench
        .cluster
        .commit(bench.now(), "sequencer", Topic::Messages, own.generation, &[(0, 1)])
        .unwrap();
    assert!(matches!(bench.append(P0, "x"), Appended::Ok { .. }));
    let lags = bench.cluster.lags(bench.now());
    assert_eq!((lags[0].position, lags[0].end), (1, 3));
}

#[test]
fn full_buffer_refuses_and_empties_again() {
    let mut bench = Bench::new(LogConfig { log_buffer: 100, ..config() });
    for broker in 1..=3 {
        bench.kill(broker);
    }
    bench.offer(P0, &"x".repeat(80));
    let refused = bench.offer(P0, &"x".repeat(80));
    assert_eq!(bench.outcome(refused), Some(Appended::NotAppended(Why::BufferFull)));
    bench.pass(3 * SECOND);
    assert_eq!(bench.cluster.buffered(), 0);
}

#[test]
fn request_in_a_slow_leader_is_unknown_when_its_time_is_over() {
    let mut bench = Bench::new(config());
    bench.slow(1, 5 * SECOND);
    let token = bench.offer(P0, "late");
    bench.pass(3 * SECOND);
    assert_eq!(bench.outcome(token), Some(Appended::Unknown(Why::TimedOut)));
    bench.pass(2 * SECOND);
    assert_eq!(bench.texts(P0), ["late"]);
    assert_eq!(bench.cluster.buffered(), 0);
}

#[test]
fn two_members_share_the_partitions_of_a_topic() {
    let mut bench = Bench::new(config());
    let mut owned = [Vec::new(), Vec::new()];
    for _ in 0..6 {
        for (index, member) in ["a", "b"].iter().enumerate() {
            owned[index] =
                bench.cluster.beat(bench.now(), "g", Topic::Messages, member).unwrap().partitions;
        }
        bench.pass(500 * MS);
    }
    let mut all = owned.concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
    assert!(owned.iter().all(|o| !o.is_empty()));
}

/// One random life of a log: brokers die, lag and return while a producer offers numbered records. Answers what is in the log
/// afterwards, and whether everything that was ever read is still there as it was.
fn live(config: LogConfig, seed: u64, steps: u64) -> (Bench, Vec<Record>, bool) {
    let mut bench = Bench::new(config);
    let mut seen: Vec<Record> = Vec::new();
    let mut unchanged = true;
    for step in 0..steps {
        let draw = |what: u64, of: u64| mix(&[seed, step, what]) % of;
        let broker = u32::try_from(1 + draw(1, 3)).unwrap();
        let up = bench.cluster.brokers(bench.now())[broker as usize - 1].up;
        match draw(0, 8) {
            0 if up => bench.kill(broker),
            0 | 1 if !up => bench.start(broker),
            2 => bench.slow(broker, Duration::from_millis(draw(2, 4_000))),
            3 => bench.slow(broker, Duration::ZERO),
            _ => {
                bench.offer(P0, &(bench.asked + 1).to_string());
            }
        }
        bench.pass(Duration::from_millis(draw(3, 900)));
        if bench.leader("chat.messages/0").is_some() {
            let records = bench.read(P0, 0);
            unchanged &= records.starts_with(&seen);
            seen = records;
        }
    }
    for broker in 1..=3 {
        bench.slow(broker, Duration::ZERO);
        if !bench.cluster.brokers(bench.now())[broker as usize - 1].up {
            bench.start(broker);
        }
    }
    bench.pass(10 * SECOND);
    let records = bench.read(P0, 0);
    unchanged &= records.starts_with(&seen);
    (bench, records, unchanged)
}

#[test]
fn promises_hold_through_any_order_of_deaths_and_returns() {
    let (mut kept, mut refused) = (0, 0);
    for seed in 0..300 {
        let (bench, records, unchanged) = live(config(), seed, 60);
        assert!(unchanged, "seed {seed}: what was read has changed");
        let place = |token: u32| {
            records.iter().filter(|r| r.value == token.to_string()).collect::<Vec<_>>()
        };
        let mut last = None;
        for token in 1..=bench.asked {
            let found = place(token);
            assert!(found.len() <= 1, "seed {seed}: {token} appears twice");
            match bench.outcome(token) {
                Some(Appended::Ok { base, log_ms }) => {
                    kept += 1;
                    assert_eq!(
                        found.first().map(|r| (r.offset, r.log_ms)),
                        Some((base, log_ms)),
                        "seed {seed}: {token}"
                    );
                    assert!(last < Some(base), "seed {seed}: {token} overtook an earlier one");
                    last = Some(base);
                }
                Some(Appended::NotAppended(_)) => {
                    refused += 1;
                    assert!(found.is_empty(), "seed {seed}: {token} was refused and is there");
                }
                // Without an outcome the token belongs to a fetch.
                Some(Appended::Unknown(_)) | None => {}
            }
        }
        assert_eq!(bench.cluster.buffered(), 0, "seed {seed}");
        assert!(
            bench.cluster.brokers(bench.now()).iter().all(|b| b.in_sync == 6 && b.leads.len() == 2),
            "seed {seed}"
        );
    }
    assert!(
        kept > 1_000 && refused > 100,
        "kept {kept}, refused {refused}: the lives were too quiet"
    );
}

#[test]
fn check_of_the_promises_can_fail() {
    let everything = || LogConfig { isolation: ReadIsolation::Everything, ..config() };
    assert!((0..50).any(|seed| !live(everything(), seed, 60).2));
}
