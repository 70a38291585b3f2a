//! What each device saw of each of its conversations, in one flat table with open addressing.
//!
//! A map of the standard library needs a power of two of entries and a control byte each; five million pairs would take
//! 277 MB. This table takes what is asked for and is filled to nine tenths.
#![expect(
    clippy::cast_possible_truncation,
    reason = "halves of packed keys, and bits of a window of 32"
)]

use serde::{Deserialize, Serialize};

use super::number::Device;

const EMPTY: u64 = u64::MAX;
/// Numbers of ranges kept for devices that are far ahead of a hole.
const BEYOND_MAX: usize = 1 << 20;

/// One device in one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    digest: [u32; 2],
    /// Everything up to here was surfaced.
    pub low: u32,
    /// What was surfaced above `low`: bit i stands for `low + 1 + i`.
    pub window: u32,
    /// Highest `cseq` that came as a live delivery.
    pub highest: u32,
    /// Client order of the newest own accepted send, milliseconds since the run's start.
    pub own_order_ms: u32,
    /// Its `cseq`.
    pub own_cseq: u32,
}

impl Pair {
    const NEW: Self =
        Self { digest: [0; 2], low: 0, window: 0, highest: 0, own_order_ms: 0, own_cseq: 0 };

    /// Sum of the hashes of what was surfaced.
    pub fn digest(&self) -> u64 {
        u64::from(self.digest[0]) << 32 | u64::from(self.digest[1])
    }

    /// Adds a hash. Public for tests of the judge, which mutate records.
    pub fn add_digest(&mut self, hash: u64) {
        let sum = self.digest().wrapping_add(hash);
        self.digest = [(sum >> 32) as u32, sum as u32];
    }
}

/// A pair with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRow {
    /// The device.
    pub device: Device,
    /// The other user of the conversation.
    pub peer: u32,
    /// Its state.
    pub pair: Pair,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: [u32; 2],
    pair: Pair,
}

/// All pairs of a shard.
#[derive(Clone, Debug)]
pub struct Pairs {
    entries: Vec<Entry>,
    len: usize,
    beyond: std::collections::BTreeMap<u64, Vec<[u32; 2]>>,
    beyond_len: usize,
    beyond_dropped: u64,
}

/// What noting a `cseq` told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    New,
    Again,
}

