//! How long each partition of the log was silent while sends of connected devices waited for it.
//!
//! A *silence* begins when a send waits and none did before, or with an answer while others wait. It ends with the next
//! answer, or when nobody waits any more because the senders lost their connections or gave up. At every instant of a window
//! the silence under way has some length, counted from its beginning even if that lies in an earlier window; the gap of the
//! window is the greatest of these lengths. A silence across the end of a window therefore counts there with what had
//! passed by then, and in the next window as a whole.
//!
//! The sends of one partition are spread over all shards, and an answer on any of them proves that the partition works. So
//! the shards share one table instead of keeping tables that are merged later: the greatest of the shards' own gaps would
//! take a shard with few sends for a silent partition. Each entry has a lock of its own that is held for a handful of
//! instructions; two shards wait for each other only when they write or read on one partition at the same moment.
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat_protocol::ConvId;
use chat_protocol::ids::partition_of;
use storm_record::facts::AcceptGap;

/// The table of all partitions, shared by the shards.
pub(crate) struct Gaps {
    partitions: Vec<Mutex<Partition>>,
}

#[derive(Default)]
struct Partition {
    /// Sends of connected devices without an answer.
    waiting: u64,
    /// Since when none was answered; means nothing while none waits.
    since_ns: u64,
    /// Longest silence by window; `None` while nothing waited in it.
    windows: Vec<Option<u64>>,
}

impl Gaps {
    /// A table for so many partitions, before the first window.
    pub(crate) fn new(partitions: u32) -> Self {
        Self { partitions: (0..partitions.max(1)).map(|_| Mutex::default()).collect() }
    }

    /// The partition that orders a conversation.
    pub(crate) fn partition(&self, conv: ConvId) -> u32 {
        partition_of(conv, u32::try_from(self.partitions.len()).unwrap_or(u32::MAX))
    }

    /// The next window begins.
    pub(crate) fn begin(&self, at_ns: u64) {
        for partition in &self.partitions {
            let mut partition = held(partition);
            partition.note_open(at_ns);
            partition.windows.push(None);
        }
    }

    /// A send waits for an answer from now on.
    pub(crate) fn waits(&self, partition: u32, now: u64) {
        let Some(mut partition) = self.at(partition) else { return };
        if partition.waiting == 0 {
            partition.since_ns = now;
        }
        partition.waiting += 1;
    }

    /// An answer came; `waited` tells whether it is for a send that waited here.
    pub(crate) fn answered(&self, partition: u32, waited: bool, now: u64) {
        let Some(mut partition) = self.at(partition) else { return };
        partition.note_open(now);
        // Shards look at the clock each for itself: what one saw first another may tell first.
        partition.since_ns = partition.since_ns.max(now);
        partition.waiting = partition.waiting.saturating_sub(u64::from(waited));
    }

    /// A send waits no longer and was not answered.
    pub(crate) fn left(&self, partition: u32, now: u64) {
        let Some(mut partition) = self.at(partition) else { return };
        if partition.waiting == 1 {
            partition.note_open(now);
        }
        partition.waiting = partition.waiting.saturating_sub(1);
    }

    /// The gaps by window and partition since the last call. Silences under way count with what has passed of them; a
    /// partition for which nothing waited in a window has none there.
    pub(crate) fn take(&self, now: u64) -> Vec<AcceptGap> {
        let mut all = Vec::new();
        for (partition, number) in self.partitions.iter().zip(0..) {
            let mut partition = held(partition);
            partition.note_open(now);
            for (gap, window) in partition.windows.iter_mut().zip(0..) {
                all.extend(gap.take().map(|gap_ns| AcceptGap {
                    window,
                    partition: number,
                    gap_ns,
                }));
            }
        }
        all.sort_by_key(|gap| (gap.window, gap.partition));
        all
    }

    fn at(&self, partition: u32) -> Option<MutexGuard<'_, Partition>> {
        self.partitions.get(usize::try_from(partition).ok()?).map(held)
    }
}

impl Partition {
    /// Counts the silence under way against the present window.
    fn note_open(&mut self, now: u64) {
        if self.waiting > 0
            && let Some(longest) = self.windows.last_mut()
        {
            *longest = (*longest).max(Some(now.saturating_sub(self.since_ns)));
        }
    }
}

