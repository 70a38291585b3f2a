//! Stories of calls that are slowed, cut and counted.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_control::act::PortRule;
use chat_ports::PortError;
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use chat_ports::tables::{Table, Tables};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::guarded::WAKE_SLACK;
use super::{Guarded, Hooks, standstill};

const LIMIT: Duration = Duration::from_secs(2);

/// Answers at once, or never, or only to a thread that stood still meanwhile.
#[derive(Default)]
struct Twin {
    answers: bool,
    stands_still: Option<Duration>,
    sets: AtomicU32,
}

#[async_trait]
impl Tables for Twin {
    async fn get(&self, _: Table, keys: &[u64]) -> Result<Vec<Option<Bytes>>, PortError> {
        if !self.answers {
            std::future::pending::<()>().await;
        }
        if let Some(time) = self.stands_still {
            tokio::time::sleep(time).await;
            standstill::stood(time);
        }
        Ok(vec![None; keys.len()])
    }

    async fn compare_and_set(
        &self,
        _: Table,
        _: u64,
        _: Option<Bytes>,
        _: Bytes,
    ) -> Result<bool, PortError> {
        self.sets.fetch_add(1, Relaxed);
        Ok(true)
    }
}

fn bench(answers: bool) -> (Guarded<dyn Tables>, Arc<Hooks>, Observer) {
    guarded(Twin { answers, ..Twin::default() })
}

fn guarded(twin: Twin) -> (Guarded<dyn Tables>, Arc<Hooks>, Observer) {
    let hooks = Hooks::new(7);
    let observer = Observer::new(Arc::new(SteadyClock::new(0)));
    let inner: Arc<dyn Tables> = Arc::new(twin);
    (Guarded::new(inner, "gateway-1", &hooks, &observer, LIMIT), hooks, observer)
}

fn count(observer: &Observer, name: &str) -> u64 {
    observer.counters().into_iter().find(|(n, _)| n == name).map_or(0, |(_, value)| value)
}

fn get(port: &Guarded<dyn Tables>) -> impl Future<Output = Result<Vec<Option<Bytes>>, PortError>> {
    port.get(Table::DevicesByUser, &[1])
}

#[tokio::test(start_paused = true)]
async fn call_without_rule_passes_and_is_counted() {
    let (port, _, observer) = bench(true);
    let began = Instant::now();
    get(&port).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(count(&observer, "port.tables.get.calls"), 1);
    assert_eq!(count(&observer, "port.tables.get.errors"), 0);
    assert_eq!(count(&observer, "hook.tables.hits"), 0);
}

#[tokio::test(start_paused = true)]
async fn slow_rule_delays_within_its_jitter() {
    let (port, hooks, observer) = bench(true);
    let (delay, jitter) = (Duration::from_millis(100), Duration::from_millis(20));
    hooks.set("tables", None, Some(PortRule::Slow { delay, jitter })).unwrap();
    for _ in 0..20 {
        let began = Instant::now();
        get(&port).await.unwrap();
        let took = began.elapsed();
        assert!(
            took + jitter >= delay && took <= delay + jitter + Duration::from_millis(1),
            "{took:?}"
        );
    }
    assert_eq!(count(&observer, "hook.tables.hits"), 20);
}