impl Pairs {
    /// A table that takes `expected` pairs without growing.
    pub(crate) fn new(expected: usize) -> Self {
        Self {
            entries: vec![
                Entry { key: split(EMPTY), pair: Pair::NEW };
                expected.max(64) * 10 / 9 + 1
            ],
            len: 0,
            beyond: std::collections::BTreeMap::new(),
            beyond_len: 0,
            beyond_dropped: 0,
        }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ranges that found no room; holes of their pairs cannot be told from missing ones.
    pub fn beyond_dropped(&self) -> u64 {
        self.beyond_dropped
    }

    /// The pair of a device and the other user.
    pub fn get(&self, device: Device, peer: u32) -> Option<&Pair> {
        let at = self.find(join(device, peer));
        (self.entries[at].key != split(EMPTY)).then(|| &self.entries[at].pair)
    }

    /// The pair, made when it is new. Public for tests of the judge, which mutate records.
    #[inline]
    pub fn entry(&mut self, device: Device, peer: u32) -> &mut Pair {
        let key = join(device, peer);
        let mut at = self.find(key);
        if self.entries[at].key == split(EMPTY) {
            if (self.len + 1) * 100 > self.entries.len() * 92 {
                self.grow();
                at = self.find(key);
            }
            self.entries[at] = Entry { key: split(key), pair: Pair::NEW };
            self.len += 1;
        }
        &mut self.entries[at].pair
    }

    fn find(&self, key: u64) -> usize {
        let len = self.entries.len();
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = ((u128::from(mixed ^ mixed >> 32) * len as u128) >> 64) as usize;
        let wanted = split(key);
        loop {
            let seen = self.entries[at].key;
            // The table is never full, so an empty entry ends the search.
            if seen == wanted || seen == split(EMPTY) {
                return at;
            }
            at += 1;
            if at == len {
                at = 0;
            }
        }
    }

    fn grow(&mut self) {
        let bigger = self.entries.len() * 3 / 2;
        let old = std::mem::replace(
            &mut self.entries,
            vec![Entry { key: split(EMPTY), pair: Pair::NEW }; bigger],
        );
        for entry in old {
            if entry.key != split(EMPTY) {
                let at = self.find(whole(entry.key));
                self.entries[at] = entry;
            }
        }
    }

    /// Notes that a `cseq` was surfaced or answered.
    #[inline]
    pub(crate) fn note(&mut self, device: Device, peer: u32, cseq: u32) -> Noted {
        let pair = self.entry(device, peer);
        if cseq <= pair.low {
            return Noted::Again;
        }
        let ahead = cseq - pair.low - 1;
        if ahead >= 32 {
            return self.note_beyond(join(device, peer), cseq);
        }
        let bit = 1_u32 << ahead;
        if pair.window & bit != 0 {
            return Noted::Again;
        }
        pair.window |= bit;
        let run = pair.window.trailing_ones();
        if run > 0 {
            pair.low += run;
            pair.window = if run == 32 { 0 } else { pair.window >> run };
            if self.beyond_len > 0 {
                self.pull_beyond(device, peer);
            }
        }
        Noted::New
    }

    #[cold]
    fn note_beyond(&mut self, key: u64, cseq: u32) -> Noted {
        let ranges = self.beyond.entry(key).or_default();
        if ranges.iter().any(|[from, to]| (*from..=*to).contains(&cseq)) {
            return Noted::Again;
        }
        if let Some(range) = ranges.iter_mut().find(|[_, to]| cseq == to.saturating_add(1)) {
            range[1] = cseq;
        } else if self.beyond_len < BEYOND_MAX {
            ranges.push([cseq, cseq]);
            self.beyond_len += 1;
        } else {
            self.beyond_dropped += 1;
        }
        Noted::New
    }

    #[cold]
    fn pull_beyond(&mut self, device: Device, peer: u32) {
        let key = join(device, peer);
        let Some(ranges) = self.beyond.remove(&key) else { return };
        self.beyond_len -= ranges.len();
        for [from, to] in ranges {
            let pair = self.entry(device, peer);
            // A whole range that touches `low` moves it at once.
            if from <= pair.low.saturating_add(1) && to > pair.low && pair.window == 0 {
                pair.low = to;
                continue;
            }
            for cseq in from..=to {
                let pair = self.entry(device, peer);
                if cseq > pair.low && cseq - pair.low > 32 {
                    let rest = self.beyond.entry(key).or_default();
                    rest.push([cseq, to]);
                    self.beyond_len += 1;
                    break;
                }
                self.note(device, peer, cseq);
            }
        }
    }

    /// All pairs in the order of device and peer.
    pub fn sorted(&self) -> Vec<PairRow> {
        let mut all: Vec<PairRow> = self
            .entries
            .iter()
            .filter(|entry| entry.key != split(EMPTY))
            .map(|entry| PairRow { device: entry.key[0], peer: entry.key[1], pair: entry.pair })
            .collect();
        all.sort_unstable_by_key(|row| (row.device, row.peer));
        all
    }

    /// Ranges of one pair above its window.
    pub fn beyond(&self, device: Device, peer: u32) -> &[[u32; 2]] {
        self.beyond.get(&join(device, peer)).map_or(&[], Vec::as_slice)
    }

    /// Puts back the ranges of a pair that was read.
    pub(crate) fn put_beyond(&mut self, device: Device, peer: u32, ranges: Vec<[u32; 2]>) {
        self.beyond_len += ranges.len();
        self.beyond.insert(join(device, peer), ranges);
    }

    /// Every pair with ranges above its window, in order of device and peer.
    pub(crate) fn all_beyond(&self) -> impl Iterator<Item = ([u32; 2], &[[u32; 2]])> {
        self.beyond.iter().map(|(key, ranges)| (split(*key), ranges.as_slice()))
    }

    /// Takes over pairs read from a folder or merged from another shard: what both have is added and the higher kept.
    pub(crate) fn merge(&mut self, device: Device, peer: u32, theirs: Pair, beyond: &[[u32; 2]]) {
        let known = self.get(device, peer).is_some();
        let mine = self.entry(device, peer);
        if known {
            mine.add_digest(theirs.digest());
            mine.highest = mine.highest.max(theirs.highest);
            if theirs.own_order_ms >= mine.own_order_ms {
                mine.own_order_ms = theirs.own_order_ms;
                mine.own_cseq = theirs.own_cseq;
            }
            let (low, window) = (theirs.low, theirs.window);
            if low > mine.low {
                let shift = low - mine.low;
                mine.window = mine.window.checked_shr(shift).unwrap_or(0);
                mine.low = low;
            }
            for bit in 0..32 {
                if window >> bit & 1 == 1 {
                    self.note(device, peer, low + 1 + bit);
                }
            }
        } else {
            *mine = theirs;
        }
        for [from, to] in beyond {
            for cseq in *from..=*to {
                self.note(device, peer, cseq);
            }
        }
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
    }
}

const fn split(key: u64) -> [u32; 2] {
    [(key >> 32) as u32, key as u32]
}

const fn whole(key: [u32; 2]) -> u64 {
    (key[0] as u64) << 32 | key[1] as u64
}

const fn join(device: Device, peer: u32) -> u64 {
    whole([device, peer])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_closed_by_whatever_fills_it() {
        let mut pairs = Pairs::new(4);
        for cseq in [1, 2, 4, 5, 100, 101, 36] {
            assert_eq!(pairs.note(1, 2, cseq), Noted::New);
        }
        assert_eq!(pairs.get(1, 2).unwrap().low, 2);
        assert_eq!(pairs.beyond(1, 2), &[[100, 101], [36, 36]]);
        pairs.note(1, 2, 3);
        assert_eq!(pairs.get(1, 2).unwrap().low, 5);
        for cseq in 6..=35 {
            pairs.note(1, 2, cseq);
        }
        assert_eq!(pairs.get(1, 2).unwrap().low, 36);
        for cseq in 37..=99 {
            assert_eq!(pairs.note(1, 2, cseq), Noted::New, "{cseq}");
        }
        assert_eq!((pairs.get(1, 2).unwrap().low, pairs.get(1, 2).unwrap().window), (101, 0));
        assert!(pairs.beyond(1, 2).is_empty());
        assert_eq!(pairs.note(1, 2, 50), Noted::Again);
    }

    #[test]
    fn the_table_grows_and_keeps_everything() {
        let mut pairs = Pairs::new(1);
        for device in 0..5_000 {
            pairs.note(device, device + 7, 1);
        }
        assert_eq!(pairs.len(), 5_000);
        let sorted = pairs.sorted();
        assert!(
            sorted
                .windows(2)
                .all(|two| (two[0].device, two[0].peer) < (two[1].device, two[1].peer))
        );
        assert!(sorted.iter().all(|row| row.pair.low == 1));
    }
}
