//! M6: agreement of devices, answers and readers of the log.
use std::collections::BTreeMap;

use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let ledger = &case.record.ledger;
    let facts = &case.record.facts;
    let mut finding = finding;
    for row in &ledger.rows {
        if let Row::Disagreement { n, device, first, later, at_ns } = row {
            finding.violation(|| {
                let what = format!(
                    "stands at cseq {} with mid {} for one observer and at cseq {} with mid {} for another",
                    first.cseq, first.mid, later.cseq, later.mid
                );
                case.slice_of_number(what, *n, Some(*device), *at_ns)
            });
        }
    }
    finding.violations(
        ledger.counts().disagreement.saturating_sub(finding.violations),
        "disagreements beyond the rows kept",
    );
    // Two devices that saw a conversation up to the same place without a hole must have seen the same.
    let mut by_place: BTreeMap<(u32, u32, u32), (u64, u32)> = BTreeMap::new();
    let mut compared = 0;
    for row in ledger.pairs().sorted() {
        if row.device >= case.world.people().devices() || row.pair.window != 0 || row.pair.low == 0
        {
            continue;
        }
        let user = case.world.user_of(row.device);
        let place = (user.min(row.peer), user.max(row.peer), row.pair.low);
        match by_place.get(&place) {
            None => {
                by_place.insert(place, (row.pair.digest(), row.device));
            }
            Some((digest, first)) => {
                compared += 1;
                if *digest != row.pair.digest() {
                    let first = case.world.name(*first);
                    finding.violation(|| {
                        let what = format!(
                            "saw other messages with user {} than {first} up to cseq {}",
                            row.peer, place.2
                        );
                        case.violation(what, Some(row.device), None)
                    });
                }
            }
        }
    }
    for ((group, partition, offset), seen) in &facts.folds {
        compared += 1;
        if seen.iter().any(|(_, digest)| *digest != seen[0].1) {
            finding.violation(|| {
                let nodes: Vec<&str> = seen.iter().map(|(node, _)| node.as_str()).collect();
                let what = format!(
                    "folds of {group} differ at offset {offset} of partition {partition}: {}",
                    nodes.join(", ")
                );
                case.violation(what, None, None)
            });
        }
    }
    // Both groups read the same log.
    let mut folds: BTreeMap<(u32, u64), (u64, &str)> = BTreeMap::new();
    for ((group, partition, offset), seen) in &facts.folds {
        let Some((_, digest)) = seen.first() else { continue };
        match folds.get(&(*partition, *offset)) {
            None => {
                folds.insert((*partition, *offset), (*digest, group));
            }
            Some((other, by)) if other != digest => finding.violation(|| {
                let what = format!(
                    "folds of {by} and {group} differ at offset {offset} of partition {partition}"
                );
                case.violation(what, None, None)
            }),
            Some(_) => {}
        }
    }
    finding.cases(compared).closed()
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};

    #[test]
    fn a_device_that_saw_something_else_is_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        kit.record.ledger.pairs_mut().entry(seen.device, seen.peer).add_digest(1);
        judged(&kit).only_fails("M6");
    }

    #[test]
    fn two_folds_that_differ_are_convicted() {
        let mut kit = Kit::clean();
        let at = ("sequencer".to_owned(), 0, 64);
        kit.record
            .facts
            .folds
            .insert(at, vec![("services-1".to_owned(), 1), ("services-2".to_owned(), 2)]);
        judged(&kit).only_fails("M6");
    }
}
