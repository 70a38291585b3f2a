//! What senders learn of their messages: written, answered, refused, open.
use chat_protocol::digest::message_hash;
use chat_protocol::{ConvId, Mid};

use super::number::{Device, Number};
use super::recent::Seen;
use super::row::{Reference, Row};
use super::{EARLY_MAX, Ledger, Outcome};

/// A `sent` answer.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Which message.
    pub n: Number,
    /// Device that sent it.
    pub sender: Device,
    /// The other user.
    pub peer: u32,
    /// Conversation.
    pub conv: ConvId,
    /// Order in it.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Intended start, nanoseconds since the run's start: the client order.
    pub order_ns: u64,
    /// When the answer was read.
    pub at_ns: u64,
}

/// Who says where a message stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// The first answer to its sender.
    Answered,
    /// The answer to a retry.
    AnsweredAgain,
    /// A recipient, when the sender had its answer.
    Surfaced,
    /// A recipient, before the sender had any answer.
    SurfacedEarly,
}

impl Ledger {
    /// The first frame of a send was written.
    #[inline]
    pub fn submitted(&mut self, n: Number) {
        let Some(stream) = self.stream(n) else { return };
        if stream.submitted.set(n.k, 0) == Some(false) {
            self.counts.submitted += 1;
        }
    }

    /// An intent that was never written: the outbox was full.
    pub fn not_sent(&mut self, _n: Number) {
        self.counts.not_sent += 1;
    }

    /// The server answered `sent`. Answers to retries are compared with the first one.
    #[inline]
    pub fn accepted(&mut self, sent: &Accepted) {
        let before = self.outcome(sent.n);
        let again = before == Outcome::Accepted;
        let answer = Reference { cseq: sent.cseq, mid: sent.mid };
        let said = if again { Said::AnsweredAgain } else { Said::Answered };
        self.compare((sent.n, sent.sender, sent.at_ns), answer, said);
        if again {
            self.counts.answered_again += 1;
            return;
        }
        let Some(stream) = self.stream(sent.n) else { return };
        stream.outcome.set(sent.n.k, 0);
        stream.outcome.set(sent.n.k, 1);
        self.counts.accepted += 1;
        match before {
            Outcome::Unknown => self.counts.unknown -= 1,
            Outcome::Rejected => self.counts.rejected -= 1,
            Outcome::Open | Outcome::Accepted => {}
        }
        let cseq = u32::try_from(sent.cseq).unwrap_or(u32::MAX);
        self.pairs.note(sent.sender, sent.peer, cseq);
        let pair = self.pairs.entry(sent.sender, sent.peer);
        pair.add_digest(message_hash(sent.conv, sent.cseq, sent.mid));
        let order_ms = u32::try_from(sent.order_ns / 1_000_000).unwrap_or(u32::MAX);
        let (other_order, other_cseq) = (pair.own_order_ms, pair.own_cseq);
        if other_cseq == 0 || order_ms >= other_order {
            pair.own_order_ms = order_ms;
            pair.own_cseq = cseq;
        }
        let overtaken = other_cseq != 0
            && ((order_ms > other_order && cseq < other_cseq)
                || (order_ms < other_order && cseq > other_cseq));
        if overtaken {
            self.row(Row::Overtaken {
                n: sent.n,
                device: sent.sender,
                conv: sent.conv,
                this: (u64::from(order_ms), u64::from(cseq)),
                other: (u64::from(other_order), u64::from(other_cseq)),
                at_ns: sent.at_ns,
            });
        }
    }

    /// Compares what is now said of a message with what was said of it first, or remembers it.
    pub(super) fn compare(
        &mut self,
        (n, device, at_ns): (Number, Device, u64),
        later: Reference,
        said: Said,
    ) {
        let accepted = said != Said::SurfacedEarly;
        match self.recent.see(n, later.cseq, later.mid, accepted) {
            Seen::Known(first) if first != later => {
                self.row(if said == Said::AnsweredAgain {
                    Row::AnswerChanged { n, first, later, at_ns }
                } else {
                    Row::Disagreement { n, device, first, later, at_ns }
                });
            }
            Seen::Known(_) | Seen::Nothing => {}
            Seen::Evicted(old, at) => {
                if self.outcome(old) != Outcome::Accepted && self.early.len() < EARLY_MAX {
                    self.early.insert(old, at);
                }
            }
        }
        if accepted
            && !self.early.is_empty()
            && let Some(first) = self.early.remove(&n)
            && first != later
        {
            self.row(Row::Disagreement { n, device, first, later, at_ns });
        }
    }

    /// The send was definitely refused: `effect: none` for every attempt. `explicit` when the refusal had a code and, if it may
    /// be retried, a hint.
    pub fn rejected(&mut self, n: Number, code: &str, explicit: bool, at_ns: u64) {
        *self.rejects.entry(code.to_owned()).or_default() += 1;
        if !explicit {
            self.row(Row::RefusedBare { n, at_ns });
        }
        if self.outcome(n) != Outcome::Open {
            return;
        }
        let Some(stream) = self.stream(n) else { return };
        stream.outcome.set(n.k, 0);
        let surfaced = stream.delivered.any(n.k);
        self.counts.rejected += 1;
        if surfaced {
            self.row(Row::RefusedSurfaced { n, device: None, at_ns });
        }
    }

    /// The send stays without answer: it may exist.
    pub fn unknown(&mut self, n: Number) {
        match self.outcome(n) {
            Outcome::Accepted | Outcome::Unknown => return,
            Outcome::Rejected => self.counts.rejected -= 1,
            Outcome::Open => {}
        }
        let Some(stream) = self.stream(n) else { return };
        stream.outcome.clear(n.k, 0);
        stream.outcome.set(n.k, 1);
        self.counts.unknown += 1;
    }
}
