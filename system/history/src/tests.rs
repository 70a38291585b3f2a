//! Stories of the writer on one runtime, with in-memory ports.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::blobs::Blobs as _;
use chat_ports::clock::{Clock as _, SteadyClock};
use chat_ports::consumer::{FoldViews, HISTORY_WRITER, MidRule, snapshots};
use chat_ports::log::Topic;
use chat_ports::observe::{Event, Observer};
use chat_ports::registry::NodeKey;
use chat_ports::twins::{TwinBlobs, TwinHistory, TwinLog, eventually, view};
use chat_protocol::fold::{Fold, Input, mid_of};
use chat_protocol::limits::Timers;
use chat_protocol::node::LogSend;
use chat_protocol::{Cid, ConvId, UserId};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::Deps;

const PLACE: (Topic, u32) = (Topic::Messages, 0);
const ANN: UserId = UserId(1);

struct Bench {
    log: Arc<TwinLog>,
    history: Arc<TwinHistory>,
    blobs: Arc<TwinBlobs>,
    clock: Arc<SteadyClock>,
    observer: Observer,
}

struct Node {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Node {
    async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(SteadyClock::new(1_700_000_000_000));
        Self {
            log: TwinLog::new(Arc::<SteadyClock>::clone(&clock), 1),
            history: TwinHistory::new(),
            blobs: TwinBlobs::new(),
            observer: Observer::new(Arc::<SteadyClock>::clone(&clock)),
            clock,
        }
    }

    fn start(&self, name: &str, mids: MidRule) -> Node {
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let mut timers = Timers::short();
        timers.commit = Duration::from_millis(10);
        let deps = Deps {
            view: view(&NodeKey { name: name.into(), epoch: 1 }, &[]),
            log: Arc::<TwinLog>::clone(&self.log),
            history: Arc::<TwinHistory>::clone(&self.history),
            blobs: Arc::<TwinBlobs>::clone(&self.blobs),
            clock: Arc::<SteadyClock>::clone(&self.clock),
            timers,
            observer: self.observer.clone(),
            folds: FoldViews::default(),
            mids,
        };
        drop(crate::start(deps, &tracker, &shutdown).service);
        Node { tracker, shutdown }
    }

    fn send(&self, numbers: impl IntoIterator<Item = u128>) {
        let record = |number| record(number, self.clock.wall_ms());
        self.log.put(PLACE, numbers.into_iter().map(record).collect());
    }

    fn cseqs(&self) -> Vec<u64> {
        self.history.rows().iter().map(|row| row.cseq).collect()
    }

    async fn has(&self, last: u64) {
        eventually("the last row", || self.cseqs().last() == Some(&last)).await;
        assert_eq!(self.cseqs(), (1..=last).collect::<Vec<_>>());
    }
}

fn conv() -> ConvId {
    ConvId::direct(ANN, UserId(2)).unwrap()
}

fn record(number: u128, client_ms: u64) -> Bytes {
    let send = LogSend {
        cid: Bytes::copy_from_slice(Uuid::from_u128(number).as_bytes()),
        conv: Bytes::copy_from_slice(&conv().to_bytes()),
        device: ANN.device(0).0,
        client_ms,
        body: Bytes::from_static(b"sealed"),
        ..LogSend::default()
    };
    send.encode_to_vec().into()
}

#[tokio::test]
async fn accepted_messages_become_rows_and_retries_do_not() {
    let bench = Bench::new();
    let node = bench.start("services-1", MidRule::FromLog);
    bench.send([1, 2, 1, 3]);
    bench.has(3).await;
    let records = bench.log.records(PLACE);
    assert_eq!(bench.history.rows()[2].mid, mid_of(0, 3, records[3].log_ms));
    eventually("the commit", || bench.log.position(HISTORY_WRITER, PLACE) == Some(4)).await;
    node.stop().await;
}

