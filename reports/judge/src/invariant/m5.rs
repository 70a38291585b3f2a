//! M5: order.
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let ledger = &case.record.ledger;
    let mut finding = finding.cases(ledger.counts().delivered);
    for row in &ledger.rows {
        if let Row::Disorder { n, device, cseq, highest, at_ns, .. } = row {
            finding.violation(|| {
                let what = format!("live delivery of cseq {cseq} after cseq {highest}");
                case.slice_of_number(what, *n, Some(*device), *at_ns)
            });
        }
    }
    finding.violations(
        ledger.counts().disorder.saturating_sub(finding.violations),
        "disorder beyond the rows kept",
    );
    if !case.drained() {
        finding.unless_convicted(Reason::NoFinalPhase);
        return finding;
    }
    if ledger.pairs().beyond_dropped() > 0 {
        finding.unless_convicted(Reason::ObserverLost);
        return finding;
    }
    for row in ledger.pairs().sorted() {
        let beyond: u32 = ledger
            .pairs()
            .beyond(row.device, row.peer)
            .iter()
            .map(|[from, to]| to - from + 1)
            .sum();
        if row.pair.window == 0 && beyond == 0 {
            continue;
        }
        let top = ledger.pairs().beyond(row.device, row.peer).iter().map(|[_, to]| *to).max();
        let top = top.unwrap_or(row.pair.low + 32 - row.pair.window.leading_zeros());
        let missing = top - row.pair.low - row.pair.window.count_ones() - beyond;
        // The device's own sends without an answer may stand there: it never learns their `cseq`.
        let own_unknown = case.survey.unknown_of.get(&(row.device, row.peer)).copied().unwrap_or(0);
        if missing > own_unknown {
            finding.violation(|| {
                let first = row.pair.low + 1;
                let what = format!("{missing} holes with user {} at the end, the first at cseq {first}, below {top}", row.peer);
                case.violation(what, Some(row.device), None)
            });
        }
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::ledger::Surfaced;

    use crate::kit::{Kit, judged};

    #[test]
    fn a_hole_at_the_end_is_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        kit.record.ledger.pairs_mut().entry(seen.device, seen.peer).window = 0b10;
        judged(&kit).only_fails("M5");
    }

    #[test]
    fn a_live_delivery_out_of_order_is_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        let digest = kit.record.ledger.pairs().get(seen.device, seen.peer).copied().unwrap();
        kit.record.ledger.streams_mut()[0].delivered.clear(seen.n.unwrap().k, seen.slot.unwrap());
        kit.record.ledger.surfaced(&Surfaced { at_ns: seen.at_ns + 1, ..seen });
        // Only the order is to be wrong, not the digest.
        *kit.record.ledger.pairs_mut().entry(seen.device, seen.peer) = digest;
        judged(&kit).only_fails("M5");
    }
}
