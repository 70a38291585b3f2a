//! M1: no accepted message is lost.
use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let survey = &case.survey;
    let mut finding = finding.cases(survey.owed).basis(format!(
        "{} accepted, {} deliveries owed, {} lost",
        survey.accepted, survey.owed, survey.lost_slots
    ));
    if !case.drained() {
        finding.unless_convicted(Reason::NoFinalPhase);
        return finding;
    }
    let mut shown = 0;
    for (planned, missing) in &survey.lost.first {
        for slot in (0..32_u8).filter(|slot| missing >> slot & 1 == 1) {
            let device = case.world.device_in(planned, slot);
            finding.violation(|| case.slice_of("accepted and never surfaced", planned, device));
            shown += 1;
        }
    }
    finding.violations(survey.lost_slots - shown, "accepted and never surfaced");
    if survey.unknown_share() > 0.05 {
        finding
            .weak
            .push(format!("{:.1} % of the sends have no answer", survey.unknown_share() * 100.0));
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use crate::finding::Outcome;
    use crate::kit::{Kit, judged};

    #[test]
    fn a_dropped_delivery_is_convicted_and_localised() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        kit.record.ledger.streams_mut()[0].delivered.clear(n.k, 0);
        let report = judged(&kit);
        // History holds it, so the relay lost it.
        report.only_fail(&["M1", "M9"]);
        let finding = report.finding("M1");
        assert_eq!(finding.violations, 1);
        assert_eq!(finding.evidence[0].number.as_deref(), Some(crate::case::words(n).as_str()));
        assert!(
            finding.evidence[0]
                .observed
                .iter()
                .any(|line| line.contains("never surfaced, on gateway-"))
        );
    }

    #[test]
    fn without_a_final_phase_nothing_claims_that_nothing_was_lost() {
        let mut kit = Kit::clean();
        kit.record.facts.last = None;
        assert_eq!(judged(&kit).finding("M1").outcome, Outcome::Inconclusive);
    }
}
