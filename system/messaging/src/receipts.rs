//! The record handler of `chat.receipts`: merge marks by maximum, gather for a moment, owe them to the senders' devices.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::Record;
use chat_ports::observe::{Counter, Gauge, Observer};
use chat_protocol::ids::slot_of;
use chat_protocol::node::{Envelope, LogReceipt, Mark, QueueItem, envelope};
use chat_protocol::{ConvId, UserId};
use prost::Message as _;
use tokio::time::Instant;

use crate::Deps;
use crate::directory::{Directory, Found};
use crate::pump::{Factory, Handler};
use crate::slots::Slots;

/// Marks remembered by one partition. Beyond it a new pair is passed on without being remembered, so it may repeat.
pub(crate) const MARKS_MAX: usize = 1_000_000;
/// So many gathered marks are owed without gathering on.
const GATHERED_MAX: usize = 256;

type Pair = (ConvId, UserId);

/// Makes the handlers of one node.
pub(crate) struct ReceiptsFactory {
    directory: Arc<Directory>,
    coalesce: Duration,
    observer: Observer,
}

impl ReceiptsFactory {
    pub(crate) fn new(deps: &Deps, directory: Arc<Directory>) -> Self {
        Self { directory, coalesce: deps.timers.receipt_coalesce, observer: deps.observer.clone() }
    }
}

impl Factory for ReceiptsFactory {
    type Handler = Receipts;

    fn source(&self, partition: u32) -> String {
        format!("r{partition}")
    }

    async fn open(&self, _: u32, begin: u64) -> Result<Receipts, PortError> {
        Ok(Receipts {
            next: begin,
            after: begin,
            marks: HashMap::new(),
            gathered: BTreeMap::new(),
            since: None,
            coalesce: self.coalesce,
            directory: Arc::clone(&self.directory),
            prepared: Vec::new(),
            taken: self.observer.counter("receipts.marks"),
            owed: self.observer.counter("receipts.owed"),
            remembered: self.observer.gauge("receipts.remembered", MARKS_MAX as u64),
        })
    }
}

/// The handler of one partition.
pub(crate) struct Receipts {
    next: u64,
    after: u64,
    /// Highest mark passed on of each pair.
    marks: HashMap<Pair, u64>,
    gathered: BTreeMap<Pair, Gathered>,
    since: Option<Instant>,
    coalesce: Duration,
    directory: Arc<Directory>,
    prepared: Vec<(Pair, Gathered)>,
    taken: Counter,
    owed: Counter,
    remembered: Gauge,
}

struct Gathered {
    delivered: u64,
    notify: UserId,
    /// Indexes of the devices of `notify`.
    devices: Bytes,
}

fn read(mark: &Mark) -> Option<(Pair, u64, UserId)> {
    let conv = ConvId::from_bytes(&mark.conv).ok()?;
    let (who, notify) = (UserId(mark.who), UserId(mark.notify));
    (conv.peer(who) == Some(notify)).then_some(((conv, who), mark.delivered, notify))
}

impl Handler for Receipts {
    fn next_offset(&self) -> u64 {
        self.next
    }

    async fn prepare(&mut self, page: &[Record], _: u64) -> Result<(), PortError> {
        self.after = page.last().map_or(self.next, |record| record.offset + 1);
        let records =
            page.iter().filter_map(|record| LogReceipt::decode(record.value.clone()).ok());
        let marks = records.flat_map(|record| record.marks).filter_map(|mark| read(&mark));
        // Only what moves a mark of this page on is looked at further.
        let mut newest: BTreeMap<Pair, (u64, UserId)> = BTreeMap::new();
        for (pair, delivered, notify) in marks {
            self.taken.add(1);
            if self.marks.get(&pair).is_none_or(|known| *known < delivered) {
                let entry = newest.entry(pair).or_insert((delivered, notify));
                entry.0 = entry.0.max(delivered);
            }
        }
        let users: Vec<UserId> = newest.values().map(|(_, notify)| *notify).collect();
        let found = self.directory.devices(&users).await;
        if found.contains(&Found::Unreachable) {
            return Err(PortError::Unknown(
                "the directory has a list that is neither cached nor readable".into(),
            ));
        }
        self.prepared.clear();
        for ((pair, (delivered, notify)), found) in newest.into_iter().zip(found) {
            if let Found::Devices(devices) = found {
                self.prepared.push((pair, Gathered { delivered, notify, devices }));
            }
        }
        Ok(())
    }

    fn take(&mut self, _: u64, slots: &mut Slots) {
        self.next = self.after;
        for (pair, news) in std::mem::take(&mut self.prepared) {
            if let Some(known) = self.marks.get_mut(&pair) {
                *known = news.delivered;
            } else if self.marks.len() < MARKS_MAX {
                self.marks.insert(pair, news.delivered);
            }
            // Later news is never lower: `prepare` has left out what is.
            self.gathered.insert(pair, news);
        }
        self.remembered.seen(self.marks.len() as u64);
        if self.gathered.is_empty() {
            slots.emitted(self.next);
        } else if self.gathered.len() >= GATHERED_MAX {
            self.flush(slots);
        } else if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.coalesce)
    }

    fn flush(&mut self, slots: &mut Slots) {
        self.since = None;
        for ((conv, who), news) in std::mem::take(&mut self.gathered) {
            let mark = Mark {
                conv: Bytes::copy_from_slice(&conv.to_bytes()),
                who: who.0,
                delivered: news.delivered,
                notify: news.notify.0,
            };
            let payload: Bytes =
                Envelope { item: Some(envelope::Item::Receipt(mark)) }.encode_to_vec().into();
            let slot = slot_of(news.notify);
            for index in &news.devices {
                let device = news.notify.device(*index).0;
                slots.owe(slot, self.next, QueueItem { device, payload: payload.clone() });
            }
            self.owed.add(news.devices.len() as u64);
        }
        slots.emitted(self.next);
    }

    fn show(&mut self) {}

    fn snapshot(&self) -> Option<(u64, Bytes)> {
        None
    }
}
