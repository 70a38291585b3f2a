//! Totals of a ledger.
use serde::{Deserialize, Serialize};

use super::row::Row;

macro_rules! totals {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// Totals since the start of the run, exact whatever the limits of the rows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct LedgerCounts {
            $($(#[$about])* pub $name: u64,)*
        }

        impl LedgerCounts {
            /// Adds the totals of another shard.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

totals! {
    /// Messages written at least once.
    submitted,
    /// Messages answered by `sent`.
    accepted,
    /// Messages definitely refused.
    rejected,
    /// Messages without answer.
    unknown,
    /// Intents never written.
    not_sent,
    /// Surfacings, second ones included.
    surfaced,
    /// First surfacings.
    delivered,
    /// First surfacings from history.
    backfilled,
    /// `sent` answers to a message that had one.
    answered_again,
    /// Items discarded as already known.
    wire_duplicates,
    /// Of these, within one connection epoch, and from the relay both times.
    wire_duplicates_same_epoch,
    /// Frames of an older connection that a device discarded.
    old_epoch_discarded,
    /// `delivered` receipts read by senders.
    receipts,
    /// Connection attempts.
    attempts,
    /// Connections that reached `welcome`.
    opened,
    /// Connections that ended.
    closed,
    /// Resumes without cursor.
    resume_new,
    /// Resumes that went on.
    resume_ok,
    /// Resumes with new numbers.
    resume_rebased,
    /// Resumes with an announced loss.
    resume_gap,
    /// Bodies that are no message of this run.
    phantom,
    /// Bodies that differ from the recomputed ones.
    corrupt,
    /// Messages on devices that are no recipients.
    stranger,
    /// Second surfacings.
    duplicate,
    /// Refused messages that surfaced.
    refused_surfaced,
    /// Retries answered otherwise.
    answer_changed,
    /// Differing opinions where a message stands.
    disagreement,
    /// Live deliveries out of order.
    disorder,
    /// Later sends before earlier ones.
    overtaken,
    /// Holes in queue positions.
    dseq_hole,
    /// Unannounced back-fills.
    unannounced,
    /// Surfacings under an older connection epoch.
    old_epoch,
    /// Refusals without code or hint.
    refused_bare,
    /// Rows that found no room.
    rows_dropped,
    // Records hold the totals by place, so new ones go last.
    /// Unannounced back-fills that the relay brought later.
    brought,
}

impl LedgerCounts {
    pub(crate) fn count_row(&mut self, row: &Row) {
        let count = match row {
            Row::Phantom { .. } => &mut self.phantom,
            Row::Corrupt { .. } => &mut self.corrupt,
            Row::Stranger { .. } => &mut self.stranger,
            Row::Duplicate { .. } => &mut self.duplicate,
            Row::RefusedSurfaced { .. } => &mut self.refused_surfaced,
            Row::AnswerChanged { .. } => &mut self.answer_changed,
            Row::Disagreement { .. } => &mut self.disagreement,
            Row::Disorder { .. } => &mut self.disorder,
            Row::Overtaken { .. } => &mut self.overtaken,
            Row::DseqHole { .. } => &mut self.dseq_hole,
            Row::Backfill { .. } => &mut self.unannounced,
            Row::Brought { .. } => &mut self.brought,
            Row::OldEpoch { .. } => &mut self.old_epoch,
            Row::RefusedBare { .. } => &mut self.refused_bare,
        };
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::frame::{pack, unpack};

    #[test]
    fn totals_of_an_older_record_stay_in_their_places() {
        let older: Vec<u64> = (1..=34).collect();
        let read: LedgerCounts = unpack(&pack(&older)).unwrap();
        let last = (read.unannounced, read.old_epoch, read.refused_bare, read.rows_dropped);
        assert_eq!(last, (31, 32, 33, 34));
        assert_eq!(read.brought, 0, "nobody counted it then");
    }
}
