//! Holds a log to what it answered: whatever was appended is written down with its answer, and compared with what is read.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chat_ports::log::{Appended, EventLog, Partition, Record};
use futures_util::future::join_all;

use super::HEALING;
use crate::arm::within;

/// Values of one append: more than one, since an append of unknown outcome may be in the log in part.
const VALUES: usize = 2;
/// Appends of a burst.
const BURST: usize = 4;

/// Appends to one partition, in the order in which they were made.
pub(super) struct Ledger {
    port: Arc<dyn EventLog>,
    partition: Partition,
    answers: Mutex<Vec<Option<Appended>>>,
    answered: AtomicUsize,
}

/// The values of an append.
fn values(number: usize) -> Vec<Bytes> {
    (0..VALUES).map(|part| Bytes::from(format!("{number}.{part}"))).collect()
}

impl Ledger {
    pub(super) fn new(port: &Arc<dyn EventLog>, partition: Partition) -> Self {
        let port = Arc::clone(port);
        Self { port, partition, answers: Mutex::default(), answered: AtomicUsize::new(0) }
    }

    /// Appends that were answered well so far.
    pub(super) fn answered(&self) -> usize {
        self.answered.load(Relaxed)
    }

    /// One append, once.
    pub(super) async fn append(&self) -> Appended {
        let number = {
            let mut answers = self.answers.lock().unwrap();
            answers.push(None);
            answers.len() - 1
        };
        let answer = self.port.append(self.partition, values(number)).await;
        self.answers.lock().unwrap()[number] = Some(answer.clone());
        if matches!(answer, Appended::Ok { .. }) {
            self.answered.fetch_add(1, Relaxed);
        }
        answer
    }

    /// Several appends, each made before the one before it was answered.
    pub(super) async fn burst(&self) {
        join_all((0..BURST).map(|_| self.append())).await;
    }

    /// Appends until one is answered well; what was not stays written down with its answer.
    pub(super) async fn append_well(&self) -> u64 {
        let appending = async {
            loop {
                if let Appended::Ok { base, .. } = self.append().await {
                    return base;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(HEALING, appending).await.unwrap_or_else(|_| {
            let answers = self.answers.lock().unwrap();
            panic!("no append was answered well; the last: {:?}", answers.last_chunk::<3>());
        })
    }

    /// Settles the fate of every append so far, since a producer keeps the order, and holds the log to all answers. Answers what was
    /// read. Nothing may be appended meanwhile.
    pub(super) async fn settle(&self) -> Vec<Record> {
        let last = self.append_well().await;
        let read = read(&self.port, self.partition, last + VALUES as u64).await;
        self.compare(&read);
        read
    }

    fn compare(&self, read: &[Record]) {
        let mut found: BTreeMap<&[u8], Vec<&Record>> = BTreeMap::new();
        for record in read {
            found.entry(&record.value).or_default().push(record);
        }
        let mut end = 0;
        let answers = self.answers.lock().unwrap();
        for (number, answer) in answers.iter().enumerate() {
            let parts: Vec<_> =
                values(number).iter().map(|v| found.remove(&v[..]).unwrap_or_default()).collect();
            match answer.as_ref().expect("every append has ended") {
                Appended::Ok { base, log_ms } => {
                    assert!(
                        end <= *base,
                        "append {number} stands before one that was made earlier"
                    );
                    end = *base;
                    for (offset, part) in (*base..).zip(&parts) {
                        let places: Vec<_> = part.iter().map(|r| (r.offset, r.log_ms)).collect();
                        assert_eq!(places, [(offset, *log_ms)], "append {number}");
                        end = offset + 1;
                    }
                }
                Appended::NotAppended(why) => {
                    assert!(parts.iter().all(Vec::is_empty), "append {number}, {why:?}, is there");
                }
                Appended::Unknown(_) => {
                    // As a whole, or up to one of its records, or not.
                    let times: Vec<_> = parts.iter().map(Vec::len).collect();
                    assert!(times.is_sorted_by(|a, b| a >= b), "append {number}: {times:?}");
                    assert!(times.iter().all(|times| *times <= 1), "append {number}: {times:?}");
                }
            }
        }
        assert!(found.is_empty(), "nobody appended these: {:?}", found.keys());
    }
}

/// Reads a partition from its begin until `end`, however long brokers do not know.
pub(super) async fn read(port: &Arc<dyn EventLog>, partition: Partition, end: u64) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut next = 0;
    while next < end {
        let page = within(HEALING, "a page", async || {
            let wait = Duration::from_millis(100);
            let page = port.fetch(partition, next, 1 << 20, wait).await.ok()?;
            (!page.records.is_empty()).then_some(page)
        })
        .await;
        for record in page.records {
            assert_eq!(record.offset, next, "no record is jumped over");
            next += 1;
            records.push(record);
        }
    }
    records.truncate(usize::try_from(end).unwrap());
    records
}
