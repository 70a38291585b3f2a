//! One device's queue: contiguous positions, cut from the front.
use std::collections::VecDeque;

use bytes::Bytes;
use chat_ports::relay_queue::{QueueItem, QueueState};

/// Capacity an empty queue may keep.
const IDLE_CAPACITY: usize = 16;
/// A full queue loses this part of its limit at once (at least one item), so that a long absence does not raise the floor
/// with every single item.
const CUT_PART: usize = 16;

#[derive(Debug)]
struct Item {
    at_ms: u64,
    payload: Bytes,
}

#[derive(Debug)]
pub(super) struct Queue {
    epoch: u64,
    floor: u64,
    top: u64,
    items: VecDeque<Item>,
}

impl Queue {
    /// An empty queue; cursors of older epochs lost content with whatever was before it.
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, floor: epoch, top: 0, items: VecDeque::new() }
    }

    fn base(&self) -> u64 {
        self.top + 1 - self.items.len() as u64
    }

    pub(super) fn state(&self) -> QueueState {
        QueueState { epoch: self.epoch, floor: self.floor, base: self.base(), top: self.top }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Appends an item; answers its epoch and position, and whether older ones had to go for it.
    pub(super) fn push(&mut self, wall_ms: u64, payload: &Bytes, max: usize) -> (u64, u64, bool) {
        let full = self.items.len() >= max;
        if full {
            self.items
                .drain(..(max / CUT_PART).clamp(1, self.items.len().max(1)).min(self.items.len()));
            self.epoch = wall_ms.max(self.epoch + 1);
            self.floor = self.epoch;
        }
        self.top += 1;
        // A payload is a slice of the whole batch it arrived in; a copy keeps an idle device from holding all of that.
        self.items.push_back(Item { at_ms: wall_ms, payload: Bytes::copy_from_slice(payload) });
        (self.epoch, self.top, full)
    }

    pub(super) fn trim(&mut self, epoch: u64, up_to: u64) {
        if epoch != self.epoch {
            return;
        }
        let gone = up_to.saturating_add(1).saturating_sub(self.base());
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.items.len());
        self.items.drain(..gone);
        if self.items.is_empty() && self.items.capacity() > IDLE_CAPACITY {
            self.items = VecDeque::new();
        }
    }

    pub(super) fn read(&self, after: u64, limit: u32) -> Vec<QueueItem> {
        let base = self.base();
        let skip =
            usize::try_from(after.saturating_add(1).saturating_sub(base)).unwrap_or(usize::MAX);
        let items = (base..).zip(&self.items).skip(skip).take(limit as usize);
        items.map(|(dseq, item)| QueueItem { dseq, payload: item.payload.clone() }).collect()
    }

    /// When the oldest item was stored.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.items.front().map(|item| item.at_ms)
    }
}
