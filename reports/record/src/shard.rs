//! What one shard of the load writes: its recorder, its ledger, and the way of both to the collector.
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::ledger::saved::Checkpoint;
use crate::ledger::{Ledger, LedgerConfig};
use crate::recorder::{Recorder, SliceFeed};

/// Evidence is written this often, nanoseconds.
pub const CHECKPOINT_NS: u64 = 10_000_000_000;
/// Checkpoints under way; when the collector is behind, the next one brings more.
const CHECKPOINTS: usize = 2;

/// The writing end of a shard.
pub struct Shard {
    /// Histograms and counters.
    pub recorder: Recorder,
    /// Evidence.
    pub ledger: Ledger,
    out: SyncSender<Checkpoint>,
    waiting: Option<Checkpoint>,
    next_ns: u64,
}

/// The reading end of a shard.
pub struct ShardFeed {
    pub(crate) slices: SliceFeed,
    pub(crate) checkpoints: Receiver<Checkpoint>,
}

impl Shard {
    /// Both ends of a shard.
    pub fn new(config: LedgerConfig) -> (Self, ShardFeed) {
        let (recorder, slices) = Recorder::new();
        let (out, checkpoints) = sync_channel(CHECKPOINTS);
        let shard = Self {
            recorder,
            ledger: Ledger::new(config),
            out,
            waiting: None,
            next_ns: CHECKPOINT_NS,
        };
        (shard, ShardFeed { slices, checkpoints })
    }

    /// Closes the slice and writes evidence when it is time. Call it at least ten times a second; never waits.
    pub fn tick(&mut self, now_ns: u64) {
        self.recorder.totals = *self.ledger.counts();
        self.recorder.tick(now_ns);
        if now_ns < self.next_ns {
            return;
        }
        let checkpoint = self.waiting.take().unwrap_or_else(|| self.ledger.checkpoint(false));
        match self.out.try_send(checkpoint) {
            Ok(()) => self.next_ns = now_ns + CHECKPOINT_NS,
            Err(TrySendError::Full(checkpoint)) => self.waiting = Some(checkpoint),
            // A collector that is gone has said why; recording goes on for the live figures.
            Err(TrySendError::Disconnected(_)) => self.next_ns = u64::MAX,
        }
    }

    /// Hands everything over, waiting for the collector, and ends. Gives the evidence back.
    pub fn finish(mut self, now_ns: u64) -> Ledger {
        self.recorder.totals = *self.ledger.counts();
        let checkpoints = self.waiting.take().into_iter().chain([self.ledger.checkpoint(true)]);
        for checkpoint in checkpoints.collect::<Vec<_>>() {
            drop(self.out.send(checkpoint));
        }
        self.recorder.finish(now_ns);
        self.ledger
    }
}
