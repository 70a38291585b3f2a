//! The one value a proxy obeys; replaced as a whole, never changed in place.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;

use crate::accept::AcceptRule;
use crate::toxic::{TOXICITY_ALL, Toxic, ToxicKind};

/// Longest delay, timeout or period a rule may name.
pub const DELAY_MAX: Duration = Duration::from_mins(10);

/// Most toxics and most accept rules one proxy takes.
pub const RULES_MAX: usize = 64;

/// What a proxy does with its listener, its new connections and the bytes it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `false`: the listener is closed and every connection is cut with a reset.
    pub enabled: bool,
    /// Tried in order on each new connection; the first that applies decides, and none means open.
    pub accept: Vec<AcceptRule>,
    /// Toxics in force; latencies that hit the same pipe add up.
    pub toxics: Vec<Toxic>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::neutral()
    }
}

impl Rules {
    /// Everything passes, nothing is delayed.
    pub fn neutral() -> Rules {
        Rules { enabled: true, accept: Vec::new(), toxics: Vec::new() }
    }

    /// Nothing passes: the listener is closed.
    pub fn down() -> Rules {
        Rules { enabled: false, ..Rules::neutral() }
    }

    /// Neutral but for one toxic.
    pub fn with(toxic: Toxic) -> Rules {
        Rules { toxics: vec![toxic], ..Rules::neutral() }
    }

    /// Adds a toxic, in place of one of the same name.
    pub fn put_toxic(&mut self, toxic: Toxic) {
        self.remove_toxic(&toxic.name);
        self.toxics.push(toxic);
    }

    /// Removes a toxic by name; `false` where there was none.
    pub fn remove_toxic(&mut self, name: &str) -> bool {
        let before = self.toxics.len();
        self.toxics.retain(|toxic| &*toxic.name != name);
        self.toxics.len() < before
    }

    /// Adds an accept rule behind those that stand, in place of one of the same name.
    pub fn put_accept(&mut self, rule: AcceptRule) {
        self.remove_accept(&rule.name);
        self.accept.push(rule);
    }

    /// Removes an accept rule by name; `false` where there was none.
    pub fn remove_accept(&mut self, name: &str) -> bool {
        let before = self.accept.len();
        self.accept.retain(|rule| &*rule.name != name);
        self.accept.len() < before
    }

    /// Checks limits and names.
    pub fn check(&self) -> Result<(), RuleError> {
        if RULES_MAX < self.toxics.len() || RULES_MAX < self.accept.len() {
            return Err(RuleError::TooMany);
        }
        let mut names = BTreeSet::new();
        for name in self
            .toxics
            .iter()
            .map(|toxic| &toxic.name)
            .chain(self.accept.iter().map(|rule| &rule.name))
        {
            if !names.insert(name) {
                return Err(RuleError::NameTaken { name: String::from(&**name) });
            }
        }
        for toxic in &self.toxics {
            if TOXICITY_ALL < toxic.toxicity_permille {
                return Err(RuleError::Share { name: String::from(&*toxic.name) });
            }
            let longest = match &toxic.kind {
                ToxicKind::Latency(latency) => latency.latency.max(latency.jitter),
                ToxicKind::ResetPeer(reset) => reset.timeout,
                ToxicKind::Stall(_) => Duration::ZERO,
            };
            check_delay(&toxic.name, longest)?;
        }
        for rule in &self.accept {
            if rule.when.share_permille().is_some_and(|share| TOXICITY_ALL < share) {
                return Err(RuleError::Share { name: String::from(&*rule.name) });
            }
            check_delay(&rule.name, rule.longest())?;
        }
        Ok(())
    }
}

fn check_delay(name: &str, longest: Duration) -> Result<(), RuleError> {
    if DELAY_MAX < longest { Err(RuleError::TooLong { name: String::from(name) }) } else { Ok(()) }
}

/// Why a rules value was not taken. The rules in force stay.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    /// Two toxics or accept rules share a name.
    #[error("rule name `{name}` is used twice")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A time is above [`DELAY_MAX`].
    #[error("a time of rule `{name}` is longer than {} s", DELAY_MAX.as_secs())]
    TooLong {
        /// Name of the rule.
        name: String,
    },
    /// A share is above 1,000 per mille.
    #[error("the share of rule `{name}` is above 1000 per mille")]
    Share {
        /// Name of the rule.
        name: String,
    },
    /// More than [`RULES_MAX`] toxics or accept rules.
    #[error("more than {RULES_MAX} toxics or accept rules on one proxy")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toxic::{Latency, Stall};

    fn stall(name: &str) -> Toxic {
        Toxic::new(name, ToxicKind::Stall(Stall::default()))
    }

    #[test]
    fn toxics_come_and_go_by_name() {
        let mut rules = Rules::with(stall("a"));
        rules.put_toxic(stall("b"));
        rules.put_toxic(Toxic::new("a", ToxicKind::Latency(Latency::default())));
        assert_eq!(rules.toxics.len(), 2);
        assert!(rules.remove_toxic("a"));
        assert!(!rules.remove_toxic("a"));
        assert_eq!(rules.toxics, vec![stall("b")]);
    }

    #[test]
    fn impossible_rules_are_refused_by_name() {
        let check = |rules: Rules| rules.check().unwrap_err();
        let twice = Rules { toxics: vec![stall("a"), stall("a")], ..Rules::neutral() };
        assert_eq!(check(twice), RuleError::NameTaken { name: String::from("a") });
        let long = Latency::fixed(DELAY_MAX + Duration::from_millis(1));
        let too_long = Rules::with(Toxic::new("slow", ToxicKind::Latency(long)));
        assert_eq!(check(too_long), RuleError::TooLong { name: String::from("slow") });
        assert_eq!(
            check(Rules::with(stall("s").toxicity(1_001))),
            RuleError::Share { name: String::from("s") }
        );
        let many = (0..=RULES_MAX).map(|k| stall(&k.to_string())).collect();
        assert_eq!(check(Rules { toxics: many, ..Rules::neutral() }), RuleError::TooMany);
    }
}
