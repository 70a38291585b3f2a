//! The fold: a pure function over one partition of `chat.messages` that dedupes, refuses and orders.
//!
//! It reads no clock, table, randomness or setting, so every reader that starts from the empty log, or from anybody's
//! snapshot, gives a record the same verdict. Sequencer and history writer both run it; it lives here because they may
//! not depend on each other.
//!
//! The dedupe window is exact: a later copy of an accepted `cid` meets the memory or the age limit.
use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use crate::digest::{message_hash, mix};
use crate::limits::{AGE_MAX_MS, AHEAD_MAX_MS};
use crate::{Cid, ConvId, DeviceId, Mid};

/// Remembered `cid`s, and remembered conversations, of one partition; beyond either a record is refused as busy.
pub const ENTRIES_MAX: usize = 1_000_000;
/// A checkpoint of the verdict digest is kept at every offset that this divides.
pub const CHECKPOINT_EVERY: u64 = 64;
/// So many newest checkpoints are kept.
pub const CHECKPOINTS_MAX: usize = 1_024;

/// What the fold looks at in a record.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Place of the record.
    pub offset: u64,
    /// The broker's stamp, milliseconds since 1970.
    pub log_ms: u64,
    /// Idempotency key.
    pub cid: Cid,
    /// Conversation.
    pub conv: ConvId,
    /// Device that sent it.
    pub from: DeviceId,
    /// The client's stamp of the first attempt.
    pub client_ms: u64,
}

/// Why a record is refused: it exists for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too old, or too far ahead.
    Stale,
    /// The memory of the partition is full.
    Busy,
    /// The `cid` stands for a message of another device or conversation. To answer it as a copy would be to accept a message
    /// that never surfaces.
    CidTaken,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new message with its number.
    Accepted {
        /// Server id.
        mid: Mid,
        /// Order in the conversation.
        cseq: u64,
    },
    /// A further copy; the numbers are the first one's.
    Duplicate {
        /// Server id of the first copy.
        mid: Mid,
        /// Number of the first copy.
        cseq: u64,
        /// `log_ms` of the first copy.
        log_ms: u64,
    },
    /// Nothing.
    Refused(Refusal),
}

/// A snapshot that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fold snapshot is damaged or of another version")]
pub struct BadSnapshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct First {
    offset: u64,
    log_ms: u64,
    cseq: u64,
    /// Digest of conversation and device: whose `cid` it is.
    whose: u64,
}

/// State of the fold over one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    partition: u32,
    next_offset: u64,
    now_ms: u64,
    digest: u64,
    last: HashMap<ConvId, u64>,
    seen: HashMap<Cid, First>,
    order: VecDeque<(Cid, u64)>,
    checkpoints: VecDeque<(u64, u64)>,
}

impl Fold {
    /// The state before the first record.
    pub fn new(partition: u32) -> Self {
        Self {
            partition,
            next_offset: 0,
            now_ms: 0,
            digest: 0,
            last: HashMap::new(),
            seen: HashMap::new(),
            order: VecDeque::new(),
            checkpoints: VecDeque::new(),
        }
    }

    /// Offset of the record that comes next.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Remembered `cid`s.
    pub fn remembered(&self) -> usize {
        self.seen.len()
    }

    /// Highest `cseq` given out in a conversation, 0 if none.
    pub fn last_cseq(&self, conv: ConvId) -> u64 {
        self.last.get(&conv).copied().unwrap_or(0)
    }

    /// The newest checkpoints: (offset, digest of all verdicts before it). Two readers that differ at one offset convict.
    pub fn checkpoints(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.checkpoints.iter().copied()
    }

    /// Folds the next record in. A record below `next_offset` must not be offered again; gaps (control records) are fine.
    pub fn apply(&mut self, input: &Input) -> Verdict {
        debug_assert!(input.offset >= self.next_offset, "records come once and in order");
        let verdict = self.judge(input);
        let folded = match verdict {
            Verdict::Accepted { mid, cseq } => message_hash(input.conv, cseq, mid),
            Verdict::Duplicate { cseq, .. } => mix(&[1, cseq]),
            Verdict::Refused(Refusal::Stale) => 2,
            Verdict::Refused(Refusal::Busy) => 3,
            Verdict::Refused(Refusal::CidTaken) => 4,
        };
        self.digest = mix(&[self.digest, input.offset, folded]);
        self.next_offset = input.offset + 1;
        if self.next_offset.is_multiple_of(CHECKPOINT_EVERY) {
            self.checkpoints.push_back((self.next_offset, self.digest));
            if self.checkpoints.len() > CHECKPOINTS_MAX {
                self.checkpoints.pop_front();
            }
        }
        verdict
    }

