//! The histograms and counters of one shard. Recording is a plain increment: no atomic, no lock, no allocation after the
//! first sample of a series.
//!
//! Once a second the shard hands the full set over a bounded channel and goes on with a spare one. When the channel is full
//! the slice is prolonged instead; recording never waits.
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use hdrhistogram::Histogram;

use crate::ledger::counts::LedgerCounts;
use crate::series::{CEILING_US, DIGITS, SeriesKey};
use crate::slices::{DueSecond, SLICE_NS, SliceCounts, SliceLevels};

/// Series of a shard; further ones are recorded nowhere and counted.
pub const SERIES_MAX: usize = 512;
/// Slices under way to the sink; beyond it a slice is prolonged.
pub const HAND_OVER: usize = 4;
/// Samples of earlier windows kept one by one in a slice; further ones go to the present window.
pub const LATE_MAX: usize = 65_536;

/// Handle of a series, looked up once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesId(u16);

/// Counts of one series.
pub(crate) struct Counts {
    pub(crate) hist: Histogram<u32>,
    pub(crate) censored: u64,
}

impl Counts {
    fn new() -> Self {
        let mut hist = Histogram::new_with_bounds(1, CEILING_US, DIGITS)
            .expect("the bounds are constants that fit");
        hist.auto(false);
        Self { hist, censored: 0 }
    }

    fn clear(&mut self) {
        self.hist.reset();
        self.censored = 0;
    }
}

type Set = Vec<Option<Box<Counts>>>;

/// A sample whose intended start lies in an earlier window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateSample {
    pub(crate) window: u16,
    pub(crate) series: u16,
    pub(crate) ns: u64,
    pub(crate) censored: bool,
}

/// One slice of one shard.
pub struct ShardSlice {
    pub(crate) window: u16,
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    pub(crate) keys: Arc<[SeriesKey]>,
    pub(crate) set: Set,
    pub(crate) late: Vec<LateSample>,
    pub(crate) counts: SliceCounts,
    pub(crate) levels: SliceLevels,
    pub(crate) totals: LedgerCounts,
    pub(crate) due: Vec<(u32, DueSecond)>,
    pub(crate) last: bool,
}

/// The receiving end of a shard's slices, for the sink.
pub struct SliceFeed {
    pub(crate) full: Receiver<ShardSlice>,
    pub(crate) spare: SyncSender<Set>,
}

