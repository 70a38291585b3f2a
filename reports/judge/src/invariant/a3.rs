//! A3: bounded and explicit.
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let facts = &case.record.facts;
    let counts = case.record.ledger.counts();
    let mut finding = finding.cases(facts.gauges.len() as u64);
    if facts.gauges.is_empty() {
        finding.unless_convicted(Reason::ObserverLost);
    }
    for (name, gauge) in &facts.gauges {
        if gauge.value > gauge.limit {
            finding.violation(|| {
                let what =
                    format!("`{name}` reached {}, its limit is {}", gauge.value, gauge.limit);
                case.violation(what, None, Some(gauge.at_ns))
            });
        }
    }
    let before = finding.violations;
    for row in &case.record.ledger.rows {
        if let Row::RefusedBare { n, at_ns } = row {
            finding.violation(|| {
                case.slice_of_number("refused without a code or a hint", *n, None, *at_ns)
            });
        }
    }
    let shown = finding.violations - before;
    finding.violations(
        counts.refused_bare.saturating_sub(shown),
        "bare refusals beyond the rows kept",
    );
    finding
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};

    #[test]
    fn a_gauge_above_its_limit_is_convicted() {
        let mut kit = Kit::clean();
        let gauge = kit.record.facts.gauges.values_mut().next().unwrap();
        gauge.value = gauge.limit + 1;
        judged(&kit).only_fails("A3");
    }

    #[test]
    fn a_refusal_without_a_hint_is_convicted() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        kit.record.ledger.rejected(n, "busy", false, 1);
        judged(&kit).only_fails("A3");
    }
}
