//! What is called: the log, the relay queues and the history through the adapters of the system, without the system.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::history::{History, Row};
use chat_ports::log::{Appended, EventLog, Partition, Topic};
use chat_ports::relay_queue::{Enqueue, RelayQueue, SourceOutcome, SourceRange};
use chat_protocol::fold::mid_from_bits;
use chat_protocol::ids::SLOTS;
use chat_protocol::{Cid, ConvId, DeviceId, UserId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::drive::Target;

/// Partitions of the log on this substrate.
pub(crate) const PARTITIONS: u32 = 3;
/// Users of `messenger-18k`.
const USERS: u64 = 3_000;
/// Whom each of them writes to.
const PEERS: u64 = 8;
/// Bytes of a record, an item and a row's body, about as `messenger-18k` has them after sealing.
const BODY: usize = 300;
/// Bytes of one fetch.
const FETCH: usize = 512 * 1024;
/// How long a fetch waits for records.
const WAIT: Duration = Duration::from_millis(100);
/// Acks are trimmed together, as the system trims them.
const ACKS_GATHER: Duration = Duration::from_millis(200);
/// Devices of one trim.
const TRIM_DEVICES: usize = 512;

/// Reads a partition to the end, as a group of the system does.
pub(crate) async fn read(log: Arc<dyn EventLog>, partition: Partition, end: Instant) {
    let mut next = 0;
    while Instant::now() < end {
        match log.fetch(partition, next, FETCH, WAIT).await {
            Ok(page) => next = page.records.last().map_or(next, |record| record.offset + 1),
            Err(error) => println!("  a fetch failed: {error}"),
        }
    }
}

/// Batches to the partitions in turn.
pub(crate) struct Appends(pub(crate) Arc<dyn EventLog>);

#[async_trait]
impl Target for Appends {
    async fn call(&self, number: u64, items: u64) -> bool {
        let partition = u32::try_from(number % u64::from(PARTITIONS)).expect("a partition");
        let records = (0..items).map(|_| Bytes::from_static(&[0; BODY])).collect();
        matches!(self.0.append((Topic::Messages, partition), records).await, Appended::Ok { .. })
    }
}

/// Items to the slots in turn, for users in turn.
pub(crate) struct Enqueues {
    queue: Arc<dyn RelayQueue>,
    /// Name of the source.
    source: &'static str,
    /// Whether what was stored is trimmed, together, as acks are.
    trims: bool,
    /// Of each slot; held over a call, since ranges of a slot follow each other.
    positions: Vec<Mutex<u64>>,
    users: AtomicU64,
    acks: Mutex<Acks>,
}

struct Acks {
    trimmed: Instant,
    /// Epoch and position by device.
    stored: BTreeMap<DeviceId, (u64, u64)>,
}

impl Enqueues {
    pub(crate) fn new(queue: Arc<dyn RelayQueue>, source: &'static str, trims: bool) -> Self {
        let positions = (0..SLOTS).map(|_| Mutex::default()).collect();
        let acks = Acks { trimmed: Instant::now(), stored: BTreeMap::new() };
        Self { queue, source, trims, positions, users: AtomicU64::new(0), acks: Mutex::new(acks) }
    }

    /// Trims what was stored and is not trimmed yet, when it is time; whether that was done.
    async fn trim(&self) -> bool {
        let stored = {
            let mut acks = self.acks.lock().await;
            if acks.trimmed.elapsed() < ACKS_GATHER {
                return true;
            }
            acks.trimmed = Instant::now();
            std::mem::take(&mut acks.stored)
        };
        let stored: Vec<_> =
            stored.into_iter().map(|(device, (epoch, dseq))| (device, epoch, dseq)).collect();
        for some in stored.chunks(TRIM_DEVICES) {
            if self.queue.trim(some).await.is_err() {
                return false;
            }
        }
        true
    }
}

#[async_trait]
impl Target for Enqueues {
    async fn call(&self, number: u64, items: u64) -> bool {
        let slot = u32::try_from(number % u64::from(SLOTS)).expect("a slot");
        let user = || UserId(1 + self.users.fetch_add(1, Relaxed) % USERS);
        let items: Vec<_> =
            (0..items).map(|_| (user().device(0), Bytes::from_static(&[0; BODY]))).collect();
        let devices: Vec<_> = items.iter().map(|(device, _)| *device).collect();
        let outcome = {
            let mut position = self.positions[slot as usize].lock().await;
            let (prev, last) = (*position, *position + 1);
            let range =
                SourceRange { source: self.source.into(), prev, last, incarnation: 0, items };
            let outcome = self.queue.enqueue(Enqueue { slot, sources: vec![range] }).await;
            *position = last;
            outcome
        };
        let Ok([SourceOutcome::Applied(stored)]) = outcome.as_deref() else { return false };
        if !self.trims {
            return true;
        }
        let stored = devices.into_iter().zip(stored.iter().map(|at| (at.epoch, at.dseq)));
        self.acks.lock().await.stored.extend(stored);
        self.trim().await
    }
}

/// Rows over many conversations, each with the next number of its own.
pub(crate) struct Upserts {
    history: Arc<dyn History>,
    /// Rows of one conversation in a row.
    together: u64,
    tops: Mutex<BTreeMap<ConvId, u64>>,
    rows: AtomicU64,
}

impl Upserts {
    pub(crate) fn new(history: Arc<dyn History>, together: u64) -> Self {
        Self { history, together, tops: Mutex::default(), rows: AtomicU64::new(0) }
    }

    /// The conversation of the row of this number. Each width has users of its own, so that none writes the rows of another again.
    fn conv(&self, number: u64) -> ConvId {
        let number = number / self.together;
        let user = |of: u64| UserId(self.together * USERS + of);
        let from = number % USERS;
        let peer = (from + 1 + number / USERS % PEERS) % USERS;
        ConvId::direct(user(from), user(peer)).expect("two users")
    }
}

#[async_trait]
impl Target for Upserts {
    async fn call(&self, _: u64, items: u64) -> bool {
        let rows: Vec<_> = {
            let mut tops = self.tops.lock().await;
            let from = self.rows.fetch_add(items, Relaxed);
            let rows = (from..from + items).map(|number| {
                let conv = self.conv(number);
                let top = tops.entry(conv).or_default();
                *top += 1;
                row(conv, *top, number)
            });
            rows.collect()
        };
        self.history.upsert(rows).await.is_ok()
    }
}

fn row(conv: ConvId, cseq: u64, number: u64) -> Row {
    Row {
        conv,
        cseq,
        mid: mid_from_bits(number.into()),
        cid: Cid::from_bytes(&[0; 16]).expect("16 bytes"),
        from: DeviceId(0),
        kind: 0,
        client_ms: 0,
        server_ms: number,
        body: Bytes::from_static(&[0; BODY]),
    }
}
