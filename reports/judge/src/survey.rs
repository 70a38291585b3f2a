//! One pass over all message numbers: what was promised against what was seen.
use std::collections::BTreeMap;

use storm_record::Device;
use storm_record::facts::Facts;
use storm_record::ledger::{Ledger, Outcome};

use crate::finding::SHOWN;
use crate::world::{Planned, World};

/// Messages of one kind: how many, and the first ones.
#[derive(Clone, Debug, Default)]
pub struct Some10 {
    /// How many.
    pub count: u64,
    /// The first, each with a mask of slots.
    pub first: Vec<(Planned, u32)>,
}

impl Some10 {
    fn add(&mut self, planned: Planned, slots: u32) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push((planned, slots));
        }
    }
}

/// What the pass found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Messages planned in windows that began.
    pub planned: u64,
    /// Written.
    pub submitted: u64,
    /// Answered by `sent`.
    pub accepted: u64,
    /// Definitely refused.
    pub rejected: u64,
    /// Without answer, those still open at the end included.
    pub unknown: u64,
    /// Deliveries owed by accepted messages.
    pub owed: u64,
    /// Deliveries seen.
    pub delivered: u64,
    /// Deliveries owed and not seen, each on one device.
    pub lost_slots: u64,
    /// Accepted messages that a device never showed.
    pub lost: Some10,
    /// Messages that surfaced and were never written.
    pub phantom: Some10,
    /// Messages that surfaced in a slot the plan does not have.
    pub leaked: Some10,
    /// Messages definitely refused that surfaced.
    pub refused: Some10,
    /// Unknown sends by (sending device, other user).
    pub unknown_of: BTreeMap<(Device, u32), u32>,
}

impl Survey {
    /// Walks over the planned world.
    pub fn of(world: &World, facts: &Facts, ledger: &Ledger) -> Self {
        let mut all = Self::default();
        for planned in world.planned(facts) {
            all.planned += 1;
            let n = planned.n;
            let (submitted, outcome, delivered) =
                (ledger.was_submitted(n), ledger.outcome(n), ledger.delivered(n));
            if !submitted && delivered == 0 && outcome == Outcome::Open {
                continue;
            }
            let must = world.must(&planned);
            all.submitted += u64::from(submitted);
            all.delivered += u64::from(delivered.count_ones());
            if delivered != 0 && !submitted {
                all.phantom.add(planned, delivered);
            }
            if delivered & !must != 0 {
                all.leaked.add(planned, delivered & !must);
            }
            match outcome {
                Outcome::Accepted => {
                    all.accepted += 1;
                    all.owed += u64::from(must.count_ones());
                    let missing = must & !delivered;
                    if missing != 0 {
                        all.lost_slots += u64::from(missing.count_ones());
                        all.lost.add(planned, missing);
                    }
                }
                Outcome::Rejected => {
                    all.rejected += 1;
                    if delivered != 0 {
                        all.refused.add(planned, delivered);
                    }
                }
                Outcome::Unknown | Outcome::Open if submitted => {
                    all.unknown += 1;
                    *all.unknown_of.entry((planned.sender, planned.to_user)).or_default() += 1;
                }
                Outcome::Unknown | Outcome::Open => {}
            }
        }
        all
    }

    /// Share of written messages without answer.
    pub fn unknown_share(&self) -> f64 {
        ratio(self.unknown, self.submitted)
    }
}

/// A share; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
