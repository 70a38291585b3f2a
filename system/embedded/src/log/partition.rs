//! One partition: leader, ISR, high watermark, and the appends and fetches that wait for them.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::{Appended, Fetched, Partition, Why};

use super::cluster::{Broker, Effect, Now};
use super::config::{LogConfig, ReadIsolation};
use super::replica::{Batch, Replica};

/// An append on its way to the leader.
#[derive(Debug)]
pub(super) struct Pending<A> {
    pub values: Vec<Bytes>,
    pub bytes: u64,
    pub asked: Duration,
    /// When the leader that has the request will have done it.
    pub due: Option<Duration>,
    /// Some leader has or had it, so nobody may say that nothing will come of it.
    pub reached: bool,
    /// `None`: the producer has been answered already.
    pub token: Option<A>,
}

/// An append that waits for replication.
#[derive(Debug)]
struct InFlight<A> {
    batch: Arc<Batch>,
    asked: Duration,
    token: A,
}

/// A fetch that waits for records.
#[derive(Debug)]
pub(super) struct Waiter<F> {
    pub group: Option<Arc<str>>,
    pub offset: u64,
    pub max_bytes: usize,
    pub deadline: Duration,
    pub token: F,
}

/// What a partition needs to know of the cluster around it.
pub(super) struct Around<'a> {
    pub config: &'a LogConfig,
    pub brokers: &'a mut [Broker],
    pub paused: &'a std::collections::BTreeSet<Arc<str>>,
    /// Bytes of appends without answer.
    pub buffered: &'a mut u64,
}

#[derive(Debug)]
pub(super) struct PartitionState<A, F> {
    pub id: Partition,
    /// Index of the preferred leader.
    pub preferred: usize,
    pub leader: Option<usize>,
    /// The leader before the present gap.
    pub lost: Option<usize>,
    pub epoch: u64,
    pub in_sync: Vec<bool>,
    pub replicas: Vec<Replica>,
    pub high_watermark: u64,
    pub start: u64,
    last_ms: u64,
    inbox: VecDeque<Pending<A>>,
    in_flight: VecDeque<InFlight<A>>,
    waiters: Vec<Waiter<F>>,
    /// Earliest moment at which something here is due.
    pub next: Option<Duration>,
}

impl<A, F> PartitionState<A, F> {
    pub(super) fn new(id: Partition, preferred: usize, brokers: usize) -> Self {
        Self {
            id,
            preferred,
            leader: Some(preferred),
            lost: None,
            epoch: 1,
            in_sync: vec![true; brokers],
            replicas: (0..brokers).map(|_| Replica::default()).collect(),
            high_watermark: 0,
            start: 0,
            last_ms: 0,
            inbox: VecDeque::new(),
            in_flight: VecDeque::new(),
            waiters: Vec::new(),
            next: None,
        }
    }

    pub(super) fn insync_count(&self) -> usize {
        self.in_sync.iter().filter(|s| **s).count()
    }

    /// Offset up to which a fetch may see records; nothing without a leader.
    fn visible(&self, isolation: ReadIsolation) -> u64 {
        match (self.leader, isolation) {
            (None, _) => self.start,
            (Some(_), ReadIsolation::Replicated) => self.high_watermark,
            (Some(leader), ReadIsolation::Everything) => self.replicas[leader].end,
        }
    }

    /// Bytes and stamp of the oldest record at or above an offset: how much, and since when, a reader there has not read.
    pub(super) fn unread(&self, position: u64) -> (u64, Option<u64>) {
        let Some(replica) = self.leader.or(Some(self.preferred)).map(|l| &self.replicas[l]) else {
            return (0, None);
        };
        replica
            .batch_at(position.max(self.start))
            .map_or((0, None), |b| (replica.bytes_ever() - b.bytes_before, Some(b.log_ms)))
    }

    /// Bytes kept.
    pub(super) fn bytes_kept(&self) -> u64 {
        let replica = &self.replicas[self.leader.unwrap_or(self.preferred)];
        replica.batches.front().map_or(0, |b| replica.bytes_ever() - b.bytes_before)
    }

