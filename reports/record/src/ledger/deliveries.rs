//! What recipients see: messages that surface, and what came on the wire and did not.
use chat_protocol::digest::message_hash;
use chat_protocol::{ConvId, Mid};

use super::FILLED_MAX;
use super::number::{Device, Number};
use super::pairs::Noted;
use super::row::{Reference, Row};
use super::sends::Said;
use super::{ACTIVITY_MAX, ACTIVITY_NS, Ledger, Outcome};

/// The slot of a device among the planned recipients of a message: the recipient's devices in order, then the sender's other
/// devices. `recipient_devices` is their number, `index` the device's place among its user's.
pub const fn slot(of_recipient: bool, recipient_devices: u8, index: u8, sender_index: u8) -> u8 {
    if of_recipient {
        index
    } else if index > sender_index {
        recipient_devices + index - 1
    } else {
        recipient_devices + index
    }
}

/// A message that a device showed.
#[derive(Clone, Copy, Debug)]
pub struct Surfaced {
    /// The number in the opened body; `None` when the body does not open or names no message of this run.
    pub n: Option<Number>,
    /// Whether the body equals the recomputed one.
    pub intact: bool,
    /// Who.
    pub device: Device,
    /// [`slot`] of the device, `None` when it is no planned recipient of this message.
    pub slot: Option<u8>,
    /// The other user of the conversation, seen from the device's user.
    pub peer: u32,
    /// Conversation.
    pub conv: ConvId,
    /// Order in it.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Came from history.
    pub backfilled: bool,
    /// A back-fill that the relay announced: by a skipped `dseq`, or by `new`, `gap` or a lost store.
    pub announced: bool,
    /// Connection epoch it came by.
    pub conn_epoch: u64,
    /// When.
    pub at_ns: u64,
}

impl Ledger {
    /// A device showed a message.
    #[inline]
    pub fn surfaced(&mut self, seen: &Surfaced) {
        self.counts.surfaced += 1;
        self.note_activity(seen.device, seen.at_ns);
        let (device, at_ns) = (seen.device, seen.at_ns);
        let highest = self.devices.get(device as usize).map_or(0, |state| state.conn_epoch);
        if seen.conn_epoch < highest && !seen.backfilled {
            self.row(Row::OldEpoch { device, epoch: seen.conn_epoch, highest, at_ns });
        }
        let at = Reference { cseq: seen.cseq, mid: seen.mid };
        let Some(n) = seen.n else {
            self.row(Row::Phantom { device, conv: seen.conv, at, at_ns });
            return;
        };
        if !seen.intact {
            self.row(Row::Corrupt { n, device, at_ns });
        }
        let Some(slot) = seen.slot else {
            self.row(Row::Stranger { n, device, at_ns });
            return;
        };
        let Some(stream) = self.stream(n) else {
            self.row(Row::Phantom { device, conv: seen.conv, at, at_ns });
            return;
        };
        match stream.delivered.set(n.k, slot) {
            Some(false) => {}
            Some(true) => {
                self.row(Row::Duplicate { n, device, at, at_ns });
                return;
            }
            None => {
                self.row(Row::Phantom { device, conv: seen.conv, at, at_ns });
                return;
            }
        }
        self.counts.delivered += 1;
        let outcome = self.outcome(n);
        if outcome == Outcome::Rejected {
            self.row(Row::RefusedSurfaced { n, device: Some(device), at_ns });
        }
        let answered = outcome == Outcome::Accepted;
        let said = if answered { Said::Surfaced } else { Said::SurfacedEarly };
        self.compare((n, device, at_ns), at, said);
        let cseq = u32::try_from(seen.cseq).unwrap_or(u32::MAX);
        let noted = self.pairs.note(device, seen.peer, cseq);
        let pair = self.pairs.entry(device, seen.peer);
        pair.add_digest(message_hash(seen.conv, seen.cseq, seen.mid));
        let highest = pair.highest;
        if seen.backfilled {
            self.counts.backfilled += 1;
            if !seen.announced {
                let (conv, cseq) = (seen.conv, seen.cseq);
                self.row(Row::Backfill { n, device, conv, cseq, at_ns });
                if self.filled.len() < FILLED_MAX {
                    self.filled.insert((device, conv, cseq));
                }
            }
        } else if cseq <= highest || noted == Noted::Again {
            let highest = u64::from(highest);
            self.row(Row::Disorder { n, device, conv: seen.conv, cseq: seen.cseq, highest, at_ns });
        } else {
            pair.highest = cseq;
        }
    }

    fn note_activity(&mut self, device: Device, at_ns: u64) {
        let Some(state) = self.devices.get(device as usize) else { return };
        let Some(node) = self.nodes.get_mut(usize::from(state.node)) else { return };
        let step = usize::try_from(at_ns / ACTIVITY_NS).unwrap_or(usize::MAX);
        if step >= node.surfaced.len() {
            if step >= ACTIVITY_MAX {
                return;
            }
            node.surfaced.resize(step + 1, 0);
        }
        node.surfaced[step] = node.surfaced[step].saturating_add(1);
    }

    /// A device got an item again on the wire and discarded it. What it had fetched from history before, because the relay kept
    /// it waiting, is no repetition by the relay.
    pub fn wire_duplicate(
        &mut self,
        device: Device,
        conv: ConvId,
        cseq: u64,
        across_epochs: bool,
        at_ns: u64,
    ) {
        self.counts.wire_duplicates += 1;
        if self.filled.remove(&(device, conv, cseq)) {
            self.row(Row::Brought { device, conv, cseq, at_ns });
        } else if !across_epochs {
            self.counts.wire_duplicates_same_epoch += 1;
        }
        if let Some(state) = self.devices.get_mut(device as usize) {
            state.wire_duplicates = state.wire_duplicates.saturating_add(1);
        }
    }

    /// A device discarded a frame of an older connection of its own: legal, since sockets and proxies hold bytes back.
    pub fn old_epoch_discarded(&mut self) {
        self.counts.old_epoch_discarded += 1;
    }

    /// The queue position jumped without a named skip.
    pub fn dseq_hole(
        &mut self,
        device: Device,
        conn_epoch: u64,
        expected: u64,
        got: u64,
        at_ns: u64,
    ) {
        self.row(Row::DseqHole { device, conn_epoch, expected, got, at_ns });
    }

    /// A sender's `delivered` receipt came.
    pub fn receipt(&mut self) {
        self.counts.receipts += 1;
    }
}
