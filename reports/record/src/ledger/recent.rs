//! Where recent messages stand, so that answers and surfacings of one message can be compared without keeping them all.
#![expect(clippy::cast_possible_truncation, reason = "a position in a ring of 2^17")]

use chat_protocol::Mid;

use super::number::Number;
use super::row::Reference;

/// Messages remembered: 7 s at 18,000 a second. What falls out is compared by digests only.
const KEPT: usize = 1 << 17;

#[derive(Clone, Copy)]
struct Entry {
    k: u64,
    cseq: u64,
    mid: Mid,
    stream: u16,
    accepted: bool,
    used: bool,
}

/// The ring.
#[derive(Clone)]
pub(crate) struct Recent {
    entries: Vec<Entry>,
}

/// What the ring knew.
pub(crate) enum Seen {
    /// The message, with its first reference.
    Known(Reference),
    /// Nothing; an older message that was never accepted had to leave.
    Evicted(Number, Reference),
    /// Nothing.
    Nothing,
}

impl Recent {
    pub(crate) fn new() -> Self {
        let none = Entry {
            k: 0,
            cseq: 0,
            mid: Mid::from_bytes(&[0; 16]).expect("16 bytes"),
            stream: 0,
            accepted: false,
            used: false,
        };
        Self { entries: vec![none; KEPT] }
    }

    fn at(n: Number) -> usize {
        (n.k.wrapping_add(u64::from(n.stream).wrapping_mul(0x9e37_79b1)) as usize) & (KEPT - 1)
    }

    /// Compares with what is known, or remembers.
    #[inline]
    pub(crate) fn see(&mut self, n: Number, cseq: u64, mid: Mid, accepted: bool) -> Seen {
        let entry = &mut self.entries[Self::at(n)];
        if entry.used && entry.k == n.k && entry.stream == n.stream {
            entry.accepted |= accepted;
            return Seen::Known(Reference { cseq: entry.cseq, mid: entry.mid });
        }
        let evicted = (entry.used && !entry.accepted).then_some((
            Number { stream: entry.stream, k: entry.k },
            Reference { cseq: entry.cseq, mid: entry.mid },
        ));
        *entry = Entry { k: n.k, cseq, mid, stream: n.stream, accepted, used: true };
        match evicted {
            Some((n, at)) => Seen::Evicted(n, at),
            None => Seen::Nothing,
        }
    }

    /// Messages that surfaced and were not accepted.
    pub(crate) fn not_accepted(&self) -> impl Iterator<Item = (Number, Reference)> {
        self.entries.iter().filter(|entry| entry.used && !entry.accepted).map(|entry| {
            (
                Number { stream: entry.stream, k: entry.k },
                Reference { cseq: entry.cseq, mid: entry.mid },
            )
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
    }
}
