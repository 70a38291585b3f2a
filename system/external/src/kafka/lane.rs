//! Appends of one partition: they gather, and one batch at a time is on its way.
//!
//! The library spins while acknowledgements stall and more than one batch waits in it, so what arrives meanwhile waits here.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use chat_ports::log::{Appended, Partition, Why};
use chat_ports::observe::{Counter, Gauge};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::KafkaConfig;
use super::producer::{Batch, Flight, Producers};
use super::readers::Ends;

/// Records of a batch; an append that is larger goes alone.
const BATCH_RECORDS: usize = 2_000;
/// Bytes of values of a batch; an append that is larger goes alone.
const BATCH_BYTES: u64 = 512 * 1024;
/// Appends that may wait in front of a partition's task; a further one is refused as the full buffer it is.
const WAITING_MAX: usize = 4_096;

/// The bytes of appends that have no fate yet, over all partitions of a log.
pub(super) struct Buffer {
    used: AtomicU64,
    limit: u64,
    gauge: Gauge,
}

impl Buffer {
    pub(super) fn new(limit: u64, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, gauge })
    }

    /// Room for an append, given back on drop; `None` when there is too little.
    fn room(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let used = self.used.fetch_add(bytes, Relaxed).saturating_add(bytes);
        // The guard exists before the check, so that a refusal gives its room back too.
        let room = Room { buffer: Arc::clone(self), bytes };
        self.gauge.seen(used.min(self.limit));
        (used <= self.limit).then_some(room)
    }
}

struct Room {
    buffer: Arc<Buffer>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.buffer.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// An append that waits for its turn.
pub(super) struct Waiting {
    values: Vec<Bytes>,
    room: Room,
    asked: Instant,
    reply: oneshot::Sender<Appended>,
}

/// What the lanes of a log share.
pub(super) struct Shared {
    pub(super) config: KafkaConfig,
    pub(super) producers: Producers,
    pub(super) buffer: Arc<Buffer>,
    pub(super) ends: Arc<Ends>,
    pub(super) batches: Counter,
    pub(super) records: Counter,
}

/// The ways to the partitions' tasks.
pub(super) struct Lanes {
    buffer: Arc<Buffer>,
    queues: BTreeMap<Partition, mpsc::Sender<Waiting>>,
}

impl Lanes {
    /// A lane for every partition, and the tasks that the caller has to run.
    pub(super) fn new(
        shared: &Arc<Shared>,
    ) -> (Self, Vec<impl Future<Output = ()> + Send + use<>>) {
        let (mut queues, mut tasks) = (BTreeMap::new(), Vec::new());
        for partition in shared.config.all() {
            let (queue, inbox) = mpsc::channel(WAITING_MAX);
            queues.insert(partition, queue);
            tasks.push(Lane::new(partition, Arc::clone(shared), inbox).run());
        }
        (Self { buffer: Arc::clone(&shared.buffer), queues }, tasks)
    }

    /// Appends; the lane answers within the limit of an append.
    pub(super) async fn append(&self, partition: Partition, values: Vec<Bytes>) -> Appended {
        let Some(queue) = self.queues.get(&partition) else {
            return Appended::NotAppended(Why::NoLeader);
        };
        let bytes = values.iter().map(|value| value.len() as u64).sum();
        let Some(room) = self.buffer.room(bytes) else {
            return Appended::NotAppended(Why::BufferFull);
        };
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { values, room, asked: Instant::now(), reply };
        match queue.try_send(waiting) {
            Ok(()) => answer.await.unwrap_or(Appended::Unknown(Why::TimedOut)),
            Err(mpsc::error::TrySendError::Full(_)) => Appended::NotAppended(Why::BufferFull),
            Err(mpsc::error::TrySendError::Closed(_)) => Appended::NotAppended(Why::NoLeader),
        }
    }
}

/// An append on its way.
struct Flying {
    flight: Arc<Flight>,
    room: Room,
    asked: Instant,
    /// Gone once its caller was told that nobody knows.
    reply: Option<oneshot::Sender<Appended>>,
    records: u64,
}

/// The task of one partition.
struct Lane {
    partition: Partition,
    topic: String,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
}

impl Lane {
    fn new(partition: Partition, shared: Arc<Shared>, inbox: mpsc::Receiver<Waiting>) -> Self {
        let topic = shared.config.topic(partition.0);
        Self { partition, topic, shared, inbox, waiting: VecDeque::new() }
    }

    /// Runs until the log is gone.
    async fn run(mut self) {
        while self.gather().await {
            let (batch, flying) = self.hand_over();
            if !self.fly(&batch, flying).await {
                return;
            }
        }
    }

    /// Waits until a batch is due: full, or `linger` after its first record. False when the log is gone.
    async fn gather(&mut self) -> bool {
        if self.waiting.is_empty() {
            let Some(first) = self.inbox.recv().await else { return false };
            self.waiting.push_back(first);
        }
        let due = self.waiting.front().map_or_else(Instant::now, |first| first.asked)
            + self.shared.config.linger;
        while !self.full() {
            tokio::select! {
                biased;
                more = self.inbox.recv() => match more {
                    Some(more) => self.waiting.push_back(more),
                    None => return false,
                },
                () = sleep_until(due) => return true,
            }
        }
        true
    }

    fn full(&self) -> bool {
        let (mut records, mut bytes) = (0, 0);
        self.waiting.iter().any(|waiting| {
            records += waiting.values.len();
            bytes += waiting.room.bytes;
            records >= BATCH_RECORDS || bytes >= BATCH_BYTES
        })
    }

