//! Deliveries of one device: dedupe, order, holes and acknowledgement.
//!
//! Duplicates are found by `(conversation, cseq)` before anything is opened. A `cseq` hole, counted from the first message
//! seen, holds back what follows; after the hole timer it surfaces and the hole is filled from history. At most
//! [`HELD_MAX`] messages are held back, then the oldest hole is given up at once.
use std::collections::{BTreeMap, BTreeSet};

use chat_protocol::frame::{Cursor, Deliver, ResumeOutcome};
use chat_protocol::limits::ACK_ITEMS;
use chat_protocol::rest::PageMessage;
use chat_protocol::{ConvId, DeviceId, Mid};

use crate::app::Origin;
use bytes::Bytes;

/// Messages that may be held back behind holes.
pub const HELD_MAX: usize = 256;
/// Known holes behind which messages surfaced; the lowest are forgotten beyond this, and then count as seen.
const MISSING_MAX: usize = 4_096;

/// A message on its way to the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Conversation.
    pub conv: ConvId,
    /// Order in the conversation.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Device of the sender.
    pub from: DeviceId,
    /// Kind of body.
    pub kind: u32,
    /// Sealed body.
    pub body: Bytes,
    /// Where it came from.
    pub origin: Origin,
}

impl From<Deliver> for Item {
    fn from(d: Deliver) -> Self {
        let Deliver { conv, cseq, mid, from_device, kind, body, .. } = d;
        Self { conv, cseq, mid, from: from_device, kind, body, origin: Origin::Relay }
    }
}

impl Item {
    /// A message of a history page.
    pub fn of_page(conv: ConvId, message: PageMessage, origin: Origin) -> Self {
        let PageMessage { cseq, mid, from_device, kind, body, .. } = message;
        Self { conv, cseq, mid, from: from_device, kind, body, origin }
    }
}

/// What a queue position turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The next one.
    Next,
    /// Already had.
    Old,
    /// This many positions were skipped.
    Hole(u64),
}

#[derive(Debug)]
struct Seen {
    first: u64,
    /// Highest surfaced or own.
    top: u64,
}

#[derive(Debug)]
struct Held {
    /// `None` for the device's own message, which the app shows already.
    item: Option<Item>,
    dseq: u64,
    until: u64,
}

/// The inbox.
#[derive(Debug)]
pub struct Inbox {
    hole_wait_ns: u64,
    ack_delay_ns: u64,
    epoch: u64,
    /// Last position received; `None` before the first `welcome`.
    received: Option<u64>,
    acked: u64,
    unacked: u32,
    ack_due_ns: u64,
    seen: BTreeMap<ConvId, Seen>,
    missing: BTreeSet<(ConvId, u64)>,
    held: BTreeMap<(ConvId, u64), Held>,
    hole_due_ns: u64,
}

impl Inbox {
    /// An inbox of a new device.
    pub fn new(hole_wait_ns: u64, ack_delay_ns: u64) -> Self {
        Self {
            hole_wait_ns,
            ack_delay_ns,
            epoch: 0,
            received: None,
            acked: 0,
            unacked: 0,
            ack_due_ns: u64::MAX,
            seen: BTreeMap::new(),
            missing: BTreeSet::new(),
            held: BTreeMap::new(),
            hole_due_ns: u64::MAX,
        }
    }

    /// Where the device stopped: everything up to there is surfaced.
    pub fn cursor(&self) -> Option<Cursor> {
        self.received.map(|_| Cursor { epoch: self.epoch, dseq: self.surfaced_up_to() })
    }

    /// Earliest time at which an ack or a hole is due.
    pub fn due_ns(&self) -> u64 {
        self.ack_due_ns.min(self.hole_due_ns)
    }

