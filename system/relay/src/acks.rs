//! Receipts first, then trims: what a device acknowledged is deleted only after its progress is in the log.
//!
//! Acks wait in a book that merges them by device. Every [`TICK`] those whose partitions are free are taken out, their marks are
//! appended (one append at a time and partition), and the queues are trimmed. What the log refuses goes back into the book.
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::{Appended, EventLog, Topic};
use chat_ports::observe::{Counter, Gauge, Observer};
use chat_ports::relay_queue::RelayQueue;
use chat_protocol::ids::partition_of;
use chat_protocol::node::{Ack, LogReceipt, Mark};
use chat_protocol::{ConvId, DeviceId};
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Devices whose trim may wait; the oldest is dropped beyond it, and the device's next ack repeats it.
pub(crate) const DEVICES_MAX: usize = 10_000;
/// Period of appends and trims. A log pays for batches, and a receipt gathers as long before and after.
const TICK: Duration = Duration::from_millis(200);
/// A partition that refused is left alone for this long.
const REST: Duration = Duration::from_millis(250);
/// Marks of one record.
const RECORD_MARKS: usize = 256;
/// Devices of one trim.
const TRIM_DEVICES: usize = 512;

/// Highest `delivered` of a conversation and its reader, with the user to be told.
type Marks = BTreeMap<(ConvId, u64), (u64, u64)>;

#[derive(Default)]
struct Waiting {
    epoch: u64,
    up_to: u64,
    marks: Marks,
}

/// Acks that wait, merged by device.
pub(crate) struct Book {
    waiting: Mutex<Entries>,
    acks: Counter,
    dropped: Counter,
    devices: Gauge,
}

#[derive(Default)]
struct Entries {
    by_device: HashMap<DeviceId, Waiting>,
    /// Each device of `by_device` once, the oldest first.
    order: VecDeque<DeviceId>,
}

impl Book {
    pub(crate) fn new(observer: &Observer) -> Self {
        Self {
            waiting: Mutex::default(),
            acks: observer.counter("relay.acks"),
            dropped: observer.counter("relay.acks_dropped"),
            devices: observer.gauge("relay.acks_waiting", DEVICES_MAX as u64),
        }
    }

    /// Enters acks as gateways sent them.
    pub(crate) fn enter(&self, acks: Vec<Ack>) {
        self.acks.add(acks.len() as u64);
        let mut entries = self.lock();
        for ack in acks {
            let mut marks = Marks::new();
            for mark in ack.marks {
                if let Ok(conv) = ConvId::from_bytes(&mark.conv) {
                    let entry = marks.entry((conv, mark.who)).or_insert((0, mark.notify));
                    entry.0 = entry.0.max(mark.delivered);
                }
            }
            self.merge(
                &mut entries,
                DeviceId(ack.device),
                Waiting { epoch: ack.epoch, up_to: ack.up_to, marks },
            );
        }
        self.devices.seen(entries.order.len() as u64);
    }

    /// Puts back what could not be done.
    fn put_back(&self, undone: impl IntoIterator<Item = (DeviceId, Waiting)>) {
        let mut entries = self.lock();
        for (device, waiting) in undone {
            self.merge(&mut entries, device, waiting);
        }
    }

