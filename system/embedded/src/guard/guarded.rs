//! The wrapper: counts, limits and conditions the calls of one node on one port.
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use chat_control::act::PortRule;
use chat_ports::PortError;
use chat_ports::observe::{Counter, Gauge, Observer};
use tokio::time::Instant;

use super::hooks::{HookPoint, Hooks};
use super::standstill;
use crate::desk::{Place, WAITING_MAX};

/// So much above its time limit a call may be measured. Its timer wakes up after the deadline and not at it, and the thread
/// that it wakes may first have to do what became due before; without this a call that ends exactly as it should would be
/// above the limit of its gauge.
pub const WAKE_SLACK: Duration = Duration::from_millis(100);

/// A port that can be guarded.
pub trait Port: Send + Sync {
    /// Name in hooks and counters.
    const NAME: &'static str;
    /// Names of its operations.
    const OPS: &'static [&'static str];

    /// How long a call of `OPS[op]` may take where the port's own limit is `limit`.
    fn longest(_op: usize, limit: Duration) -> Duration {
        limit
    }
}

/// Counters of one operation.
#[derive(Debug)]
struct Op {
    calls: Counter,
    errors: Counter,
    longest_us: Gauge,
}

/// How the calls of one node on one port went, all operations together.
#[derive(Debug)]
struct Calls {
    started: Counter,
    answered: Counter,
    /// Ended without an answer: refused, failed, out of time, or given up by the caller.
    failed: Counter,
    /// Time of all calls that ended.
    took_us: Counter,
}

/// One call under way; a caller that goes away counts as a call without an answer.
struct Underway<'a> {
    calls: &'a Calls,
    ended: bool,
}

impl<'a> Underway<'a> {
    fn begin(calls: &'a Calls) -> Self {
        calls.started.add(1);
        Self { calls, ended: false }
    }

    fn end(mut self, took_us: u64, failed: bool) {
        self.ended = true;
        self.calls.took_us.add(took_us);
        if failed { &self.calls.failed } else { &self.calls.answered }.add(1);
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.calls.failed.add(1);
        }
    }
}

/// A port as one node sees it. At most 256 calls wait; a further one is refused. A call that is not answered within its time
/// limit ends as unknown.
pub struct Guarded<P: ?Sized> {
    pub(super) inner: Arc<P>,
    pub(super) limit: Duration,
    point: Arc<HookPoint>,
    waiting: AtomicUsize,
    ops: Vec<Op>,
    calls: Calls,
    bytes: Counter,
    fullest: Gauge,
    hits: Counter,
}

impl<P: Port + ?Sized> Guarded<P> {
    /// Guards a port for a node. `limit` is the time one call may take.
    pub fn new(
        inner: Arc<P>,
        node: &str,
        hooks: &Hooks,
        observer: &Observer,
        limit: Duration,
    ) -> Self {
        let port = P::NAME;
        let op = |(op, name): (usize, &&'static str)| Op {
            calls: observer.counter(format!("port.{port}.{name}.calls")),
            errors: observer.counter(format!("port.{port}.{name}.errors")),
            longest_us: observer.gauge(
                format!("port.{port}.{name}.us"),
                micros(P::longest(op, limit) + WAKE_SLACK),
            ),
        };
        let calls = |what| observer.counter(format!("calls.{port}.{node}.{what}"));
        let calls = Calls {
            started: calls("started"),
            answered: calls("answered"),
            failed: calls("failed"),
            took_us: calls("took_us"),
        };
        Self {
            inner,
            limit,
            calls,
            point: hooks.point(port, node),
            waiting: AtomicUsize::new(0),
            ops: P::OPS.iter().enumerate().map(op).collect(),
            bytes: observer.counter(format!("port.{port}.bytes")),
            fullest: observer.gauge(format!("port.{port}.waiting"), WAITING_MAX as u64),
            hits: observer.counter(format!("hook.{port}.hits")),
        }
    }

    /// Counts payload that passed.
    pub(super) fn passed(&self, bytes: usize) {
        self.bytes.add(bytes as u64);
    }

    /// Does a call under the guard's own time limit.
    pub(super) async fn call<T>(
        &self,
        op: usize,
        work: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        self.call_within(op, self.limit, work).await
    }

    /// Does a call under another time limit, which what the hook holds it back for is part of.
    pub(super) async fn call_within<T>(
        &self,
        op: usize,
        limit: Duration,
        work: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        let bounded = async {
            let deadline = Instant::now() + limit;
            self.pass(limit).await?;
            let answer = tokio::time::timeout_at(deadline, work).await;
            if self.is_reset() {
                return Err(reset());
            }
            answer.unwrap_or_else(|_| Err(late()))
        };
        self.measured(op, Result::is_err, Err, bounded).await
    }

    /// Counts a call and keeps its place among the waiting ones; `refused` makes the answer when there is none left.
    pub(super) async fn measured<T>(
        &self,
        op: usize,
        failed: impl Fn(&T) -> bool,
        refused: impl FnOnce(PortError) -> T,
        work: impl Future<Output = T> + Send,
    ) -> T {
        let op = &self.ops[op];
        op.calls.add(1);
        let underway = Underway::begin(&self.calls);
        let place = match Place::take(&self.waiting) {
            Ok(place) => place,
            Err(error) => {
                op.errors.add(1);
                underway.end(0, true);
                return refused(error);
            }
        };
        self.fullest.seen(place.taken as u64);
        let (began, stood) = (Instant::now(), standstill::total());
        let result = work.await;
        // While the caller's thread stood still nobody waited for this port.
        let stood = standstill::total().saturating_sub(stood);
        let took_us = micros(began.elapsed().saturating_sub(stood));
        op.longest_us.seen(took_us);
        let failed = failed(&result);
        underway.end(took_us, failed);
        if failed {
            op.errors.add(1);
        }
        result
    }

    /// Whether answers meet a reset.
    pub(super) fn is_reset(&self) -> bool {
        self.point.rule() == Some(PortRule::Reset)
    }

    /// What the hook's rule makes of a call before it leaves: nothing, a delay, a wait for the end of a stall, its loss after
    /// `limit`, or a reset.
    pub(super) async fn pass(&self, limit: Duration) -> Result<(), PortError> {
        let Some(rule) = self.point.rule() else { return Ok(()) };
        self.hits.add(1);
        let deadline = Instant::now() + limit;
        let rule = match rule {
            PortRule::Stall => self.point.after_stall(deadline).await,
            other => Some(other),
        };
        let delay = match rule {
            None => return Ok(()),
            // The answer of the others meets the rule on its way back.
            Some(PortRule::Reset) if self.point.before() => return Err(reset()),
            Some(PortRule::Reset) => return Ok(()),
            Some(PortRule::Cut | PortRule::Stall) => {
                tokio::time::sleep_until(deadline).await;
                return Err(late());
            }
            Some(PortRule::Slow { delay, jitter }) => self.point.draw(delay, jitter),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::time::sleep(delay.min(left)).await;
        if delay >= left { Err(late()) } else { Ok(()) }
    }
}

fn reset() -> PortError {
    PortError::Unknown("the connection was reset".to_owned())
}

fn late() -> PortError {
    PortError::Unknown("no answer within the time limit".to_owned())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
