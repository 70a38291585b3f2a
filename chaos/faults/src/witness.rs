//! Evidence that a fault bites or is gone, and the rule by which readings of counters become a witness.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A fault whose last bite is older than this has lapsed, unless its kind bites more rarely.
pub const LAPSE: Duration = Duration::from_secs(3);

/// One counter that had to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Name of the counter.
    pub counter: String,
    /// Its value before the act.
    pub before: u64,
    /// Its value now.
    pub after: u64,
    /// By how much it had to rise; 0 where it is noted only.
    pub required: u64,
}

impl Evidence {
    pub(crate) fn new(counter: &str, before: u64, after: u64, required: u64) -> Evidence {
        Evidence { counter: String::from(counter), before, after, required }
    }

    /// Whether the counter rose as much as it had to.
    pub fn holds(&self) -> bool {
        self.required <= self.after.saturating_sub(self.before)
    }
}

/// Counters of devices and of their links; all others count nodes, calls, records or time.
pub(crate) const OF_DEVICES: &[&str] = &[
    "closed_1012",
    "connections_cut",
    "connections_held",
    "connections_shed",
    "devices_cut",
    "devices_told",
    "links_holding",
    "links_silent",
    "links_stalled",
    "queues_lost",
    "routes_lost",
];

/// Whether a counter grows with the number of devices, so that what is asked of it shrinks with a smaller population.
pub fn counts_devices(counter: &str) -> bool {
    OF_DEVICES.contains(&counter)
}

/// What the counters say about a fault that was injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witness {
    /// Every counter moved as it must.
    Bites(Vec<Evidence>),
    /// It bit, and does no more.
    Lapsed {
        /// When it was last seen to bite.
        since: Instant,
        /// The counters now.
        evidence: Vec<Evidence>,
    },
    /// It has not bitten so far.
    Missed(Vec<Evidence>),
}

impl Witness {
    /// Whether the fault bites.
    pub fn bites(&self) -> bool {
        matches!(self, Witness::Bites(_))
    }

    /// The counters behind it.
    pub fn evidence(&self) -> &[Evidence] {
        match self {
            Witness::Bites(evidence)
            | Witness::Lapsed { evidence, .. }
            | Witness::Missed(evidence) => evidence,
        }
    }
}

/// How long a reading counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Happened once: counts for ever.
    Once,
    /// A state: counts as long as it is seen.
    Stands,
    /// Has to go on rising under traffic: counts from its last rise.
    Flows,
    /// Reported, never required.
    Noted,
}

/// A counter as a fault reads it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) evidence: Evidence,
    pub(crate) kind: Kind,
}

impl Reading {
    pub(crate) fn once(counter: &str, before: u64, after: u64, required: u64) -> Reading {
        Reading { evidence: Evidence::new(counter, before, after, required), kind: Kind::Once }
    }

    pub(crate) fn stands(counter: &str, before: u64, after: u64, required: u64) -> Reading {
        Reading { evidence: Evidence::new(counter, before, after, required), kind: Kind::Stands }
    }

    pub(crate) fn flows(counter: &str, before: u64, after: u64, required: u64) -> Reading {
        Reading { evidence: Evidence::new(counter, before, after, required), kind: Kind::Flows }
    }

    pub(crate) fn noted(counter: &str, before: u64, after: u64) -> Reading {
        Reading { evidence: Evidence::new(counter, before, after, 0), kind: Kind::Noted }
    }
}

/// Remembers when each counter of one fault was last seen to hold.
#[derive(Debug)]
pub(crate) struct Tally {
    lapse: Duration,
    /// Minima that the step asks for, in place of the fault's own.
    at_least: BTreeMap<String, u64>,
    seen: BTreeMap<String, Seen>,
    evidence: Vec<Evidence>,
    /// When every counter last held together.
    last_bite: Option<Instant>,
}

#[derive(Debug, Default)]
struct Seen {
    highest: Option<Evidence>,
    last_value: u64,
    held_at: Option<Instant>,
}

impl Tally {
    pub(crate) fn new(lapse: Duration, at_least: BTreeMap<String, u64>) -> Tally {
        Tally { lapse, at_least, seen: BTreeMap::new(), evidence: Vec::new(), last_bite: None }
    }

    /// Takes in one set of readings; they are of one moment.
    pub(crate) fn take(&mut self, now: Instant, readings: Vec<Reading>) {
        let mut bite = Some(now);
        let mut required = 0_usize;
        self.evidence.clear();
        for Reading { mut evidence, mut kind } in readings {
            if let Some(minimum) = self.at_least.get(&evidence.counter) {
                evidence.required = *minimum;
                // What was only noted is now asked for, and has then to be seen once.
                kind = if kind == Kind::Noted { Kind::Once } else { kind };
            }
            let seen = self.seen.entry(evidence.counter.clone()).or_default();
            let evidence = seen.take(now, evidence, kind);
            if kind != Kind::Noted {
                required += 1;
                bite = bite.zip(seen.held_at).map(|(all, this)| all.min(this));
            }
            self.evidence.push(evidence);
        }
        for (name, minimum) in &self.at_least {
            if !self.evidence.iter().any(|read| read.counter == *name) {
                // What the step asks for and these targets do not count was not seen.
                self.evidence.push(Evidence::new(name, 0, 0, *minimum));
                bite = None;
            }
        }
        if 0 < required {
            self.last_bite = self.last_bite.max(bite);
        }
    }