    fn judge(&mut self, input: &Input) -> Verdict {
        let &Input { offset, log_ms, cid, conv, from, client_ms } = input;
        let too_old = |at: u64| at.saturating_sub(client_ms) > AGE_MAX_MS;
        if client_ms.saturating_sub(log_ms) > AHEAD_MAX_MS
            || too_old(log_ms)
            || too_old(self.now_ms)
        {
            return Verdict::Refused(Refusal::Stale);
        }
        self.now_ms = self.now_ms.max(log_ms);
        while let Some((oldest, stamp)) = self.order.front().copied() {
            if self.now_ms.saturating_sub(stamp) <= AGE_MAX_MS {
                break;
            }
            self.order.pop_front();
            self.seen.remove(&oldest);
        }
        let (low, high) = conv.users();
        let whose = mix(&[low.0, high.0, from.0]);
        if let Some(first) = self.seen.get(&cid) {
            if first.whose != whose {
                return Verdict::Refused(Refusal::CidTaken);
            }
            let mid = mid_of(self.partition, first.offset, first.log_ms);
            return Verdict::Duplicate { mid, cseq: first.cseq, log_ms: first.log_ms };
        }
        let known = self.last.get_mut(&conv);
        if self.seen.len() >= ENTRIES_MAX || (known.is_none() && self.last.len() >= ENTRIES_MAX) {
            return Verdict::Refused(Refusal::Busy);
        }
        let last = self.last.entry(conv).or_insert(0);
        *last += 1;
        let cseq = *last;
        self.seen.insert(cid, First { offset, log_ms, cseq, whose });
        self.order.push_back((cid, client_ms));
        Verdict::Accepted { mid: mid_of(self.partition, offset, log_ms), cseq }
    }

    /// The state as bytes: equal states are equal bytes, so a snapshot is never overwritten with something else.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut last: Vec<_> = self.last.iter().collect();
        last.sort_unstable();
        let mut bytes = Vec::with_capacity(
            64 + last.len() * 24 + self.order.len() * 56 + self.checkpoints.len() * 16,
        );
        bytes.extend_from_slice(MAGIC);
        let word = |bytes: &mut Vec<u8>, value: u64| bytes.extend_from_slice(&value.to_le_bytes());
        for value in [u64::from(self.partition), self.next_offset, self.now_ms, self.digest] {
            word(&mut bytes, value);
        }
        word(&mut bytes, last.len() as u64);
        for (conv, cseq) in last {
            bytes.extend_from_slice(&conv.to_bytes());
            word(&mut bytes, *cseq);
        }
        word(&mut bytes, self.order.len() as u64);
        for (cid, client_ms) in &self.order {
            let first =
                self.seen.get(cid).copied().expect("every remembered `cid` has its first copy");
            bytes.extend_from_slice(&cid.to_bytes());
            for value in [*client_ms, first.offset, first.log_ms, first.cseq, first.whose] {
                word(&mut bytes, value);
            }
        }
        word(&mut bytes, self.checkpoints.len() as u64);
        for (offset, digest) in &self.checkpoints {
            word(&mut bytes, *offset);
            word(&mut bytes, *digest);
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a snapshot back.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, BadSnapshot> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(BadSnapshot)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err(BadSnapshot);
        }
        let mut reader = Reader(content.strip_prefix(MAGIC).ok_or(BadSnapshot)?);
        let mut fold = Self::new(u32::try_from(reader.word()?).map_err(|_| BadSnapshot)?);
        fold.next_offset = reader.word()?;
        fold.now_ms = reader.word()?;
        fold.digest = reader.word()?;
        for _ in 0..reader.word()? {
            let conv = ConvId::from_bytes(reader.take::<16>()?).map_err(|_| BadSnapshot)?;
            fold.last.insert(conv, reader.word()?);
        }
        for _ in 0..reader.word()? {
            let cid = Cid::from_bytes(reader.take::<16>()?).ok_or(BadSnapshot)?;
            let client_ms = reader.word()?;
            let (offset, log_ms) = (reader.word()?, reader.word()?);
            let (cseq, whose) = (reader.word()?, reader.word()?);
            let first = First { offset, log_ms, cseq, whose };
            fold.order.push_back((cid, client_ms));
            fold.seen.insert(cid, first);
        }
        for _ in 0..reader.word()? {
            let checkpoint = (reader.word()?, reader.word()?);
            fold.checkpoints.push_back(checkpoint);
        }
        if reader.0.is_empty() { Ok(fold) } else { Err(BadSnapshot) }
    }
}

/// `mid` of the record at `offset`: a `UUIDv7` with partition and offset in its free bits, so every reader computes the same.
pub fn mid_of(partition: u32, offset: u64, log_ms: u64) -> Mid {
    let mut random = [0_u8; 10];
    random[..2].copy_from_slice(&partition.to_be_bytes()[2..]);
    random[2..].copy_from_slice(&offset.to_be_bytes());
    // Byte 2 holds the variant bits, which overwrite the offset's top two; an offset never reaches 2^62.
    Mid(uuid::Builder::from_unix_timestamp_millis(log_ms, &random).into_uuid())
}

/// A `mid` made of given bits, for sequencers that do not derive it from the log.
pub fn mid_from_bits(bits: u128) -> Mid {
    Mid(Uuid::from_u128(bits))
}