    fn merge(&self, entries: &mut Entries, device: DeviceId, news: Waiting) {
        if let Some(waiting) = entries.by_device.get_mut(&device) {
            let newest = (waiting.epoch, waiting.up_to).max((news.epoch, news.up_to));
            (waiting.epoch, waiting.up_to) = newest;
            for (pair, mark) in news.marks {
                let entry = waiting.marks.entry(pair).or_insert(mark);
                entry.0 = entry.0.max(mark.0);
            }
            return;
        }
        if entries.order.len() >= DEVICES_MAX
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.by_device.remove(&oldest);
            self.dropped.add(1);
        }
        entries.order.push_back(device);
        entries.by_device.insert(device, news);
    }

    /// Takes out every ack none of whose partitions is in `busy`.
    fn take(&self, partitions: u32, busy: &HashSet<u32>) -> Vec<(DeviceId, Waiting)> {
        let mut entries = self.lock();
        let mut taken = Vec::new();
        for _ in 0..entries.order.len() {
            let Some(device) = entries.order.pop_front() else { break };
            let Some(waiting) = entries.by_device.get(&device) else { continue };
            if waiting.marks.keys().any(|(conv, _)| busy.contains(&partition_of(*conv, partitions)))
            {
                entries.order.push_back(device);
            } else {
                taken.extend(entries.by_device.remove(&device).map(|waiting| (device, waiting)));
            }
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Acks that were taken together.
struct Round {
    acks: Vec<Option<(DeviceId, Waiting)>>,
    /// Appends that each ack still waits for, and whether one failed.
    left: Vec<(u32, bool)>,
    of_partition: BTreeMap<u32, Vec<usize>>,
}

/// The task that empties the book.
pub(crate) struct Acks {
    book: Arc<Book>,
    log: Arc<dyn EventLog>,
    queue: Arc<dyn RelayQueue>,
    partitions: u32,
    rounds: BTreeMap<u64, Round>,
    next_round: u64,
    /// Round, partition, and whether it was appended. Tasks, because they go on while a trim is waited for.
    appends: JoinSet<(u64, u32, bool)>,
    busy: HashSet<u32>,
    resting: BTreeMap<u32, Instant>,
    trims: Vec<(DeviceId, u64, u64)>,
    refused: Counter,
    trimmed: Counter,
}

impl Acks {
    pub(crate) fn new(
        book: Arc<Book>,
        log: Arc<dyn EventLog>,
        queue: Arc<dyn RelayQueue>,
        partitions: u32,
        observer: &Observer,
    ) -> Self {
        Self {
            book,
            log,
            queue,
            partitions: partitions.max(1),
            rounds: BTreeMap::new(),
            next_round: 0,
            appends: JoinSet::new(),
            busy: HashSet::new(),
            resting: BTreeMap::new(),
            trims: Vec::new(),
            refused: observer.counter("relay.receipts_refused"),
            trimmed: observer.counter("relay.trims"),
        }
    }

    pub(crate) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.begin_round();
                    self.trim().await;
                }
                Some(appended) = self.appends.join_next() => match appended {
                    Ok((round, partition, appended)) => self.appended(round, partition, appended),
                    Err(error) => if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    },
                },
            }
        }
    }

    fn begin_round(&mut self) {
        let now = Instant::now();
        let busy = &mut self.busy;
        self.resting.retain(|partition, until| {
            let rests = now < *until;
            if !rests {
                busy.remove(partition);
            }
            rests
        });
        let taken = self.book.take(self.partitions, &self.busy);
        let mut marks: BTreeMap<u32, Marks> = BTreeMap::new();
        let mut round = Round { acks: Vec::new(), left: Vec::new(), of_partition: BTreeMap::new() };
        for (device, waiting) in taken {
            if waiting.marks.is_empty() {
                self.trims.push((device, waiting.epoch, waiting.up_to));
                continue;
            }
            let mut wanted: Vec<u32> = Vec::with_capacity(waiting.marks.len());
            for (pair, mark) in &waiting.marks {
                let partition = partition_of(pair.0, self.partitions);
                if !wanted.contains(&partition) {
                    wanted.push(partition);
                }
                let entry = marks.entry(partition).or_default().entry(*pair).or_insert(*mark);
                entry.0 = entry.0.max(mark.0);
            }
            for partition in &wanted {
                round.of_partition.entry(*partition).or_default().push(round.acks.len());
            }
            round.left.push((u32::try_from(wanted.len()).unwrap_or(u32::MAX), false));
            round.acks.push(Some((device, waiting)));
        }
        if round.acks.is_empty() {
            return;
        }
        self.next_round += 1;
        for (partition, marks) in marks {
            self.busy.insert(partition);
            let (log, number, values) = (Arc::clone(&self.log), self.next_round, records(&marks));
            self.appends.spawn(async move {
                let appended = log.append((Topic::Receipts, partition), values).await;
                (number, partition, matches!(appended, Appended::Ok { .. }))
            });
        }
        self.rounds.insert(self.next_round, round);
    }

    fn appended(&mut self, number: u64, partition: u32, appended: bool) {
        if appended {
            self.busy.remove(&partition);
        } else {
            self.refused.add(1);
            self.resting.insert(partition, Instant::now() + REST);
        }
        let Some(round) = self.rounds.get_mut(&number) else { return };
        for at in round.of_partition.remove(&partition).unwrap_or_default() {
            let (left, failed) = &mut round.left[at];
            *left -= 1;
            *failed |= !appended;
            if *left > 0 {
                continue;
            }
            match round.acks[at].take() {
                Some(ack) if *failed => self.book.put_back([ack]),
                Some((device, waiting)) => self.trims.push((device, waiting.epoch, waiting.up_to)),
                None => {}
            }
        }
        if round.of_partition.is_empty() {
            self.rounds.remove(&number);
        }
    }

    async fn trim(&mut self) {
        for part in std::mem::take(&mut self.trims).chunks(TRIM_DEVICES) {
            let done: Result<(), PortError> = self.queue.trim(part).await;
            match done {
                Ok(()) => self.trimmed.add(part.len() as u64),
                Err(_) => self.book.put_back(part.iter().map(|&(device, epoch, up_to)| {
                    (device, Waiting { epoch, up_to, ..Waiting::default() })
                })),
            }
        }
    }
}

fn records(marks: &Marks) -> Vec<Bytes> {
    let marks: Vec<Mark> = marks
        .iter()
        .map(|((conv, who), (delivered, notify))| Mark {
            conv: Bytes::copy_from_slice(&conv.to_bytes()),
            who: *who,
            delivered: *delivered,
            notify: *notify,
        })
        .collect();
    marks
        .chunks(RECORD_MARKS)
        .map(|marks| LogReceipt { marks: marks.to_vec() }.encode_to_vec().into())
        .collect()
}
