//! When intents are handed over, and how late: the scheduler of a shard.
//!
//! Its thread sleeps until the next intended start, at most a millisecond and at least three quarters of one, and hands over what
//! is due through a bounded queue. It never touches a socket and never waits for one; a full queue is a dropped arrival.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError};

use storm_workload::schedule::Intents;
use storm_workload::{Intent, Schedule};
use tokio::sync::Notify;

use crate::clock::RunClock;

/// Intents that may wait for the I/O thread.
pub const WAITING_MAX: usize = 65_536;
/// Longest sleep.
const SLEEP_MAX_NS: u64 = 1_000_000;
/// Shortest sleep: bounds the wake-ups at high rates; what it adds is measured as lag.
const SLEEP_MIN_NS: u64 = 750_000;

/// An intent that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// What is to be sent.
    pub intent: Intent,
    /// Intended start on the run's clock.
    pub due_ns: u64,
    /// The same on the load clock.
    pub load_ns: u64,
    /// When it was handed over.
    pub fired_ns: u64,
}

/// A phase to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Place of the phase in the plan.
    pub phase: usize,
    /// When it begins, on the run's clock.
    pub at_ns: u64,
}

/// The intents of one shard in one phase.
pub struct Pacer<'s> {
    schedule: &'s Schedule,
    intents: Intents<'s>,
    next: Option<Intent>,
    at_ns: u64,
    from_ns: u64,
    shard: u32,
    shards: u32,
}

impl<'s> Pacer<'s> {
    /// The intents of a phase whose senders belong to `shard`.
    pub fn new(schedule: &'s Schedule, begin: Begin, shard: u32, shards: u32) -> Self {
        let from_ns =
            schedule.plan().phases.get(begin.phase).and_then(|phase| phase.from_ns).unwrap_or(0);
        let intents = schedule.enumerate(begin.phase);
        let mut pacer =
            Self { schedule, intents, next: None, at_ns: begin.at_ns, from_ns, shard, shards };
        pacer.advance();
        pacer
    }

    fn advance(&mut self) {
        let population = self.schedule.population();
        let (shard, shards) = (self.shard, self.shards);
        self.next = self.intents.find(|intent| {
            shards == 1 || population.shard_of(population.user_of(intent.sender), shards) == shard
        });
    }

    /// Intended start of the next intent on the run's clock.
    pub fn next_ns(&self) -> Option<u64> {
        self.next.map(|intent| self.at_ns.saturating_add(intent.due_ns))
    }

    /// Hands over everything due at `now`, before `end_ns`. Intended starts are those of the schedule, however late this is called.
    pub fn fire(&mut self, now: u64, end_ns: u64, mut to: impl FnMut(Due)) {
        while let Some(intent) = self.next {
            let due_ns = self.at_ns.saturating_add(intent.due_ns);
            if due_ns > now || due_ns >= end_ns {
                return;
            }
            to(Due { intent, due_ns, load_ns: self.from_ns + intent.due_ns, fired_ns: now });
            self.advance();
        }
    }
}

/// The scheduler's side of a shard.
pub(crate) struct Scheduler {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) shard: u32,
    pub(crate) shards: u32,
    pub(crate) clock: RunClock,
    pub(crate) begins: Receiver<Begin>,
    pub(crate) out: SyncSender<Due>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) dropped: Arc<AtomicU64>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Scheduler {
    /// Fires phases until told to stop, or until nobody can begin one any more.
    pub(crate) fn run(self) {
        let Ok(mut begin) = self.begins.recv() else { return };
        while !self.stop.load(Relaxed) {
            let mut pacer = Pacer::new(&self.schedule, begin, self.shard, self.shards);
            match self.fire(&mut pacer) {
                Some(next) => begin = next,
                None => return,
            }
        }
    }

    fn fire(&self, pacer: &mut Pacer<'_>) -> Option<Begin> {
        let mut following: Option<Begin> = None;
        loop {
            if self.stop.load(Relaxed) {
                return None;
            }
            if following.is_none() {
                following = if pacer.next_ns().is_none() {
                    // Nothing left in this phase: only another one can bring work.
                    Some(self.begins.recv().ok()?)
                } else {
                    match self.begins.try_recv() {
                        Ok(begin) => Some(begin),
                        Err(TryRecvError::Empty) => None,
                        Err(TryRecvError::Disconnected) => return None,
                    }
                };
            }
            let now = self.clock.now_ns();
            let end_ns = following.map_or(u64::MAX, |begin| begin.at_ns);
            let mut fired = false;
            pacer.fire(now, end_ns, |due| match self.out.try_send(due) {
                Ok(()) => fired = true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.dropped.fetch_add(1, Relaxed);
                }
            });
            if fired {
                self.wake.notify_one();
            }
            let next_ns = pacer.next_ns().filter(|next| *next < end_ns);
            if let (None, Some(begin)) = (next_ns, following) {
                return Some(begin);
            }
            let wait = next_ns.map_or(SLEEP_MAX_NS, |next| next.saturating_sub(now));
            sleep(wait.clamp(SLEEP_MIN_NS, SLEEP_MAX_NS));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the scheduler has a thread of its own; a runtime's timers are too coarse"
)]
fn sleep(ns: u64) {
    std::thread::sleep(std::time::Duration::from_nanos(ns));
}
