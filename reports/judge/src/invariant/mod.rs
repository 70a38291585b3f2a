//! The invariants, a file each. Safety convicts whatever else happened; the others need a generator that kept its schedule.
mod a1;
mod a2;
mod a3;
mod b1;
mod b2;
mod b3;
mod b4;
mod h1;
mod m1;
mod m10;
mod m2;
mod m3;
mod m4;
mod m5;
mod m6;
mod m7;
mod m9;
mod q1;
mod s1;
mod s2;
mod s3;
mod z1;
mod z2;
mod z3;
mod z4;

pub(crate) use a2::recovered_of;
pub(crate) use b2::synchrony_of;
pub(crate) use z2::detected_ns;

use crate::case::Case;
use crate::finding::Finding;

/// What kind of check it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Convicts whatever else happened.
    Safety,
    /// Counts only when the generator kept its schedule.
    Conduct,
    /// Validity: inconclusive, never Fail.
    Validity,
}

/// One invariant or validity check.
pub struct Invariant {
    /// Its name.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it demands.
    pub demands: &'static str,
    /// Kind.
    pub class: Class,
    /// *Sometimes*-conditions without which a pass is weak.
    pub wants: &'static [&'static str],
    check: fn(&Case<'_>, Finding) -> Finding,
}

impl Invariant {
    /// Judges a case.
    pub fn judge(&self, case: &Case<'_>) -> Finding {
        (self.check)(case, Finding::new(self.id, self.demands))
    }
}

macro_rules! table {
    ($($id:literal $title:literal $class:ident $module:ident $wants:expr, $demands:literal;)*) => {
        /// All of them, in report order.
        pub const ALL: &[Invariant] = &[$(Invariant {
            id: $id, title: $title, demands: $demands, class: Class::$class, wants: $wants, check: $module::check,
        }),*];
    };
}

table! {
    "M1" "no accepted message is lost" Safety m1 &[], "every accepted message surfaces on every planned device by the end of the drain";
    "M2" "no phantom, no leak" Safety m2 &[], "what surfaces was sent, is unchanged, and is on a planned recipient's device";
    "M3" "refused means gone" Safety m3 &[], "a definitely refused message never surfaces";
    "M4" "effectively once" Safety m4 &["duplicate-retry-answered"], "a device surfaces a message at most once, and every retry gets the first answer";
    "M5" "order" Safety m5 &[], "`cseq` rises on every device outside flagged back-fill, without a hole at the end";
    "M6" "agreement" Safety m6 &["start-from-snapshot"], "all devices, answers and readers of the log agree where a message stands";
    "M7" "sender order" Safety m7 &[], "a device's messages of a conversation stand in the order it sent them";
    "M9" "the relay is exact" Safety m9 &[], "what is owed comes through the relay without a gap in `dseq`; a loss is announced and has a cause";
    "M10" "history equals delivery" Safety m10 &[], "what was accepted is readable in history, and nothing else is";
    "S1" "one live connection on a leased node" Safety s1 &[], "nothing surfaces under an older connection epoch, and no frame comes from a node whose lease ended";
    "S2" "stale routes are bounded" Conduct s2 &["stale-route-swept"], "the route of a gone connection is gone within its bound";
    "S3" "a connected device is routed" Conduct s3 &[], "a connected device has a route within its bound";
    "H1" "silence is found in time" Conduct h1 &[], "a silent link is found within its bounds, and a living one is never taken for silent";
    "B1" "backoff envelope" Conduct b1 &[], "every attempt starts within the delay its policy declares, and delays are drawn over all of it";
    "B2" "jitter is there" Conduct b2 &[], "the synchrony index of attempts after a common cut is at most 4";
    "B3" "backoff resets after a stable session only" Safety b3 &[], "the attempt index falls only after a stable session or where the server dictates a window";
    "B4" "hints are obeyed" Safety b4 &[], "attempts respect `retry_after`, drain windows and terminal codes";
    "A1" "no amplification" Conduct a1 &[], "operations and bytes a delivery, and attempts a send, stay within 1.5 times the control run";
    "A2" "no hysteresis" Conduct a2 &[], "under unchanged load the system is back to its control run in time and stays there";
    "A3" "bounded and explicit" Safety a3 &[], "every gauge stays within its declared limit, and refused work carries a code and a hint";
    "Q1" "progress" Conduct q1 &[], "once healed, nothing waits longer than the send deadline";
    "Z1" "the generator kept its schedule" Validity z1 &[], "the guards of the generator hold";
    "Z2" "every fault and healing is witnessed" Validity z2 &[], "counters show each fault biting and gone";
    "Z3" "nothing is left behind" Validity z3 &[], "every fault is healed and every observer still looked at the end";
    "Z4" "one monotonic clock" Validity z4 &[], "no time difference is negative";
}

/// Finds an invariant by name.
pub fn find(id: &str) -> Option<&'static Invariant> {
    ALL.iter().find(|invariant| invariant.id == id)
}
