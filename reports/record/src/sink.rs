//! Merging of shards: slices by second and window, totals by window and series.
use std::collections::BTreeMap;
use std::sync::mpsc::TryRecvError;

use crate::ledger::counts::LedgerCounts;
use crate::recorder::{ShardSlice, SliceFeed};
use crate::series::{Samples, SeriesKey};
use crate::slices::{SLICE_NS, Slice, SliceSeries};

/// Slices that wait for a slow shard; beyond it the oldest is closed without it.
const OPEN_MAX: usize = 16;

type Place = (u64, u16);

#[derive(Default)]
struct Building {
    slice: Slice,
    series: BTreeMap<SeriesKey, Samples>,
    shards: usize,
}

struct Shard {
    feed: SliceFeed,
    last: Option<Place>,
    ended: bool,
    totals: LedgerCounts,
}

/// The merging end of all shards.
pub struct Sink {
    shards: Vec<Shard>,
    open: BTreeMap<Place, Building>,
    totals: BTreeMap<(u16, SeriesKey), Samples>,
    next: u64,
}

impl Sink {
    /// A sink of these shards.
    pub fn new(feeds: Vec<SliceFeed>) -> Self {
        let shards = feeds
            .into_iter()
            .map(|feed| Shard { feed, last: None, ended: false, totals: LedgerCounts::default() })
            .collect();
        Self { shards, open: BTreeMap::new(), totals: BTreeMap::new(), next: 0 }
    }

    /// Takes what the shards handed over and gives the slices that are complete, in order. Never waits.
    pub fn poll(&mut self) -> Vec<Slice> {
        for at in 0..self.shards.len() {
            loop {
                match self.shards[at].feed.full.try_recv() {
                    Ok(slice) => self.absorb(at, slice),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.shards[at].ended = true;
                        break;
                    }
                }
            }
        }
        self.close()
    }

    /// Whether all shards have ended and everything is closed.
    pub fn ended(&self) -> bool {
        self.open.is_empty() && self.shards.iter().all(|shard| shard.ended)
    }

    /// Histograms over whole windows so far.
    pub fn totals(&self) -> &BTreeMap<(u16, SeriesKey), Samples> {
        &self.totals
    }

    /// Ledger totals of all shards, as of their last slices.
    pub fn ledger_counts(&self) -> LedgerCounts {
        let mut all = LedgerCounts::default();
        self.shards.iter().for_each(|shard| all.add(&shard.totals));
        all
    }

    fn absorb(&mut self, at: usize, mut from: ShardSlice) {
        let place = (from.from_ns / SLICE_NS, from.window);
        let building = self.open.entry(place).or_default();
        let slice = &mut building.slice;
        if building.shards == 0 {
            slice.from_ns = from.from_ns;
        }
        building.shards += 1;
        slice.window = from.window;
        slice.from_ns = slice.from_ns.min(from.from_ns);
        slice.to_ns = slice.to_ns.max(from.to_ns);
        slice.counts.add(&from.counts);
        slice.levels.add(&from.levels);
        for (second, figures) in &from.due {
            match slice.due.iter_mut().find(|(known, _)| known == second) {
                Some((_, known)) => known.add(figures),
                None => slice.due.push((*second, *figures)),
            }
        }
        for (key, counts) in from.keys.iter().zip(&from.set) {
            if let Some(counts) = counts
                && !counts.hist.is_empty()
            {
                building.series.entry(*key).or_default().add_hist(&counts.hist, counts.censored);
            }
        }
        for late in from.late.drain(..) {
            if let Some(key) = from.keys.get(usize::from(late.series)) {
                self.totals.entry((late.window, *key)).or_default().record(late.ns, late.censored);
            }
        }
        let shard = &mut self.shards[at];
        shard.last = Some(place);
        shard.ended |= from.last;
        shard.totals = from.totals;
        shard.feed.give_back(from.set);
    }

    fn close(&mut self) -> Vec<Slice> {
        let mut closed = Vec::new();
        while let Some((place, building)) = self.open.first_key_value() {
            let everybody = building.shards >= self.shards.len()
                || self
                    .shards
                    .iter()
                    .all(|shard| shard.ended || shard.last.is_some_and(|last| last > *place));
            if !everybody && self.open.len() <= OPEN_MAX {
                break;
            }
            let Some((_, building)) = self.open.pop_first() else { break };
            let mut slice = building.slice;
            slice.index = self.next;
            self.next += 1;
            slice.due.sort_unstable_by_key(|(second, _)| *second);
            for (key, samples) in building.series {
                let (count, censored) = (samples.count(), samples.censored());
                slice.series.push(SliceSeries { key, count, censored, hist: samples.encode() });
                self.totals.entry((slice.window, key)).or_default().add(&samples);
            }
            closed.push(slice);
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use storm_workload::metrics::Metric;

    use super::*;
    use crate::recorder::Recorder;

    #[test]
    fn shards_are_merged_by_second_and_window() {
        let (mut a, feed_a) = Recorder::new();
        let (mut b, feed_b) = Recorder::new();
        let mut sink = Sink::new(vec![feed_a, feed_b]);
        let key = SeriesKey::of(Metric::MessageDelivered);
        let (in_a, in_b) = (a.series(key), b.series(key));
        a.due(10);
        a.record_due(in_a, 10, 5_000_000);
        b.record_due(in_b, 20, 7_000_000);
        a.tick(SLICE_NS);
        assert!(sink.poll().is_empty(), "the other shard has not spoken yet");
        b.tick(SLICE_NS + 3);
        let slices = sink.poll();
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].counts.offered, 1);
        assert_eq!(slices[0].series[0].count, 2);
        assert_eq!(a.begin_window(SLICE_NS + SLICE_NS / 2), 1);
        b.begin_window(SLICE_NS + SLICE_NS / 2);
        // Due in the first window, known in the second.
        a.record_censored(in_a, SLICE_NS, 30_000_000_000);
        a.record_due(in_a, 2 * SLICE_NS, 1_000_000);
        a.finish(2 * SLICE_NS);
        b.finish(2 * SLICE_NS);
        let slices = sink.poll();
        assert_eq!(slices.iter().map(|slice| slice.window).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(sink.totals()[&(0, key)].count(), 3);
        assert_eq!(sink.totals()[&(0, key)].censored(), 1);
        assert_eq!(sink.totals()[&(1, key)].count(), 1);
        assert!(sink.ended());
    }

    #[test]
    fn a_full_channel_prolongs_the_slice_and_loses_nothing() {
        let (mut recorder, feed) = Recorder::new();
        let series = recorder.series(SeriesKey::of(Metric::LoadLag));
        for second in 1..=10 {
            recorder.record(series, 1_000_000);
            recorder.tick(second * SLICE_NS);
        }
        let mut sink = Sink::new(vec![feed]);
        assert_eq!(sink.poll().len(), 4);
        recorder.finish(11 * SLICE_NS);
        let rest = sink.poll();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].counts.prolonged, 6);
        assert_eq!(sink.totals().values().map(Samples::count).sum::<u64>(), 10);
    }
}