#[tokio::test]
async fn history_that_fails_holds_the_position_back_and_gets_the_rows_later() {
    let bench = Bench::new();
    bench.history.fail_upserts(2);
    let node = bench.start("services-1", MidRule::FromLog);
    bench.send(1..=5);
    eventually("a refusal", || bench.observer.counter("history.writes_refused").get() > 0).await;
    assert_eq!(bench.log.position(HISTORY_WRITER, PLACE), None);
    bench.has(5).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn history_that_is_away_is_asked_ever_more_seldom_and_gets_everything_when_it_is_back() {
    let bench = Bench::new();
    bench.history.fail_upserts(u32::MAX);
    let node = bench.start("services-1", MidRule::FromLog);
    bench.send(1..=5);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let asked = bench.observer.counter("history.writes_refused").get();
    assert!((20..=24).contains(&asked), "{asked} times in 20 s");
    bench.history.fail_upserts(0);
    bench.has(5).await;
    node.stop().await;
}

#[tokio::test]
async fn history_too_slow_for_many_rows_at_once_gets_fewer() {
    let bench = Bench::new();
    bench.history.take_at_most(100);
    let node = bench.start("services-1", MidRule::FromLog);
    bench.send(1..=600);
    bench.has(600).await;
    node.stop().await;
}

#[tokio::test]
async fn crash_between_write_and_commit_writes_equal_rows() {
    let bench = Bench::new();
    bench.log.refuse_commits(true);
    let first = bench.start("services-1", MidRule::FromLog);
    bench.send(1..=600);
    bench.has(600).await;
    let before = bench.history.rows();
    first.stop().await;
    bench.log.refuse_commits(false);
    let second = bench.start("services-2", MidRule::FromLog);
    eventually("the commit", || bench.log.position(HISTORY_WRITER, PLACE) == Some(600)).await;
    assert_eq!(bench.history.rows(), before);
    second.stop().await;
}

#[tokio::test]
async fn writer_starts_from_the_snapshot_below_its_position() {
    let bench = Bench::new();
    bench.send(1..=20);
    let mut fold = Fold::new(0);
    for (number, record) in (1..=10_u128).zip(bench.log.records(PLACE)) {
        let client_ms = LogSend::decode(record.value.clone()).unwrap().client_ms;
        let cid = Cid(Uuid::from_u128(number));
        fold.apply(&Input {
            offset: record.offset,
            log_ms: record.log_ms,
            cid,
            conv: conv(),
            from: ANN.device(0),
            client_ms,
        });
    }
    bench.blobs.put(&snapshots::name(0, 10), fold.snapshot().into()).await.unwrap();
    bench.blobs.put(&snapshots::name(0, 12), Bytes::from_static(b"damaged")).await.unwrap();
    bench.log.set_position(HISTORY_WRITER, PLACE, 15);
    bench.log.truncate(PLACE, 10);
    let node = bench.start("services-1", MidRule::FromLog);
    eventually("the rows above the position", || bench.cseqs() == [16, 17, 18, 19, 20]).await;
    node.stop().await;
}

#[tokio::test]
async fn truncated_log_stops_the_partition_loudly() {
    let bench = Bench::new();
    bench.send(1..=10);
    bench.log.truncate(PLACE, 3);
    let node = bench.start("services-1", MidRule::FromLog);
    let stopped = |event: &Event| matches!(event, Event::PartitionStopped(HISTORY_WRITER, 0, _));
    eventually("the event", || {
        bench.observer.events(0).0.iter().any(|noted| stopped(&noted.event))
    })
    .await;
    assert!(bench.cseqs().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn random_mids_differ_from_those_of_the_log() {
    let bench = Bench::new();
    let node = bench.start("services-1", MidRule::Random(1));
    bench.send([1]);
    bench.has(1).await;
    let log_ms = bench.log.records(PLACE)[0].log_ms;
    assert_ne!(bench.history.rows()[0].mid, mid_of(0, 0, log_ms));
    node.stop().await;
}