    /// Conversations seen, with the position behind which everything may be missing: all of it, where the first message seen was not the
    /// first.
    pub fn conversations(&self) -> impl Iterator<Item = (ConvId, u64)> + '_ {
        self.seen.iter().map(|(conv, seen)| {
            let lowest = self.missing.range((*conv, 0)..=(*conv, u64::MAX)).next();
            let after = lowest.map_or(seen.top, |(_, cseq)| cseq - 1);
            (*conv, if seen.first > 1 { 0 } else { after })
        })
    }

    /// Highest number surfaced in a conversation, 0 if none.
    pub fn top(&self, conv: ConvId) -> u64 {
        self.seen.get(&conv).map_or(0, |seen| seen.top)
    }

    /// Numbers known to be missing.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Whether the server must be asked for lost messages: only a device that had a cursor can have lost any.
    pub fn welcome(&mut self, resume: ResumeOutcome, epoch: u64, next_dseq: u64) -> bool {
        let had_cursor = self.received.is_some();
        self.renumber(epoch, next_dseq);
        had_cursor && matches!(resume, ResumeOutcome::New | ResumeOutcome::Gap)
    }

    /// Counters are set from what the server says, unconditionally.
    pub fn renumber(&mut self, epoch: u64, next_dseq: u64) {
        self.epoch = epoch;
        self.received = Some(next_dseq.saturating_sub(1));
        self.acked = next_dseq.saturating_sub(1);
        self.unacked = 0;
        self.ack_due_ns = u64::MAX;
        // What is held back has no position in the new numbering; it must not pin the cursor.
        for held in self.held.values_mut() {
            held.dseq = u64::MAX;
        }
    }

    /// Takes note of a position; it is acknowledged when it is surfaced.
    pub fn position(&mut self, dseq: u64, now: u64) -> Position {
        self.unacked += 1;
        if self.ack_due_ns == u64::MAX {
            self.ack_due_ns = now + self.ack_delay_ns;
        }
        let next = self.received.unwrap_or(0) + 1;
        if dseq < next {
            return Position::Old;
        }
        self.received = Some(dseq);
        if dseq == next { Position::Next } else { Position::Hole(dseq - next) }
    }

    /// The ack that is due, if any.
    pub fn ack(&mut self, now: u64, at_once: bool) -> Option<u64> {
        if !(at_once && self.unacked > 0) && self.unacked < ACK_ITEMS && now < self.ack_due_ns {
            return None;
        }
        self.ack_due_ns = u64::MAX;
        self.unacked = 0;
        let up_to = self.surfaced_up_to();
        (up_to > self.acked).then(|| {
            self.acked = up_to;
            up_to
        })
    }

    /// The device's own message got its number: it counts as surfaced.
    pub fn own(&mut self, conv: ConvId, cseq: u64, now: u64, show: &mut impl FnMut(Item)) {
        self.missing.remove(&(conv, cseq));
        let seen = self.seen.entry(conv).or_insert(Seen { first: cseq, top: cseq });
        if cseq < seen.first {
            let hole = cseq + 1..seen.first;
            seen.first = cseq;
            self.miss(conv, hole);
        } else if cseq == seen.top + 1 {
            seen.top = cseq;
            self.release(conv, show);
        } else if cseq > seen.top {
            // Others' messages before it are under way, by the longer path.
            self.hold(
                (conv, cseq),
                Held { item: None, dseq: u64::MAX, until: now + self.hole_wait_ns },
            );
        }
    }

    /// Takes a message at queue position `dseq` (`u64::MAX` for history). Returns false for a duplicate.
    pub fn take(&mut self, item: Item, dseq: u64, now: u64, show: &mut impl FnMut(Item)) -> bool {
        let (conv, cseq) = (item.conv, item.cseq);
        let Some(seen) = self.seen.get_mut(&conv) else {
            self.seen.insert(conv, Seen { first: cseq, top: cseq });
            show(item);
            return true;
        };
        if cseq < seen.first {
            let hole = cseq + 1..seen.first;
            seen.first = cseq;
            self.miss(conv, hole);
            show(item);
        } else if cseq <= seen.top {
            if !self.missing.remove(&(conv, cseq)) {
                return false;
            }
            show(item);
        } else if cseq == seen.top + 1 {
            seen.top = cseq;
            show(item);
            self.release(conv, show);
        } else if item.origin == Origin::Relay {
            if self.held.contains_key(&(conv, cseq)) {
                return false;
            }
            self.hold(
                (conv, cseq),
                Held { item: Some(item), dseq, until: now + self.hole_wait_ns },
            );
        } else {
            // History has no number in between at the moment of the page.
            let hole = seen.top + 1..cseq;
            seen.top = cseq;
            self.miss(conv, hole);
            show(item);
            self.release(conv, show);
        }
        true
    }

    /// Gives up holes whose time is over: what follows surfaces, and the pages that fill them are named (conversation, after).
    pub fn tick(
        &mut self,
        now: u64,
        show: &mut impl FnMut(Item),
        fill: &mut impl FnMut(ConvId, u64),
    ) {
        if now < self.hole_due_ns {
            return;
        }
        let crowded = self.held.len() > HELD_MAX;
        let due: Vec<_> = {
            let over = self.held.iter().filter(|(_, held)| crowded || now >= held.until);
            over.map(|((conv, _), _)| *conv).collect::<BTreeSet<_>>().into_iter().collect()
        };
        for conv in due {
            let Some(((_, first), _)) = self.held.range((conv, 0)..=(conv, u64::MAX)).next() else {
                continue;
            };
            let first = *first;
            if let Some(seen) = self.seen.get_mut(&conv) {
                let after = seen.top;
                seen.top = first - 1;
                self.miss(conv, after + 1..first);
                fill(conv, after);
            }
            self.release(conv, show);
        }
        self.hole_due_ns = self.held.values().map(|held| held.until).min().unwrap_or(u64::MAX);
    }

    /// A page said that a conversation has nothing at these numbers for this device: they are missing no more.
    pub fn settle(&mut self, conv: ConvId, up_to: u64) {
        while let Some(found) = self.missing.range((conv, 0)..=(conv, up_to)).next().copied() {
            self.missing.remove(&found);
        }
    }

    fn hold(&mut self, at: (ConvId, u64), held: Held) {
        self.hole_due_ns = self.hole_due_ns.min(held.until);
        self.held.insert(at, held);
        if self.held.len() > HELD_MAX {
            self.hole_due_ns = 0;
        }
    }

    fn release(&mut self, conv: ConvId, show: &mut impl FnMut(Item)) {
        if self.held.is_empty() {
            return;
        }
        let Some(seen) = self.seen.get_mut(&conv) else { return };
        while let Some(((_, cseq), _)) = self.held.range((conv, 0)..=(conv, u64::MAX)).next() {
            let cseq = *cseq;
            if cseq > seen.top + 1 {
                break;
            }
            if let Some(held) = self.held.remove(&(conv, cseq))
                && cseq == seen.top + 1
            {
                seen.top = cseq;
                if let Some(item) = held.item {
                    show(item);
                }
            }
        }
        if self.held.is_empty() {
            self.hole_due_ns = u64::MAX;
        }
    }

    fn miss(&mut self, conv: ConvId, hole: std::ops::Range<u64>) {
        // A hole larger than the limit keeps its newest numbers.
        let start = hole.start.max(hole.end.saturating_sub(MISSING_MAX as u64));
        self.missing.extend((start..hole.end).map(|cseq| (conv, cseq)));
        while self.missing.len() > MISSING_MAX {
            self.missing.pop_first();
        }
    }

    fn surfaced_up_to(&self) -> u64 {
        let received = self.received.unwrap_or(0);
        let held = self.held.values().map(|held| held.dseq).min().unwrap_or(u64::MAX);
        received.min(held.saturating_sub(1)).max(self.acked)
    }
}

#[cfg(test)]
mod tests;
