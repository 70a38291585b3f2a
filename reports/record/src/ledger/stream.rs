//! The planes of one stream of messages.
use super::StreamShape;
use super::plane::{self, Plane};

/// Planes of one stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// One bit: submitted.
    pub submitted: Plane,
    /// Two bits: `Outcome`, as (rejected, unknown or accepted) ranks.
    pub outcome: Plane,
    /// A bit a slot: surfaced there.
    pub delivered: Plane,
    /// One past the highest number touched.
    pub end: u64,
    /// Blocks touched since the last checkpoint.
    pub(super) dirty: Vec<bool>,
}

impl Stream {
    pub(super) fn of(shape: &StreamShape) -> Self {
        Self {
            submitted: Plane::new(1, shape.numbers),
            outcome: Plane::new(2, shape.numbers),
            delivered: Plane::new(shape.slots.clamp(1, 32), shape.numbers),
            end: 0,
            dirty: Vec::new(),
        }
    }

    /// Takes in the bits of another shard.
    pub(super) fn merge(&mut self, theirs: &Self) {
        for block in 0..theirs.submitted.block_count() {
            for (mine, theirs) in [
                (&mut self.submitted, &theirs.submitted),
                (&mut self.outcome, &theirs.outcome),
                (&mut self.delivered, &theirs.delivered),
            ] {
                if let Some(words) = theirs.block(block) {
                    mine.merge_block(block, words);
                }
            }
        }
        self.end = self.end.max(theirs.end);
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.submitted.bytes() + self.outcome.bytes() + self.delivered.bytes()
    }

    /// Notes that a number is about to change.
    #[inline]
    pub(super) fn touch(&mut self, k: u64) {
        self.end = self.end.max(k + 1);
        let block = usize::try_from(k / plane::BLOCK).unwrap_or(usize::MAX);
        match self.dirty.get_mut(block) {
            Some(dirty) => *dirty = true,
            None => self.touch_new(block),
        }
    }

    #[cold]
    fn touch_new(&mut self, block: usize) {
        if block < self.submitted.block_count() {
            self.dirty.resize(block + 1, false);
            self.dirty[block] = true;
        }
    }
}