const MAGIC: &[u8] = b"chatstorm.fold/2";

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], BadSnapshot> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(BadSnapshot)?;
        self.0 = rest;
        Ok(head)
    }

    fn word(&mut self) -> Result<u64, BadSnapshot> {
        self.take::<8>().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserId;
    use proptest::prelude::*;

    const T0: u64 = 1_700_000_000_000;

    fn input(offset: u64, cid: u128, conv: u64, log_ms: u64, client_ms: u64) -> Input {
        let conv = ConvId::direct(UserId(0), UserId(conv + 1)).unwrap();
        let from = UserId(0).device(0);
        Input { offset, log_ms, cid: Cid(Uuid::from_u128(cid)), conv, from, client_ms }
    }

    #[test]
    fn a_retry_gets_the_first_answer() {
        let mut fold = Fold::new(3);
        let Verdict::Accepted { mid, cseq } = fold.apply(&input(0, 1, 1, T0, T0)) else { panic!() };
        fold.apply(&input(1, 2, 1, T0 + 5, T0));
        assert_eq!(
            fold.apply(&input(2, 1, 1, T0 + 9, T0)),
            Verdict::Duplicate { mid, cseq, log_ms: T0 }
        );
    }

    #[test]
    fn a_cid_of_another_device_or_conversation_is_refused_and_never_a_copy() {
        let mut fold = Fold::new(0);
        let first = fold.apply(&input(0, 1, 1, T0, T0));
        assert!(matches!(first, Verdict::Accepted { .. }));
        let other_conversation = input(1, 1, 2, T0, T0);
        let other_device = Input { from: UserId(2).device(0), ..input(2, 1, 1, T0, T0) };
        for taken in [other_conversation, other_device] {
            assert_eq!(fold.apply(&taken), Verdict::Refused(Refusal::CidTaken));
        }
        assert!(matches!(fold.apply(&input(3, 1, 1, T0, T0)), Verdict::Duplicate { .. }));
    }

    #[test]
    fn a_copy_older_than_the_memory_is_stale_and_never_a_second_message() {
        let mut fold = Fold::new(0);
        fold.apply(&input(0, 1, 1, T0, T0));
        fold.apply(&input(1, 2, 1, T0 + AGE_MAX_MS + 1, T0 + AGE_MAX_MS));
        assert_eq!(fold.remembered(), 1);
        assert_eq!(fold.apply(&input(2, 1, 1, T0 + 1, T0)), Verdict::Refused(Refusal::Stale));
    }

    #[test]
    fn damaged_snapshot_is_refused() {
        let mut fold = Fold::new(0);
        fold.apply(&input(0, 1, 1, T0, T0));
        let good = fold.snapshot();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Fold::from_snapshot(&bad), Err(BadSnapshot));
        }
        assert_eq!(Fold::from_snapshot(&good[..good.len() - 1]), Err(BadSnapshot));
        assert_eq!(Fold::from_snapshot(b""), Err(BadSnapshot));
    }

    proptest! {
        #[test]
        fn every_reader_gives_the_same_verdicts_from_any_snapshot(
            records in prop::collection::vec((0_u128..20, 0_u64..4, 0_u64..400_000, 0_u64..400_000), 1..200),
            cut in 0_usize..200,
        ) {
            let inputs: Vec<_> = records.iter().enumerate().map(|(i, (cid, conv, log, client))| {
                input(i as u64, *cid, *conv, T0 + log, T0 + client)
            }).collect();
            let mut first = Fold::new(5);
            let mut verdicts = Vec::new();
            let mut snapshot = first.snapshot();
            for (i, record) in inputs.iter().enumerate() {
                if i == cut { snapshot = first.snapshot(); }
                verdicts.push(first.apply(record));
            }
            let mut second = Fold::from_snapshot(&snapshot).unwrap();
            let from = if cut < inputs.len() { cut } else { 0 };
            for (record, verdict) in inputs[from..].iter().zip(&verdicts[from..]) {
                prop_assert_eq!(second.apply(record), *verdict);
            }
            prop_assert_eq!(second.snapshot(), first.snapshot());
        }

        #[test]
        fn a_cid_is_accepted_once_and_numbers_have_no_gap(
            records in prop::collection::vec((0_u64..30, 0_u64..400_000), 1..300),
        ) {
            // Every copy of a `cid` carries the stamp of its first attempt, as the protocol demands.
            let mut fold = Fold::new(0);
            let mut accepted = std::collections::BTreeSet::new();
            let mut next = 1;
            for (i, (cid, log)) in records.iter().enumerate() {
                let client = T0 + *cid * 9_000;
                if let Verdict::Accepted { cseq, .. } = fold.apply(&input(i as u64, u128::from(*cid), 1, T0 + log, client)) {
                    prop_assert!(accepted.insert(*cid));
                    prop_assert_eq!(cseq, next);
                    next += 1;
                }
            }
        }
    }
}
