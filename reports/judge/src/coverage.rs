//! Conditions that should be reached sometimes: a run that never met them tested less than it seems.
use std::collections::{BTreeMap, BTreeSet};

use storm_record::facts::{Mark, SystemWhat};

use crate::case::Case;
use crate::report::Condition;

/// Counters of conditions begin with this.
const PREFIX: &str = "sometimes.";

/// Every condition that was promised or reached.
pub fn conditions(case: &Case<'_>) -> Vec<Condition> {
    let facts = &case.record.facts;
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    for list in &facts.counters {
        for (name, value) in &list.counters {
            if let Some(name) = name.strip_prefix(PREFIX) {
                let known = reached.entry(name.to_owned()).or_default();
                *known = (*known).max(*value);
            }
        }
    }
    for mark in &facts.marks {
        if let Mark::Sometimes { name, .. } = mark {
            *reached.entry(name.clone()).or_default() += 1;
        }
    }
    let swept =
        facts.system.iter().filter(|fact| matches!(fact.what, SystemWhat::RouteSwept(_))).count()
            as u64;
    let counts = case.record.ledger.counts();
    for (name, seen) in [
        ("stale-route-swept", swept),
        ("duplicate-retry-answered", counts.answered_again),
        ("resume-rebased", counts.resume_rebased),
        ("resume-gap", counts.resume_gap),
    ] {
        let known = reached.entry(name.to_owned()).or_default();
        *known = (*known).max(seen);
    }
    let promised: BTreeSet<&String> = case.record.promises.sometimes.iter().collect();
    let names: BTreeSet<String> =
        reached.keys().cloned().chain(promised.iter().map(|name| (*name).clone())).collect();
    names
        .into_iter()
        .map(|name| Condition {
            reached: reached.get(&name).copied().unwrap_or(0),
            promised: promised.contains(&name),
            name,
        })
        .filter(|condition| condition.promised || condition.reached > 0)
        .collect()
}