impl SliceFeed {
    /// Clears a set and gives it back to its shard; dropped when the shard has enough.
    pub(crate) fn give_back(&self, mut set: Set) {
        set.iter_mut().flatten().for_each(|counts| counts.clear());
        match self.spare.try_send(set) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The recorder of one shard.
pub struct Recorder {
    keys: Arc<[SeriesKey]>,
    set: Set,
    late: Vec<LateSample>,
    windows: Vec<u64>,
    window_from_ns: u64,
    from_ns: u64,
    due: Vec<(u32, DueSecond)>,
    full: SyncSender<ShardSlice>,
    spare: Receiver<Set>,
    refused_series: u64,
    /// Counters of the slice; add to them directly.
    pub counts: SliceCounts,
    /// Levels; keep them up to date, they are read at the end of each slice.
    pub levels: SliceLevels,
    /// Totals of the shard's ledger; [`crate::shard::Shard`] keeps them up to date.
    pub totals: LedgerCounts,
}

impl Recorder {
    /// A recorder in window 0, with the feed that its sink reads.
    pub fn new() -> (Self, SliceFeed) {
        let (full, full_feed) = sync_channel(HAND_OVER);
        let (spare_feed, spare) = sync_channel(HAND_OVER);
        let recorder = Self {
            keys: Arc::from([]),
            set: Vec::new(),
            late: Vec::new(),
            windows: vec![0],
            window_from_ns: 0,
            from_ns: 0,
            due: Vec::new(),
            full,
            spare,
            refused_series: 0,
            counts: SliceCounts::default(),
            levels: SliceLevels::default(),
            totals: LedgerCounts::default(),
        };
        (recorder, SliceFeed { full: full_feed, spare: spare_feed })
    }

    /// The handle of a series; keep it. Histograms are allocated at the first sample. Beyond [`SERIES_MAX`] the last handle is
    /// given and counted in [`Recorder::refused_series`].
    pub fn series(&mut self, key: SeriesKey) -> SeriesId {
        let found = self.keys.iter().position(|known| *known == key);
        let at = found.unwrap_or_else(|| {
            if self.keys.len() >= SERIES_MAX {
                self.refused_series += 1;
                return SERIES_MAX - 1;
            }
            self.keys = self.keys.iter().copied().chain([key]).collect();
            self.keys.len() - 1
        });
        SeriesId(u16::try_from(at).expect("at most 512 series"))
    }

    /// Series that found no room.
    pub fn refused_series(&self) -> u64 {
        self.refused_series
    }

    /// Adds one sample to the present window, nanoseconds. Above 120 s it counts as 120 s.
    #[inline]
    pub fn record(&mut self, series: SeriesId, ns: u64) {
        if let Some(Some(counts)) = self.set.get_mut(usize::from(series.0)) {
            counts.hist.saturating_record((ns / 1_000).max(1));
        } else {
            self.record_first(series, ns);
        }
    }

    #[cold]
    fn record_first(&mut self, series: SeriesId, ns: u64) {
        self.counts_of(series).hist.saturating_record((ns / 1_000).max(1));
    }

    fn counts_of(&mut self, series: SeriesId) -> &mut Counts {
        let at = usize::from(series.0);
        if self.set.len() <= at {
            self.set.resize_with(at + 1, || None);
        }
        self.set[at].get_or_insert_with(|| Box::new(Counts::new()))
    }

    /// Adds one sample to the window that its intended start lies in. Use it for what counts from the intended start.
    #[inline]
    pub fn record_due(&mut self, series: SeriesId, due_ns: u64, ns: u64) {
        if due_ns >= self.window_from_ns {
            self.record(series, ns);
        } else {
            self.record_late(series, due_ns, ns, false);
        }
    }

    /// Counts a sample that is only known to exceed its deadline, at the deadline, in the window of its intended start.
    pub fn record_censored(&mut self, series: SeriesId, due_ns: u64, deadline_ns: u64) {
        if due_ns >= self.window_from_ns {
            let counts = self.counts_of(series);
            counts.hist.saturating_record((deadline_ns / 1_000).max(1));
            counts.censored += 1;
        } else {
            self.record_late(series, due_ns, deadline_ns, true);
        }
    }

    #[cold]
    fn record_late(&mut self, series: SeriesId, due_ns: u64, ns: u64, censored: bool) {
        if self.late.len() < LATE_MAX {
            let window = self.windows.iter().rposition(|from| *from <= due_ns).unwrap_or(0);
            let window = u16::try_from(window).unwrap_or(u16::MAX);
            self.late.push(LateSample { window, series: series.0, ns, censored });
        } else {
            let counts = self.counts_of(series);
            counts.hist.saturating_record((ns / 1_000).max(1));
            counts.censored += u64::from(censored);
        }
    }

    /// A send became due.
    #[inline]
    pub fn due(&mut self, due_ns: u64) {
        self.counts.offered += 1;
        self.due_second(due_ns).due += 1;
    }

    /// A send reached every device the plan has online by its deadline; `on_time` when all of it took at most one second.
    #[inline]
    pub fn good(&mut self, due_ns: u64, on_time: bool) {
        let second = self.due_second(due_ns);
        second.good += 1;
        second.on_time += u64::from(on_time);
    }

    /// A send was refused with a code.
    pub fn refused(&mut self, due_ns: u64) {
        self.counts.rejected += 1;
        self.due_second(due_ns).rejected += 1;
    }

    fn due_second(&mut self, due_ns: u64) -> &mut DueSecond {
        let second = u32::try_from(due_ns / SLICE_NS).unwrap_or(u32::MAX);
        let known = self.due.iter().rposition(|(known, _)| *known == second);
        let at = known.unwrap_or_else(|| {
            self.due.push((second, DueSecond::default()));
            self.due.len() - 1
        });
        &mut self.due[at].1
    }

    /// Begins the next window and returns its ordinal. The present slice ends here.
    pub fn begin_window(&mut self, at_ns: u64) -> u16 {
        self.hand_over(at_ns, false);
        self.windows.push(at_ns);
        self.window_from_ns = at_ns;
        u16::try_from(self.windows.len() - 1).unwrap_or(u16::MAX)
    }

    /// Closes the slice when its second is over: slices are cut at whole seconds, so that shards merge. Call it at least ten
    /// times a second.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) {
        if now_ns / SLICE_NS > self.from_ns / SLICE_NS {
            self.hand_over(now_ns, false);
        }
    }

    /// Hands over what is left, waiting for room if need be, and ends.
    pub fn finish(mut self, now_ns: u64) {
        let slice = self.cut(now_ns, true);
        // A sink that is gone has its reasons; there is nobody left to tell.
        drop(self.full.send(slice));
    }

    fn cut(&mut self, now_ns: u64, last: bool) -> ShardSlice {
        // Without a spare one, because the sink is behind or gone, a new set grows as samples come.
        let set = self.spare.try_recv().unwrap_or_default();
        ShardSlice {
            window: u16::try_from(self.windows.len() - 1).unwrap_or(u16::MAX),
            from_ns: self.from_ns,
            to_ns: now_ns,
            keys: Arc::clone(&self.keys),
            set: std::mem::replace(&mut self.set, set),
            late: std::mem::take(&mut self.late),
            counts: std::mem::take(&mut self.counts),
            levels: self.levels,
            totals: self.totals,
            due: std::mem::take(&mut self.due),
            last,
        }
    }

    fn hand_over(&mut self, now_ns: u64, last: bool) {
        let slice = self.cut(now_ns, last);
        match self.full.try_send(slice) {
            Ok(()) => {
                self.from_ns = now_ns;
            }
            Err(TrySendError::Full(slice) | TrySendError::Disconnected(slice)) => {
                self.set = slice.set;
                self.late = slice.late;
                self.due = slice.due;
                self.counts = slice.counts;
                self.counts.prolonged += 1;
            }
        }
    }
}