/// What a thread that panicked left is whole: every change is a few stores.
fn held(partition: &Mutex<Partition>) -> MutexGuard<'_, Partition> {
    partition.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (window, partition, gap) of everything known at `now`.
    fn taken(gaps: &Gaps, now: u64) -> Vec<(u16, u32, u64)> {
        gaps.take(now).iter().map(|gap| (gap.window, gap.partition, gap.gap_ns)).collect()
    }

    fn begun(partitions: u32) -> Gaps {
        let gaps = Gaps::new(partitions);
        gaps.begin(0);
        gaps
    }

    #[test]
    fn silence_counts_from_the_first_send_that_waits_to_the_first_answer() {
        let gaps = begun(1);
        gaps.waits(0, 100);
        gaps.waits(0, 150);
        gaps.answered(0, true, 400);
        gaps.answered(0, true, 450);
        assert_eq!(taken(&gaps, 10_000), [(0, 0, 300)], "time without a send is no silence");
    }

    #[test]
    fn an_answer_begins_the_next_silence_while_others_wait() {
        let gaps = begun(1);
        gaps.waits(0, 0);
        gaps.waits(0, 0);
        gaps.answered(0, true, 10);
        gaps.answered(0, true, 500);
        assert_eq!(taken(&gaps, 500), [(0, 0, 490)]);
    }

    #[test]
    fn a_stray_answer_proves_that_the_partition_works_and_frees_nobody() {
        let gaps = begun(1);
        gaps.waits(0, 0);
        gaps.answered(0, false, 60);
        assert_eq!(taken(&gaps, 200), [(0, 0, 140)]);
        gaps.answered(0, true, 250);
        gaps.answered(0, false, 900);
        assert_eq!(taken(&gaps, 900), [(0, 0, 190)], "nobody waited any more");
    }

    #[test]
    fn sends_of_lost_connections_no_longer_wait() {
        let gaps = begun(1);
        gaps.waits(0, 0);
        gaps.waits(0, 50);
        gaps.left(0, 60);
        gaps.left(0, 80);
        gaps.waits(0, 1_000);
        gaps.answered(0, true, 1_005);
        assert_eq!(taken(&gaps, 5_000), [(0, 0, 80)], "what was waited until the cut is a gap");
    }

    #[test]
    fn open_silence_counts_at_the_end_of_its_window_and_goes_on_in_the_next() {
        let gaps = begun(1);
        gaps.waits(0, 0);
        gaps.begin(300);
        gaps.answered(0, true, 1_000);
        gaps.begin(2_000);
        assert_eq!(taken(&gaps, 3_000), [(0, 0, 300), (1, 0, 1_000)]);
    }

    #[test]
    fn open_silence_at_the_end_counts_and_nothing_is_handed_over_twice() {
        let gaps = begun(1);
        gaps.waits(0, 10);
        assert_eq!(taken(&gaps, 60), [(0, 0, 50)]);
        gaps.left(0, 70);
        assert_eq!(taken(&gaps, 90), [(0, 0, 60)]);
        assert_eq!(taken(&gaps, 99), []);
    }

    #[test]
    fn partitions_are_silent_each_for_itself() {
        let gaps = begun(3);
        gaps.waits(0, 0);
        gaps.waits(2, 0);
        gaps.answered(2, true, 5);
        assert_eq!(taken(&gaps, 70), [(0, 0, 70), (0, 2, 5)], "nothing waited for partition 1");
    }

    #[test]
    fn an_answer_on_another_shard_ends_the_silence() {
        let gaps = begun(1);
        // The shard with one send hears nothing for long; the other is answered every ten.
        gaps.waits(0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for at in (0..1_000).step_by(10) {
                    gaps.waits(0, at);
                    gaps.answered(0, true, at + 10);
                }
            });
        });
        gaps.answered(0, true, 1_004);
        assert_eq!(taken(&gaps, 1_004), [(0, 0, 10)]);
    }

    #[test]
    fn clocks_of_shards_that_disagree_a_little_lengthen_nothing() {
        let gaps = begun(1);
        gaps.waits(0, 100);
        gaps.waits(0, 100);
        gaps.answered(0, true, 200);
        gaps.answered(0, true, 195);
        assert_eq!(taken(&gaps, 200), [(0, 0, 100)]);
    }
}
