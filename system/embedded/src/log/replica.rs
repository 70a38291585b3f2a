//! Batches and one broker's copy of a partition.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::log::Record;

/// What one append wrote: records with one stamp, replicated and truncated as a whole. Replicas share it.
#[derive(Debug)]
pub(super) struct Batch {
    pub base: u64,
    pub log_ms: u64,
    pub values: Vec<Bytes>,
    /// Bytes of the values.
    pub bytes: u64,
    /// Bytes of everything below it in the partition, ever.
    pub bytes_before: u64,
}

impl Batch {
    pub(super) fn end(&self) -> u64 {
        self.base + self.values.len() as u64
    }
}

/// One broker's copy. Always a prefix of the leader's copy while there is a leader.
#[derive(Debug, Default)]
pub(super) struct Replica {
    pub batches: VecDeque<Arc<Batch>>,
    /// Offset after the last record.
    pub end: u64,
    /// When the fetch that is under way ends.
    pub fetch_due: Option<Duration>,
    /// When it last had everything its leader had.
    pub caught_up: Duration,
}

impl Replica {
    pub(super) fn push(&mut self, batch: Arc<Batch>) {
        debug_assert_eq!(batch.base, self.end, "batches are contiguous");
        self.end = batch.end();
        self.batches.push_back(batch);
    }

    /// Bytes ever written up to its end.
    pub(super) fn bytes_ever(&self) -> u64 {
        self.batches.back().map_or(0, |b| b.bytes_before + b.bytes)
    }

    /// Index of the batch that holds an offset, or of the first one above it.
    fn index_of(&self, offset: u64) -> usize {
        self.batches.partition_point(|b| b.end() <= offset)
    }

    pub(super) fn batch_at(&self, offset: u64) -> Option<&Arc<Batch>> {
        self.batches.get(self.index_of(offset)).filter(|b| b.base <= offset)
    }

    /// Whether exactly this batch is part of it.
    pub(super) fn holds(&self, batch: &Arc<Batch>) -> bool {
        self.batch_at(batch.base).is_some_and(|own| Arc::ptr_eq(own, batch))
    }

    /// Takes over what the leader has and this replica lacks.
    pub(super) fn fetch_from(&mut self, leader: &Self) {
        if leader.batches.front().is_some_and(|first| first.base > self.end) {
            // The leader has deleted what comes next here, so this copy starts anew where the leader's starts.
            self.batches.clear();
            self.end = leader.batches[0].base;
        }
        let from = leader.batches.iter().rposition(|b| b.end() <= self.end).map_or(0, |i| i + 1);
        for batch in leader.batches.range(from..) {
            self.push(Arc::clone(batch));
        }
        self.end = leader.end;
    }

    /// Drops the tail that the leader does not have.
    pub(super) fn truncate_to(&mut self, leader: &Self) {
        while let Some(last) = self.batches.back() {
            if leader.holds(last) {
                break;
            }
            self.end = last.base;
            self.batches.pop_back();
        }
        self.end = self.end.min(leader.end);
    }

    /// Drops batches that lie wholly below `start`.
    pub(super) fn delete_below(&mut self, start: u64) {
        while self.batches.front().is_some_and(|b| b.end() <= start) {
            self.batches.pop_front();
        }
    }

    /// Records in `from..to`, up to `max_bytes` of values and one at least.
    pub(super) fn read(&self, from: u64, to: u64, max_bytes: usize) -> Vec<Record> {
        let mut records = Vec::new();
        let mut left = max_bytes;
        for batch in self.batches.range(self.index_of(from)..) {
            let skip = usize::try_from(from.saturating_sub(batch.base)).unwrap_or(usize::MAX);
            for (offset, value) in (batch.base..).zip(&batch.values).skip(skip) {
                if offset >= to || (value.len() > left && !records.is_empty()) {
                    return records;
                }
                left = left.saturating_sub(value.len());
                records.push(Record { offset, log_ms: batch.log_ms, value: value.clone() });
            }
        }
        records
    }
}
