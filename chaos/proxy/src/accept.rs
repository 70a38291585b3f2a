//! Accept rules: what happens to a new connection before any byte of it is carried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::dice::DiceKey;
use crate::toxic::Targets;

/// Most devices whose dials are numbered; beyond it a device's dials all count as its first.
const DIALLERS_MAX: usize = 65_536;

/// What an accept rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptAct {
    /// Carried as usual; in front of other rules it exempts its targets.
    Open,
    /// Reset at once. (For connections refused by the kernel, disable the proxy.)
    Refuse,
    /// Accepted and never answered, upstream is not dialled; what the client writes is discarded, and the connection is closed when the
    /// rule goes.
    Silent,
    /// Accepted, then closed without a word; a client that has written by then sees a reset.
    AcceptThenClose {
        /// Time from acceptance to close.
        after: Duration,
    },
}

/// How often an accept rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// To every connection.
    Always,
    /// To the first so many, counted from the rule's coming; later ones pass it by.
    First(u64),
    /// To this share, per mille, drawn a connection.
    Share(u16),
    /// During `on`, then not during `off`, and so on, from the rule's coming.
    Period {
        /// Time it applies.
        on: Duration,
        /// Time it does not.
        off: Duration,
    },
}

impl When {
    pub(crate) fn share_permille(self) -> Option<u16> {
        match self {
            When::Share(share) => Some(share),
            When::Always | When::First(_) | When::Period { .. } => None,
        }
    }
}

/// One accept rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptRule {
    /// Name, unique within the rules of a proxy.
    pub name: Arc<str>,
    /// What it does.
    pub act: AcceptAct,
    /// Connections it is aimed at. A connection's ordinal is not known in advance, so `All` or devices.
    pub targets: Targets,
    /// How often it applies.
    pub when: When,
}

impl AcceptRule {
    /// A rule that always applies to every connection.
    pub fn new(name: impl Into<Arc<str>>, act: AcceptAct) -> AcceptRule {
        AcceptRule { name: name.into(), act, targets: Targets::All, when: When::Always }
    }

    /// The same rule, applied so often.
    #[must_use]
    pub fn when(mut self, when: When) -> AcceptRule {
        self.when = when;
        self
    }

    /// The same rule aimed at these connections.
    #[must_use]
    pub fn aimed_at(mut self, targets: Targets) -> AcceptRule {
        self.targets = targets;
        self
    }

    pub(crate) fn longest(&self) -> Duration {
        let own = if let AcceptAct::AcceptThenClose { after } = self.act {
            after
        } else {
            Duration::ZERO
        };
        if let When::Period { on, off } = self.when { own.max(on).max(off) } else { own }
    }
}

/// What a proxy remembers about its accept rules and its diallers.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    rules: BTreeMap<Arc<str>, Memory>,
    dials: BTreeMap<u64, u32>,
}

#[derive(Debug)]
struct Memory {
    since: Instant,
    applied: u64,
}

impl Gate {
    /// The number of this dial of a device, from 0.
    pub(crate) fn number_dial(&mut self, device: u64) -> u32 {
        if DIALLERS_MAX <= self.dials.len() && !self.dials.contains_key(&device) {
            return 0;
        }
        let next = self.dials.entry(device).or_default();
        let dial = *next;
        *next = next.saturating_add(1);
        dial
    }

    /// Starts the memory of rules that came and drops that of rules that went.
    pub(crate) fn follow(&mut self, rules: &[AcceptRule], now: Instant) {
        self.rules.retain(|name, _| rules.iter().any(|rule| rule.name == *name));
        for rule in rules {
            self.rules.entry(Arc::clone(&rule.name)).or_insert(Memory { since: now, applied: 0 });
        }
    }

    /// The rule that decides about this connection, if any; counts it.
    pub(crate) fn decide<'a>(
        &mut self,
        rules: &'a [AcceptRule],
        ordinal: u64,
        device: Option<u64>,
        key: &DiceKey,
        now: Instant,
    ) -> Option<&'a AcceptRule> {
        self.follow(rules, now);
        rules
            .iter()
            .find(|rule| rule.targets.contains(ordinal, device) && self.applies(rule, key, now))
    }

    fn applies(&mut self, rule: &AcceptRule, key: &DiceKey, now: Instant) -> bool {
        let memory = self.rules.get_mut(&rule.name).expect("decide follows the rules first");
        let applies = match rule.when {
            When::Always => true,
            When::First(n) => memory.applied < n,
            When::Share(permille) => key.permille(&rule.name) < permille,
            When::Period { on, off } => {
                let cycle = (on + off).as_nanos().max(1);
                now.saturating_duration_since(memory.since).as_nanos() % cycle < on.as_nanos()
            }
        };
        memory.applied += u64::from(applies);
        applies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(gate: &mut Gate, rules: &[AcceptRule], device: u64, now: Instant) -> bool {
        let key = DiceKey::of_device(3, "p", device, 0);
        gate.decide(rules, 1, Some(device), &key, now).is_some()
    }

    #[test]
    fn first_two_are_refused_and_the_count_starts_anew_with_the_rule() {
        let now = Instant::now();
        let rules = [AcceptRule::new("drop", AcceptAct::Refuse).when(When::First(2))];
        let mut gate = Gate::default();
        let seen: Vec<bool> = (0..4).map(|_| decided(&mut gate, &rules, 9, now)).collect();
        assert_eq!(seen, [true, true, false, false]);
        gate.follow(&[], now);
        assert!(decided(&mut gate, &rules, 9, now));
    }

    #[test]
    fn a_period_applies_in_its_on_part_only() {
        let start = Instant::now();
        let period = When::Period { on: Duration::from_secs(2), off: Duration::from_secs(3) };
        let rules = [AcceptRule::new("flap", AcceptAct::Silent).when(period)];
        let mut gate = Gate::default();
        let seen: Vec<bool> = [0, 1, 2, 4, 5, 6, 7]
            .into_iter()
            .map(|at| decided(&mut gate, &rules, 9, start + Duration::from_secs(at)))
            .collect();
        assert_eq!(seen, [true, true, false, false, true, true, false]);
    }

    #[test]
    fn a_share_picks_the_same_devices_each_time_and_about_as_many_as_asked() {
        let now = Instant::now();
        let rules = [AcceptRule::new("some", AcceptAct::Refuse).when(When::Share(300))];
        let pick = || -> Vec<u64> {
            let mut gate = Gate::default();
            (0..1_000).filter(|device| decided(&mut gate, &rules, *device, now)).collect()
        };
        assert_eq!(pick(), pick());
        assert!((250..350).contains(&pick().len()), "{}", pick().len());
    }

    #[test]
    fn an_open_rule_in_front_exempts_its_devices() {
        let now = Instant::now();
        let open = AcceptRule::new("keep", AcceptAct::Open).aimed_at(Targets::devices([7]));
        let rules = [open, AcceptRule::new("rest", AcceptAct::Refuse)];
        let key = DiceKey::of_ordinal(1, "p", 1);
        let mut gate = Gate::default();
        let mut act =
            |device| gate.decide(&rules, 1, device, &key, now).map(|rule| rule.act.clone());
        assert_eq!(act(Some(7)), Some(AcceptAct::Open));
        assert_eq!(act(None), Some(AcceptAct::Refuse));
    }

    #[test]
    fn dials_of_a_device_are_numbered() {
        let mut gate = Gate::default();
        assert_eq!([gate.number_dial(5), gate.number_dial(5), gate.number_dial(6)], [0, 1, 0]);
    }
}
