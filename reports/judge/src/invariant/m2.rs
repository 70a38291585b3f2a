//! M2: no phantom, no leak.
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let counts = case.record.ledger.counts();
    let survey = &case.survey;
    let mut finding = finding.cases(counts.surfaced);
    for row in &case.record.ledger.rows {
        match row {
            Row::Phantom { device, conv, at, at_ns } => finding.violation(|| {
                let what =
                    format!("a body of no message of this run, in {conv} at cseq {}", at.cseq);
                case.violation(what, Some(*device), Some(*at_ns))
            }),
            Row::Corrupt { n, device, at_ns } => {
                finding.violation(|| {
                    case.slice_of_number(
                        "a body that differs from the one sent",
                        *n,
                        Some(*device),
                        *at_ns,
                    )
                });
            }
            Row::Stranger { n, device, at_ns } => {
                finding.violation(|| {
                    case.slice_of_number(
                        "surfaced on a device that is no recipient",
                        *n,
                        Some(*device),
                        *at_ns,
                    )
                });
            }
            _ => {}
        }
    }
    for (some, what) in [
        (&survey.phantom, "surfaced and never submitted"),
        (&survey.leaked, "surfaced in a slot the plan does not have"),
    ] {
        for (planned, _) in &some.first {
            finding.violation(|| case.slice_of(what, planned, None));
        }
        finding.violations(some.count - some.first.len() as u64, what);
    }
    let rows = counts.phantom + counts.corrupt + counts.stranger;
    let seen = finding.violations.saturating_sub(survey.phantom.count + survey.leaked.count);
    finding.violations(
        rows.saturating_sub(seen),
        "phantoms, changed or misdirected bodies beyond the rows kept",
    );
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::ledger::Surfaced;

    use crate::kit::{Kit, judged};

    #[test]
    fn a_body_of_nobody_is_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        kit.record.ledger.surfaced(&Surfaced { n: None, ..seen });
        judged(&kit).only_fails("M2");
    }

    #[test]
    fn a_message_on_a_strange_device_is_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        kit.record.ledger.surfaced(&Surfaced { slot: None, ..seen });
        judged(&kit).only_fails("M2");
    }

    #[test]
    fn a_message_nobody_sent_is_convicted() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        kit.record.ledger.streams_mut()[0].submitted.clear(n.k, 0);
        judged(&kit).only_fails("M2");
    }
}
