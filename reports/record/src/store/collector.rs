//! The thread that merges the shards and writes what they hand over.
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::RunFolder;
use super::folder::StoreError;
use crate::ledger::counts::LedgerCounts;
use crate::shard::ShardFeed;
use crate::sink::Sink;
use crate::slices::Slice;

/// Slices kept for live use: the longest sliding gate.
pub const LIVE_SLICES: usize = 120;
const POLL: Duration = Duration::from_millis(50);

/// What a live display or judge reads.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Newest slices, oldest first.
    pub slices: VecDeque<Slice>,
    /// Ledger totals of all shards.
    pub ledger: LedgerCounts,
    /// Slices so far.
    pub total: u64,
}

/// The running collector.
pub struct Collector {
    live: Arc<Mutex<Live>>,
    stop: SyncSender<()>,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Collector {
    /// Starts the thread `storm-sink`. It ends when all shards have finished, or at [`Collector::finish`].
    pub fn start(folder: &RunFolder, feeds: Vec<ShardFeed>) -> Result<Self, StoreError> {
        let live = Arc::new(Mutex::new(Live::default()));
        let (stop, stopped) = sync_channel(1);
        let mut writer = folder.writer(feeds.len())?;
        let shared = Arc::clone(&live);
        let run = move || -> Result<(), StoreError> {
            let (slices, checkpoints): (Vec<_>, Vec<_>) =
                feeds.into_iter().map(|feed| (feed.slices, feed.checkpoints)).unzip();
            let mut sink = Sink::new(slices);
            loop {
                let over = wait(&stopped);
                for checkpoint in checkpoints.iter().flat_map(Receiver::try_iter) {
                    writer.checkpoint(&checkpoint)?;
                }
                let closed = sink.poll();
                for slice in &closed {
                    writer.slice(slice)?;
                }
                let ended = sink.ended();
                let mut live = shared.lock().unwrap_or_else(PoisonError::into_inner);
                live.ledger = sink.ledger_counts();
                live.total += closed.len() as u64;
                live.slices.extend(closed);
                while live.slices.len() > LIVE_SLICES {
                    live.slices.pop_front();
                }
                drop(live);
                if over || ended {
                    // A checkpoint may have come between the look and the end of its shard.
                    for checkpoint in checkpoints.iter().flat_map(Receiver::try_iter) {
                        writer.checkpoint(&checkpoint)?;
                    }
                    break;
                }
            }
            writer.totals(sink.totals())
        };
        let thread = std::thread::Builder::new()
            .name("storm-sink".to_owned())
            .spawn(run)
            .map_err(|source| StoreError::Thread { source })?;
        Ok(Self { live, stop, thread })
    }

    /// A copy of the newest figures.
    pub fn live(&self) -> Live {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the newest figures without copying.
    pub fn look<T>(&self, look: impl FnOnce(&Live) -> T) -> T {
        look(&self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the thread has ended: before the shards have finished only because something could not be written.
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until everything is written. Call it after all shards have finished; unfinished ones are left out.
    pub fn finish(self) -> Result<(), StoreError> {
        match self.stop.try_send(()) {
            // It may have ended by itself.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
        match self.thread.join() {
            Ok(done) => done,
            Err(_) => Err(StoreError::Collector),
        }
    }
}

fn wait(stopped: &Receiver<()>) -> bool {
    match stopped.recv_timeout(POLL) {
        Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
        Err(RecvTimeoutError::Timeout) => false,
    }
}
