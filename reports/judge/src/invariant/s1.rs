//! S1: one live connection a device, on a leased node.
use storm_record::facts::LeaseList;
use storm_record::ledger::ACTIVITY_NS;
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let ledger = &case.record.ledger;
    let counts = ledger.counts();
    let mut finding = finding.cases(counts.surfaced).basis(format!(
        "{} frames of older connections discarded by devices",
        counts.old_epoch_discarded
    ));
    for row in &ledger.rows {
        if let Row::OldEpoch { device, epoch, highest, at_ns } = row {
            finding.violation(|| {
                let what =
                    format!("surfaced under connection epoch {epoch} while {highest} was known");
                case.violation(what, Some(*device), Some(*at_ns))
            });
        }
    }
    finding.violations(
        counts.old_epoch.saturating_sub(finding.violations),
        "surfacings under old epochs beyond the rows kept",
    );
    for activity in ledger.nodes() {
        let leases = &case.record.facts.leases;
        for (from_ns, to_ns) in unleased(leases, &activity.node, case.bounds.lease_ns()) {
            let first = (from_ns + case.bounds.on_its_way_ns()).div_ceil(ACTIVITY_NS);
            let last = to_ns / ACTIVITY_NS;
            let steps = (first..last).filter_map(|step| {
                Some((step, activity.surfaced.get(usize::try_from(step).ok()?)?))
            });
            let sent: Vec<(u64, u32)> = steps
                .filter(|(_, count)| **count > 0)
                .map(|(step, count)| (step, *count))
                .collect();
            if let Some((step, _)) = sent.first() {
                let total: u64 = sent.iter().map(|(_, count)| u64::from(*count)).sum();
                finding.violation(|| {
                    let what = format!(
                        "{} delivered {total} messages without a lease, which had ended at {} ms",
                        activity.node,
                        from_ns / 1_000_000
                    );
                    case.violation(what, None, Some(step * ACTIVITY_NS))
                });
            }
        }
    }
    finding.closed()
}

/// Spans in which a node surely had no lease, up to the last look that showed none. A registry that still names a lease that is over
/// says when that was; one that forgot it proves only that there was none at the look itself, since the lease seen before may have
/// been renewed in between. Two looks without a lease are one span where the second one names an end before the first, or where they
/// are too close for a lease of `lease_ns` that came and went.
fn unleased(lists: &[LeaseList], node: &str, lease_ns: u64) -> Vec<(u64, u64)> {
    let mut spans = Vec::new();
    let mut leased_at = None;
    let mut bare: Option<(u64, u64)> = None;
    for list in lists {
        let at = list.at_ns;
        let left =
            list.leases.iter().filter(|lease| lease.node == node).map(|lease| lease.left_ms).max();
        if left.is_some_and(|left| left > 0) {
            spans.extend(bare.take());
            leased_at = Some(at);
            continue;
        }
        let Some(leased_at) = leased_at else { continue };
        let ended =
            left.map(|left| at.saturating_sub(left.unsigned_abs().saturating_mul(1_000_000)));
        // An end before a look that showed a lease is the end of an older one.
        let ended = ended.filter(|ended| leased_at <= *ended);
        let joins = |to: u64| ended.map_or(at.saturating_sub(to) < lease_ns, |ended| ended <= to);
        let from = match bare {
            Some((from, to)) if joins(to) => from.max(ended.unwrap_or(from)),
            _ => {
                spans.extend(bare);
                ended.unwrap_or(at)
            }
        };
        bare = Some((from, at));
    }
    spans.extend(bare);
    spans
}

#[cfg(test)]
mod tests {
    use storm_record::facts::LeaseSeen;
    use storm_record::ledger::row::Row;

    use crate::kit::{Kit, judged};

    /// Every look shows the node's leases with so many milliseconds left each, from the middle of the run on; the others stay.
    fn shown(kit: &mut Kit, looks: &[&[i64]]) {
        let node = kit.record.ledger.opened[0].node.to_string();
        let lists = &mut kit.record.facts.leases;
        let from = lists.len() / 2;
        for (list, left) in lists[from..].iter_mut().zip(looks) {
            list.leases.retain(|lease| lease.node != node);
            let lease = |(epoch, left_ms)| LeaseSeen { node: node.clone(), epoch, left_ms };
            list.leases.extend((1..).zip(left.iter().copied()).map(lease));
        }
    }

    #[test]
    fn a_surfacing_under_an_old_epoch_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.ledger.rows.push(Row::OldEpoch { device: 1, epoch: 3, highest: 4, at_ns: 5 });
        judged(&kit).only_fails("S1");
    }

    #[test]
    fn a_node_that_serves_without_its_lease_is_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        let node = kit
            .record
            .ledger
            .opened
            .iter()
            .find(|opened| opened.device == seen.device)
            .unwrap()
            .node
            .to_string();
        for list in &mut kit.record.facts.leases {
            if list.at_ns > 3_000_000_000 && list.at_ns < 12_000_000_000 {
                list.leases.retain(|lease| lease.node != node);
            }
        }
        judged(&kit).only_fails("S1");
    }

    #[test]
    fn a_lease_that_one_look_missed_says_nothing_of_the_time_before() {
        let mut kit = Kit::clean();
        shown(&mut kit, &[&[]]);
        judged(&kit).passes();
    }

    #[test]
    fn a_lease_that_came_and_ended_between_two_looks_was_one() {
        let mut kit = Kit::clean();
        shown(&mut kit, &[&[], &[-100]]);
        judged(&kit).passes();
        // Nothing of what the looks before it proved is taken back.
        shown(&mut kit, &[&[], &[], &[-100]]);
        judged(&kit).only_fails("S1");
    }

    #[test]
    fn a_lease_that_ended_before_both_looks_is_missed_between_them() {
        let mut kit = Kit::clean();
        shown(&mut kit, &[&[-100], &[-1_100]]);
        judged(&kit).only_fails("S1");
    }

    #[test]
    fn looks_further_apart_than_a_lease_lasts_say_nothing_of_the_time_between() {
        let mut kit = Kit::clean();
        shown(&mut kit, &[&[], &[], &[]]);
        judged(&kit).only_fails("S1");
        let lists = &mut kit.record.facts.leases;
        let between = lists.len() / 2 + 1;
        lists.remove(between);
        judged(&kit).passes();
    }

    #[test]
    fn the_end_of_an_older_lease_says_nothing_of_the_one_that_followed() {
        let mut kit = Kit::clean();
        shown(&mut kit, &[&[-4_000, 1_300], &[-5_000]]);
        judged(&kit).passes();
    }

    #[test]
    fn a_discarded_frame_is_legal() {
        let mut kit = Kit::clean();
        kit.record.ledger.old_epoch_discarded();
        judged(&kit).passes();
    }
}