    /// What follows from everything taken in.
    pub(crate) fn witness(&self, now: Instant) -> Witness {
        let evidence = self.evidence.clone();
        match self.last_bite {
            None => Witness::Missed(evidence),
            Some(at) if now.saturating_duration_since(at) <= self.lapse => Witness::Bites(evidence),
            Some(since) => Witness::Lapsed { since, evidence },
        }
    }

    /// Whether every counter holds at this moment.
    pub(crate) fn fresh(&self, now: Instant) -> bool {
        self.witness(now).bites()
    }
}

impl Seen {
    /// Notes one reading; returns what to report, which for an event is the most that was seen.
    fn take(&mut self, now: Instant, evidence: Evidence, kind: Kind) -> Evidence {
        let rose = self.last_value.max(evidence.before) < evidence.after;
        self.last_value = evidence.after;
        let holds = evidence.holds();
        let (counts, reported) = match kind {
            Kind::Once => {
                let highest = match self.highest.take() {
                    Some(highest) if evidence.after < highest.after => {
                        Evidence { after: highest.after, ..evidence }
                    }
                    _ => evidence,
                };
                self.highest = Some(highest.clone());
                (highest.holds(), highest)
            }
            Kind::Stands => (holds, evidence),
            Kind::Flows => (holds && rose, evidence),
            Kind::Noted => (false, evidence),
        };
        if counts {
            self.held_at = Some(now);
        }
        reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tally() -> Tally {
        Tally::new(LAPSE, BTreeMap::new())
    }

    #[test]
    fn nothing_read_is_missed() {
        let mut tally = tally();
        tally.take(Instant::now(), Vec::new());
        assert!(matches!(tally.witness(Instant::now()), Witness::Missed(_)));
        tally.take(Instant::now(), vec![Reading::noted("spread_ms", 0, 12)]);
        assert!(!tally.witness(Instant::now()).bites(), "noting is no evidence");
    }

    #[test]
    fn every_required_counter_has_to_hold() {
        let (mut tally, now) = (tally(), Instant::now());
        let gone = Reading::stands("unit_gone", 0, 1, 1);
        tally.take(now, vec![gone.clone(), Reading::once("connections_cut", 0, 0, 1)]);
        assert!(matches!(tally.witness(now), Witness::Missed(_)));
        tally.take(now, vec![gone, Reading::once("connections_cut", 0, 5, 1)]);
        assert!(tally.witness(now).bites());
    }

    #[test]
    fn an_event_counts_for_ever_and_its_highest_value_is_reported() {
        let (mut tally, now) = (tally(), Instant::now());
        tally.take(now, vec![Reading::once("resets", 0, 9, 5)]);
        let later = now + SECOND * 60;
        tally.take(later, vec![Reading::once("resets", 0, 2, 5)]);
        let witness = tally.witness(later);
        assert!(witness.bites());
        assert_eq!(witness.evidence()[0].after, 9);
    }

    #[test]
    fn a_state_that_ends_lapses_after_three_seconds() {
        let (mut tally, now) = (tally(), Instant::now());
        tally.take(now, vec![Reading::stands("rule", 0, 1, 1)]);
        tally.take(now + SECOND * 3, vec![Reading::stands("rule", 0, 0, 1)]);
        assert!(tally.witness(now + SECOND * 3).bites());
        let late = now + SECOND * 4;
        tally.take(late, vec![Reading::stands("rule", 0, 0, 1)]);
        assert!(matches!(tally.witness(late), Witness::Lapsed { since, .. } if since == now));
    }

    #[test]
    fn a_flow_has_to_go_on() {
        let (mut tally, now) = (tally(), Instant::now());
        for (at, hits, bites) in
            [(0, 7, false), (1, 8, true), (3, 8, true), (5, 8, false), (6, 9, true)]
        {
            tally.take(now + SECOND * at, vec![Reading::flows("hits", 7, hits, 1)]);
            assert_eq!(tally.witness(now + SECOND * at).bites(), bites, "at {at} s");
        }
    }

    #[test]
    fn a_step_may_ask_for_more_than_the_fault_does() {
        let at_least = BTreeMap::from([(String::from("connections_cut"), 1_000)]);
        let (mut tally, now) = (Tally::new(LAPSE, at_least), Instant::now());
        tally.take(now, vec![Reading::once("connections_cut", 0, 999, 1)]);
        assert!(!tally.witness(now).bites());
        tally.take(now, vec![Reading::once("connections_cut", 0, 1_000, 1)]);
        assert!(tally.witness(now).bites());
    }

    #[test]
    fn what_a_step_asks_for_and_nobody_counts_was_not_seen() {
        let at_least = BTreeMap::from([(String::from("work_moved"), 1)]);
        let (mut tally, now) = (Tally::new(LAPSE, at_least), Instant::now());
        tally.take(now, vec![Reading::stands("unit_gone", 0, 1, 1)]);
        let Witness::Missed(evidence) = tally.witness(now) else { panic!("it was not counted") };
        assert_eq!(evidence[1], Evidence::new("work_moved", 0, 0, 1));
    }
}
