//! M3: refused means gone.
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let survey = &case.survey;
    let mut finding =
        finding.cases(survey.submitted).basis(format!("{} definitely refused", survey.rejected));
    for (planned, _) in &survey.refused.first {
        finding
            .violation(|| case.slice_of("refused with `effect: none` and surfaced", planned, None));
    }
    finding.violations(
        survey.refused.count - survey.refused.first.len() as u64,
        "refused and surfaced",
    );
    // A message that was refused, surfaced and accepted later is no longer in the plane, but its row is.
    for row in &case.record.ledger.rows {
        if let Row::RefusedSurfaced { n, device, at_ns } = row
            && !survey.refused.first.iter().any(|(planned, _)| planned.n == *n)
            && case.record.ledger.outcome(*n) != storm_record::ledger::Outcome::Rejected
        {
            finding.violation(|| {
                case.slice_of_number(
                    "refused with `effect: none` and surfaced",
                    *n,
                    *device,
                    *at_ns,
                )
            });
        }
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};

    #[test]
    fn a_refused_message_that_surfaces_is_convicted() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        // Rejected is one bit of the outcome, accepted both.
        kit.record.ledger.streams_mut()[0].outcome.clear(n.k, 1);
        judged(&kit).only_fails("M3");
    }
}