    /// Gives the library the next batch: one append at least, and no more than fit.
    fn hand_over(&mut self) -> (Arc<Batch>, Vec<Flying>) {
        let producer = self.shared.producers.get();
        let number = i32::try_from(self.partition.1).unwrap_or(i32::MAX);
        let (batch, mut flying) = (Arc::<Batch>::default(), Vec::new());
        let (mut records, mut bytes) = (0, 0);
        self.withdraw();
        while let Some(next) = self.waiting.front() {
            records += next.values.len();
            bytes += next.room.bytes;
            let fits = records <= BATCH_RECORDS && bytes <= BATCH_BYTES;
            if !flying.is_empty() && !fits {
                break;
            }
            let Some(Waiting { values, room, asked, reply }) = self.waiting.pop_front() else {
                break;
            };
            let flight = Flight::new(&batch);
            producer.send(&self.topic, number, &values, &flight);
            let records = values.len() as u64;
            flying.push(Flying { flight, room, asked, reply: Some(reply), records });
        }
        if !flying.is_empty() {
            self.shared.batches.add(1);
            self.shared.records.add(flying.iter().map(|one| one.records).sum());
        }
        (batch, flying)
    }

    /// Waits for the fate of a batch while further appends queue up. False when the log is gone.
    async fn fly(&mut self, batch: &Batch, mut flying: Vec<Flying>) -> bool {
        let landed = batch.landed();
        tokio::pin!(landed);
        loop {
            let limit = self.shared.config.append;
            let asked = flying.iter().filter(|f| f.reply.is_some()).map(|f| f.asked).min();
            let asked = asked.into_iter().chain(self.waiting.front().map(|w| w.asked)).min();
            let due = asked.map(|asked| asked + limit);
            tokio::select! {
                biased;
                () = &mut landed => break,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.give_up(&mut flying);
                    self.withdraw();
                }
                more = self.inbox.recv() => match more {
                    Some(more) => self.waiting.push_back(more),
                    None => return false,
                },
            }
        }
        for flying in flying {
            self.answer(flying);
        }
        true
    }

    /// Tells callers whose time is over that nobody knows; the library goes on with their records.
    fn give_up(&self, flying: &mut [Flying]) {
        let now = Instant::now();
        for flying in flying.iter_mut().filter(|f| f.asked + self.shared.config.append <= now) {
            if let Some(reply) = flying.reply.take() {
                answer(reply, Appended::Unknown(Why::TimedOut));
            }
        }
    }

    /// Takes back what waited too long: it was never handed over, so nothing of it will be appended.
    fn withdraw(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.waiting.front() {
            if now < first.asked + self.shared.config.append {
                return;
            }
            if let Some(Waiting { reply, .. }) = self.waiting.pop_front() {
                answer(reply, Appended::NotAppended(Why::NoLeader));
            }
        }
    }

    fn answer(&self, flying: Flying) {
        let Flying { flight, room, asked, reply, records } = flying;
        let outcome = flight.outcome();
        if let Appended::Ok { base, .. } = outcome {
            self.shared.ends.reached(self.partition, base + records);
            let meter = &self.shared.config.meter;
            meter.appended(Instant::now(), self.partition, room.bytes, asked.elapsed());
        }
        if let Some(reply) = reply {
            answer(reply, outcome);
        }
    }
}

/// Answers a call. A caller that went away meanwhile is no error: it decided not to know.
fn answer(reply: oneshot::Sender<Appended>, outcome: Appended) {
    if reply.send(outcome).is_err() {
        tracing::trace!("A caller went away before its answer.");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chat_ports::clock::SteadyClock;
    use chat_ports::log::Topic;
    use chat_ports::observe::Observer;
    use chat_protocol::limits::Timers;
    use tokio::task::JoinSet;

    use super::*;
    use crate::kafka::keeper::Keeper;

    const P0: Partition = (Topic::Messages, 0);

    /// Lanes whose brokers nobody can reach.
    fn unreachable(log_buffer: u64) -> (Lanes, JoinSet<()>) {
        let mut config = KafkaConfig::new("127.0.0.1:1", "", 1, &Timers::short());
        config.append = Duration::from_millis(100);
        config.log_buffer = log_buffer;
        let observer = Observer::new(Arc::new(SteadyClock::new(0)));
        let shared = Arc::new(Shared {
            producers: Producers::start(&config, &Keeper::start().unwrap()).unwrap(),
            buffer: Buffer::new(log_buffer, observer.gauge("log.buffer_bytes", log_buffer)),
            ends: Ends::new(&config),
            batches: observer.counter("kafka.batches"),
            records: observer.counter("kafka.records"),
            config,
        });
        let (lanes, tasks) = Lanes::new(&shared);
        (lanes, tasks.into_iter().collect())
    }

    #[tokio::test]
    async fn append_that_was_handed_over_is_unknown_and_one_that_waited_behind_it_did_not_happen() {
        let (lanes, _tasks) = unreachable(1_000_000);
        let values = |count| vec![Bytes::from_static(b"x"); count];
        // The first one is a whole batch.
        let first = lanes.append(P0, values(BATCH_RECORDS));
        let (first, behind) = tokio::join!(first, lanes.append(P0, values(1)));
        assert_eq!(first, Appended::Unknown(Why::TimedOut));
        assert_eq!(behind, Appended::NotAppended(Why::NoLeader));
    }

    #[tokio::test]
    async fn append_beyond_the_buffer_is_refused_until_there_is_room() {
        let (lanes, _tasks) = unreachable(10);
        let six = || vec![Bytes::from_static(b"123456")];
        let (first, second) = tokio::join!(lanes.append(P0, six()), lanes.append(P0, six()));
        assert_eq!(first, Appended::Unknown(Why::TimedOut));
        assert_eq!(second, Appended::NotAppended(Why::BufferFull));
        // The library still has the first one, and so the buffer has.
        assert_eq!(lanes.append(P0, six()).await, Appended::NotAppended(Why::BufferFull));
    }
}
