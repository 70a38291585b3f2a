//! A3: bounded and explicit.
use storm_record::facts::GaugeMax;
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;
use crate::guard;
use crate::verdict::Reason;

/// Gauges of time end with this, in microseconds.
const TIME: &str = ".us";

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let facts = &case.record.facts;
    let counts = case.record.ledger.counts();
    let mut finding = finding.cases(facts.gauges.len() as u64);
    if facts.gauges.is_empty() {
        finding.unless_convicted(Reason::ObserverLost);
    }
    let above = |(_, gauge): &(&String, &GaugeMax)| gauge.value > gauge.limit;
    for (name, gauge) in facts.gauges.iter().filter(above) {
        // How long a call took is measured by threads that a host without time does not let run.
        let doubt = name.ends_with(TIME).then(|| guard::doubt(&guard::all(case))).flatten();
        if let Some(reason) = doubt {
            finding.unless_convicted(reason);
        } else {
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
    use storm_record::facts::GaugeMax;

    use crate::kit::{Kit, judged};
    use crate::verdict::Reason;

    #[test]
    fn a_gauge_above_its_limit_is_convicted() {
        let mut kit = Kit::clean();
        let gauge = kit.record.facts.gauges.values_mut().next().unwrap();
        gauge.value = gauge.limit + 1;
        judged(&kit).only_fails("A3");
    }

    #[test]
    fn a_call_that_took_too_long_convicts_unless_the_generator_was_late_itself() {
        let too_long = |late: bool| {
            let mut kit = Kit::clean();
            let gauge = GaugeMax { value: 700_000, at_ns: 5, limit: 600_000 };
            kit.record.facts.gauges.insert("port.log.append.us".to_owned(), gauge);
            if late {
                kit.record.slices[4].counts.dropped = 3;
            }
            judged(&kit)
        };
        too_long(false).only_fails("A3");
        let report = too_long(true);
        assert_eq!(report.finding("A3").reason, Some(Reason::GeneratorSaturated));
        assert_eq!(report.0.exit_code, 12);
    }

    #[test]
    fn a_refusal_without_a_hint_is_convicted() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        kit.record.ledger.rejected(n, "busy", false, 1);
        judged(&kit).only_fails("A3");
    }
}
