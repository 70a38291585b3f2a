//! Calls of a size at a rate, and how long they take.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

/// Calls of one kind that may be under way; what comes due beyond them is skipped and shows in the rate.
const UNDER_WAY: usize = 64;

/// So many items at a time, so many times a second.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) mean: f64,
    pub(crate) a_second: f64,
}

impl Load {
    /// So many in the call of this number: whole numbers whose average is the mean.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few and positive")]
    fn items(self, call: u64) -> u64 {
        let until = |calls: u64| (self.mean * calls as f64).floor() as u64;
        until(call + 1) - until(call)
    }
}

/// What is called again and again.
#[async_trait]
pub(crate) trait Target: Send + Sync + 'static {
    /// The call of this number, with so many items; whether it was done.
    async fn call(&self, number: u64, items: u64) -> bool;
}

/// A call that was begun while it was measured.
#[derive(Clone)]
pub(crate) struct Called {
    items: u64,
    /// `None` for one that failed.
    took: Option<Duration>,
}

/// Calls at a rate until an end.
pub(crate) struct Pace {
    pub(crate) load: Load,
    pub(crate) end: Instant,
    /// Whether calls that begin now are measured.
    pub(crate) measured: Arc<AtomicBool>,
}

impl Pace {
    /// Calls, and answers what was measured.
    pub(crate) async fn drive(self, target: Arc<dyn Target>) -> Vec<Called> {
        let (mut called, mut under_way) = (Vec::new(), JoinSet::new());
        let mut due = interval(Duration::from_secs_f64(1.0 / self.load.a_second));
        for number in 0.. {
            due.tick().await;
            if Instant::now() >= self.end {
                break;
            }
            while let Some(ended) = under_way.try_join_next() {
                called.extend(ended.expect("no call panics"));
            }
            if under_way.len() >= UNDER_WAY {
                continue;
            }
            let (target, items) = (Arc::clone(&target), self.load.items(number));
            let measured = self.measured.load(Relaxed);
            under_way.spawn(async move {
                let began = Instant::now();
                let done = target.call(number, items).await;
                measured.then(|| Called { items, took: done.then(|| began.elapsed()) })
            });
        }
        called.extend(under_way.join_all().await.into_iter().flatten());
        called
    }
}

/// The calls of one kind together.
pub(crate) struct Calls {
    pub(crate) what: &'static str,
    pub(crate) a_second: f64,
    pub(crate) items_a_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) failed: usize,
}

impl Calls {
    pub(crate) fn of(what: &'static str, called: &[Called], seconds: f64) -> Self {
        let done = || called.iter().filter_map(|call| Some((call.items, call.took?)));
        let items: u64 = done().map(|(items, _)| items).sum();
        let mut took: Vec<_> = done().map(|(_, took)| took).collect();
        took.sort_unstable();
        let at = |percent| took.get(took.len() * percent / 100).copied().unwrap_or_default();
        Self {
            what,
            a_second: took.len() as f64 / seconds,
            items_a_second: items as f64 / seconds,
            p50: at(50),
            p99: at(99),
            failed: called.len() - took.len(),
        }
    }
}