    /// Stamp of the oldest record kept.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.replicas[self.leader.unwrap_or(self.preferred)].batches.front().map(|b| b.log_ms)
    }

    pub(super) fn accept(&mut self, pending: Pending<A>) {
        self.inbox.push_back(pending);
    }

    /// Answers a fetch now or keeps it waiting.
    pub(super) fn fetch(
        &mut self,
        waiter: Waiter<F>,
        now: Duration,
        around: &Around<'_>,
        effects: &mut Vec<Effect<A, F>>,
    ) {
        if waiter.offset < self.start || self.ready(&waiter, around) || waiter.deadline <= now {
            self.answer(waiter, around, effects);
        } else {
            sooner(&mut self.next, waiter.deadline);
            self.waiters.push(waiter);
        }
    }

    fn ready(&self, waiter: &Waiter<F>, around: &Around<'_>) -> bool {
        waiter.offset < self.visible(around.config.isolation) && !is_paused(waiter, around)
    }

    fn answer(&self, waiter: Waiter<F>, around: &Around<'_>, effects: &mut Vec<Effect<A, F>>) {
        let fetched = if waiter.offset < self.start {
            Err(PortError::Refused(format!(
                "offset {} is below the start of the log, {}",
                waiter.offset, self.start
            )))
        } else {
            let records = match self.leader {
                Some(leader) if self.ready(&waiter, around) => {
                    let to = self.visible(around.config.isolation);
                    self.replicas[leader].read(waiter.offset, to, waiter.max_bytes)
                }
                _ => Vec::new(),
            };
            Ok(Fetched { records, high_watermark: self.high_watermark, start: self.start })
        };
        effects.push(Effect::Fetched(waiter.token, fetched));
    }

    /// Does everything that is due: takes appends in, replicates, moves the high watermark, answers.
    pub(super) fn advance(
        &mut self,
        now: Now,
        around: &mut Around<'_>,
        effects: &mut Vec<Effect<A, F>>,
    ) {
        self.next = None;
        self.give_up(now.at, around, effects);
        if let Some(leader) = self.leader {
            self.take_in(leader, now, around, effects);
            self.replicate(leader, now.at, around);
            self.confirm(now.at, leader, around, effects);
            self.delete_old(leader, now.wall_ms, around.config);
        }
        self.wake(now.at, around, effects);
        let limit = around.config.append;
        let inbox = self.inbox.iter().filter(|p| p.token.is_some()).map(|p| p.asked + limit).min();
        let in_flight = self.in_flight.iter().map(|i| i.asked + limit).min();
        for due in [inbox, in_flight].into_iter().flatten() {
            sooner(&mut self.next, due);
        }
    }

    /// Answers appends whose time is over.
    fn give_up(&mut self, now: Duration, around: &mut Around<'_>, effects: &mut Vec<Effect<A, F>>) {
        let limit = around.config.append;
        let over = |asked: Duration| asked + limit <= now;
        if self.in_flight.iter().any(|flying| over(flying.asked)) {
            for flying in std::mem::take(&mut self.in_flight) {
                if over(flying.asked) {
                    *around.buffered -= flying.batch.bytes;
                    effects.push(Effect::Appended(flying.token, Appended::Unknown(Why::TimedOut)));
                } else {
                    self.in_flight.push_back(flying);
                }
            }
        }
        for pending in &mut self.inbox {
            if over(pending.asked)
                && let Some(token) = pending.token.take()
            {
                let outcome = if pending.reached {
                    Appended::Unknown(Why::TimedOut)
                } else {
                    Appended::NotAppended(Why::NoLeader)
                };
                effects.push(Effect::Appended(token, outcome));
            }
        }
        // What no leader has and nobody waits for is gone; what a slow leader has, it will still do.
        self.inbox.retain(|p| {
            let keep = p.token.is_some() || p.due.is_some();
            if !keep {
                *around.buffered -= p.bytes;
            }
            keep
        });
    }

    fn take_in(
        &mut self,
        leader: usize,
        now: Now,
        around: &mut Around<'_>,
        effects: &mut Vec<Effect<A, F>>,
    ) {
        let delay = around.brokers[leader].delay;
        while let Some(front) = self.inbox.front_mut() {
            let due = *front.due.get_or_insert(now.at + delay);
            front.reached = true;
            if due > now.at {
                sooner(&mut self.next, due);
                // The requests behind it have reached this leader too.
                for pending in &mut self.inbox {
                    pending.due.get_or_insert(now.at + delay);
                    pending.reached = true;
                }
                return;
            }
            let pending = self.inbox.pop_front().expect("there is a front");
            if self.insync_count() < around.config.min_insync {
                *around.buffered -= pending.bytes;
                if let Some(token) = pending.token {
                    effects.push(Effect::Appended(
                        token,
                        Appended::NotAppended(Why::NotEnoughReplicas),
                    ));
                }
                continue;
            }
            self.write(leader, pending, now, around);
        }
    }

    fn write(&mut self, leader: usize, pending: Pending<A>, now: Now, around: &mut Around<'_>) {
        let end = self.replicas[leader].end;
        for replica in self.replicas.iter_mut().filter(|r| r.end == end) {
            replica.caught_up = now.at;
        }
        self.last_ms = self.last_ms.max(now.wall_ms);
        let batch = Arc::new(Batch {
            base: end,
            log_ms: self.last_ms,
            bytes: pending.bytes,
            bytes_before: self.replicas[leader].bytes_ever(),
            values: pending.values,
        });
        around.brokers[leader].bytes_led += pending.bytes;
        self.replicas[leader].push(Arc::clone(&batch));
        match pending.token {
            Some(token) => {
                self.in_flight.push_back(InFlight { batch, asked: pending.asked, token });
            }
            None => *around.buffered -= pending.bytes,
        }
    }

    fn replicate(&mut self, leader: usize, now: Duration, around: &Around<'_>) {
        let end = self.replicas[leader].end;
        for (index, broker) in around.brokers.iter().enumerate() {
            if index == leader || !broker.up {
                continue;
            }
            let behind = self.replicas[index].end < end;
            if behind {
                let delay = broker.delay + around.config.fetch_delay;
                let due = *self.replicas[index].fetch_due.get_or_insert(now + delay);
                if due > now {
                    sooner(&mut self.next, due);
                    let out = self.replicas[index].caught_up + around.config.append;
                    if self.in_sync[index] && out <= now {
                        self.in_sync[index] = false;
                    } else if self.in_sync[index] {
                        sooner(&mut self.next, out);
                    }
                    continue;
                }
                let mut follower = std::mem::take(&mut self.replicas[index]);
                follower.fetch_from(&self.replicas[leader]);
                self.replicas[index] = follower;
            }
            self.replicas[index].fetch_due = None;
            self.replicas[index].caught_up = now;
            self.in_sync[index] = true;
        }
    }

    /// Moves the high watermark and answers the appends below it. It never moves while fewer than `min.insync` replicas
    /// are in sync, so that everything below it is on as many.
    fn confirm(
        &mut self,
        now: Duration,
        leader: usize,
        around: &mut Around<'_>,
        effects: &mut Vec<Effect<A, F>>,
    ) {
        if self.insync_count() < around.config.min_insync {
            for flying in self.in_flight.drain(..) {
                *around.buffered -= flying.batch.bytes;
                effects.push(Effect::Appended(
                    flying.token,
                    Appended::Unknown(Why::NotEnoughReplicas),
                ));
            }
            return;
        }
        let ends = self.replicas.iter().zip(&self.in_sync).filter(|(_, s)| **s).map(|(r, _)| r.end);
        self.high_watermark = self.high_watermark.max(ends.min().unwrap_or(0));
        while self.in_flight.front().is_some_and(|f| f.batch.end() <= self.high_watermark) {
            let flying = self.in_flight.pop_front().expect("there is a front");
            *around.buffered -= flying.batch.bytes;
            around.brokers[leader].appended(now, now.saturating_sub(flying.asked));
            let ok = Appended::Ok { base: flying.batch.base, log_ms: flying.batch.log_ms };
            effects.push(Effect::Appended(flying.token, ok));
        }
    }

    fn delete_old(&mut self, leader: usize, wall_ms: u64, config: &LogConfig) {
        let retention_ms = u64::try_from(config.retention.as_millis()).unwrap_or(u64::MAX);
        let replica = &self.replicas[leader];
        let ever = replica.bytes_ever();
        let old = |b: &&Arc<Batch>| {
            let too_many = ever - b.bytes_before > config.retention_bytes;
            b.end() <= self.high_watermark
                && (too_many || b.log_ms.saturating_add(retention_ms) < wall_ms)
        };
        // The newest batch stays, so that the log always knows its bytes and its place.
        let last = replica.batches.len().saturating_sub(1);
        let Some(start) = replica.batches.range(..last).take_while(old).last().map(|b| b.end())
        else {
            return;
        };
        self.start = start;
        for replica in &mut self.replicas {
            replica.delete_below(start);
        }
    }

    /// Answers fetches that have something to read, and those whose time is over.
    pub(super) fn wake(
        &mut self,
        now: Duration,
        around: &Around<'_>,
        effects: &mut Vec<Effect<A, F>>,
    ) {
        let mut index = 0;
        while index < self.waiters.len() {
            let waiter = &self.waiters[index];
            if waiter.offset < self.start || waiter.deadline <= now || self.ready(waiter, around) {
                let waiter = self.waiters.swap_remove(index);
                self.answer(waiter, around, effects);
            } else {
                sooner(&mut self.next, waiter.deadline);
                index += 1;
            }
        }
    }

    /// The leader is gone. Producers keep what has no answer and offer it to the next one.
    pub(super) fn lose_leader(&mut self) {
        self.lost = self.leader.take();
        for pending in &mut self.inbox {
            pending.due = None;
        }
    }

    /// Takes a dead broker out of the ISR, unless it is the last one in it.
    pub(super) fn shrink(&mut self, broker: usize) {
        if self.in_sync[broker] && self.insync_count() > 1 {
            self.in_sync[broker] = false;
        }
    }

    /// Picks a leader from the ISR, the preferred replica first. Answers whether there is one now.
    pub(super) fn elect(&mut self, brokers: &[Broker], now: Duration) -> bool {
        let count = self.replicas.len();
        let order = (0..count).map(|step| (self.preferred + step) % count);
        let Some(leader) = order.into_iter().find(|b| brokers[*b].up && self.in_sync[*b]) else {
            return false;
        };
        self.lead(leader, now);
        true
    }

    /// Makes a replica the leader. All others cut off what it does not have, dead ones included: nothing of theirs can
    /// count again before they have done so.
    pub(super) fn lead(&mut self, leader: usize, now: Duration) {
        self.leader = Some(leader);
        self.lost = None;
        self.epoch += 1;
        let own = std::mem::take(&mut self.replicas[leader]);
        for replica in &mut self.replicas {
            replica.truncate_to(&own);
            replica.fetch_due = None;
            replica.caught_up = now;
        }
        // A producer whose batch did not survive offers it again, before everything it sent later.
        let (kept, lost): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|flying| own.holds(&flying.batch));
        self.replicas[leader] = own;
        self.in_flight = kept;
        for flying in lost.into_iter().rev() {
            self.inbox.push_front(Pending {
                values: flying.batch.values.clone(),
                bytes: flying.batch.bytes,
                asked: flying.asked,
                due: None,
                reached: true,
                token: Some(flying.token),
            });
        }
    }
}

/// Moves the next moment forward to one that comes before it.
pub(super) fn sooner(next: &mut Option<Duration>, due: Duration) {
    *next = Some(next.map_or(due, |n| n.min(due)));
}

fn is_paused<F>(waiter: &Waiter<F>, around: &Around<'_>) -> bool {
    waiter.group.as_ref().is_some_and(|group| around.paused.contains(group))
}