#[tokio::test(start_paused = true)]
async fn reset_call_is_unknown_at_once_and_had_its_effect_or_not() {
    let twin = Arc::new(Twin { answers: true, ..Twin::default() });
    let (hooks, observer) = (Hooks::new(7), Observer::new(Arc::new(SteadyClock::new(0))));
    let inner: Arc<dyn Tables> = Arc::<Twin>::clone(&twin);
    let port = Guarded::new(inner, "gateway-1", &hooks, &observer, LIMIT);
    hooks.set("tables", None, Some(PortRule::Reset)).unwrap();
    let began = Instant::now();
    for key in 1..=40 {
        let set = port.compare_and_set(Table::DevicesByUser, key, None, Bytes::new()).await;
        assert!(matches!(set, Err(PortError::Unknown(_))), "{set:?}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(count(&observer, "port.tables.compare_and_set.errors"), 40);
    hooks.set("tables", None, None).unwrap();
    let effects = twin.sets.load(Relaxed);
    assert!((1..40).contains(&effects), "{effects}");
    get(&port).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cut_call_is_unknown_after_its_time_limit() {
    let (port, hooks, observer) = bench(true);
    hooks.set("tables", Some("gateway-1"), Some(PortRule::Cut)).unwrap();
    let began = Instant::now();
    assert!(matches!(get(&port).await, Err(PortError::Unknown(_))));
    assert_eq!(began.elapsed(), LIMIT);
    assert_eq!(count(&observer, "port.tables.get.errors"), 1);
    hooks.set("tables", Some("gateway-1"), None).unwrap();
    get(&port).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stalled_call_goes_on_when_the_stall_ends() {
    let (port, hooks, observer) = bench(true);
    hooks.set("tables", None, Some(PortRule::Stall)).unwrap();
    let began = Instant::now();
    let mut call = Box::pin(get(&port));
    assert!(tokio::time::timeout(LIMIT / 2, call.as_mut()).await.is_err());
    assert_eq!(count(&observer, "calls.tables.gateway-1.started"), 1);
    assert_eq!(count(&observer, "calls.tables.gateway-1.answered"), 0);
    hooks.set("tables", None, None).unwrap();
    call.await.unwrap();
    assert_eq!(began.elapsed(), LIMIT / 2);
    assert_eq!(count(&observer, "calls.tables.gateway-1.answered"), 1);
    assert_eq!(count(&observer, "hook.tables.hits"), 1);
}

#[tokio::test(start_paused = true)]
async fn stalled_call_ends_at_its_own_time_limit_and_a_cut_after_it_loses_the_rest() {
    let (port, hooks, observer) = bench(true);
    hooks.set("tables", None, Some(PortRule::Stall)).unwrap();
    let began = Instant::now();
    assert!(matches!(get(&port).await, Err(PortError::Unknown(_))));
    assert_eq!(began.elapsed(), LIMIT);
    let mut call = Box::pin(get(&port));
    assert!(tokio::time::timeout(LIMIT / 4, call.as_mut()).await.is_err());
    hooks.set("tables", None, Some(PortRule::Cut)).unwrap();
    assert!(matches!(call.await, Err(PortError::Unknown(_))));
    assert_eq!(began.elapsed(), LIMIT * 2);
    assert_eq!(count(&observer, "calls.tables.gateway-1.failed"), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_node_with_the_time_they_took() {
    let (port, hooks, observer) = bench(true);
    let delay = Duration::from_millis(100);
    hooks.set("tables", None, Some(PortRule::Slow { delay, jitter: Duration::ZERO })).unwrap();
    get(&port).await.unwrap();
    hooks.set("tables", None, Some(PortRule::Cut)).unwrap();
    assert!(get(&port).await.is_err());
    // A caller that goes away has had no answer.
    drop(get(&port).now_or_never());
    let counted = ["started", "answered", "failed", "took_us"]
        .map(|what| count(&observer, &format!("calls.tables.gateway-1.{what}")));
    assert_eq!(counted, [3, 1, 2, 2_100_000]);
}

#[tokio::test(start_paused = true)]
async fn rule_of_one_node_leaves_the_others_alone() {
    let (port, hooks, _) = bench(true);
    hooks.set("tables", Some("gateway-2"), Some(PortRule::Cut)).unwrap();
    hooks.set("history", None, Some(PortRule::Cut)).unwrap();
    get(&port).await.unwrap();
    assert!(hooks.set("disk", None, None).is_err());
}

#[tokio::test(start_paused = true)]
async fn silent_store_ends_a_call_at_its_time_limit() {
    let (port, _, _) = bench(false);
    let began = Instant::now();
    assert!(matches!(get(&port).await, Err(PortError::Unknown(_))));
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn call_beyond_the_waiting_limit_is_refused_at_once() {
    let (port, _, observer) = bench(false);
    let mut waiting = Box::pin(join_all((0..256).map(|_| get(&port))));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(matches!(get(&port).await, Err(PortError::Refused(_))));
    let gauge =
        observer.gauges().into_iter().find(|(name, _, _)| name == "port.tables.waiting").unwrap();
    assert_eq!((gauge.1, gauge.2), (256, 256));
    drop(waiting);
    assert!(matches!(get(&port).await, Err(PortError::Unknown(_))));
}

fn longest(observer: &Observer) -> (u64, u64) {
    let gauge = observer.gauges().into_iter().find(|(name, _, _)| name == "port.tables.get.us");
    gauge.map(|(_, value, limit)| (value, limit)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn call_that_runs_into_its_deadline_stays_within_the_limit_of_its_gauge() {
    let (port, hooks, observer) = bench(false);
    let limit = u64::try_from((LIMIT + WAKE_SLACK).as_micros()).unwrap();
    assert!(get(&port).await.is_err());
    assert_eq!(longest(&observer), (2_000_000, limit));
    // What the hook holds back is part of the limit, and not added to it.
    let slow = PortRule::Slow { delay: LIMIT / 2, jitter: Duration::ZERO };
    hooks.set("tables", None, Some(slow)).unwrap();
    assert!(get(&port).await.is_err());
    assert_eq!(longest(&observer), (2_000_000, limit));
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_caller_stood_still_is_not_the_ports() {
    let (port, _, observer) =
        guarded(Twin { answers: true, stands_still: Some(LIMIT / 2), ..Twin::default() });
    get(&port).await.unwrap();
    assert_eq!(longest(&observer).0, 0);
}
