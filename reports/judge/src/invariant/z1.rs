//! Z1: the generator kept its schedule.
use crate::case::Case;
use crate::finding::Finding;
use crate::guard;
use crate::verdict::Reason;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let mut finding = finding;
    for guard in guard::all(case) {
        finding.cases += 1;
        // The clock has a check of its own.
        let clock = guard.reason == Reason::ClockUnbounded;
        if guard.tripped && guard.counts_for_generator && !clock {
            finding.unless_convicted(guard.reason);
        }
        finding.basis.push(format!("{}: {}", guard.name, guard.shows));
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};
    use crate::verdict::Reason;

    #[test]
    fn dropped_arrivals_make_a_run_inconclusive() {
        let mut kit = Kit::clean();
        kit.record.slices[4].counts.dropped = 3;
        let report = judged(&kit);
        report.is_unsettled_by("Z1", Reason::GeneratorSaturated);
        assert_eq!(report.0.exit_code, 12);
    }
}
