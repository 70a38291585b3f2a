//! M4: effectively once.
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;
use crate::survey::ratio;

/// Share of deliveries that may come again on the wire within one connection.
const WIRE_DUPLICATES: f64 = 0.001;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let counts = case.record.ledger.counts();
    let bound = case.bound("wire_duplicates", WIRE_DUPLICATES);
    let share = ratio(counts.wire_duplicates_same_epoch, counts.delivered);
    let mut finding = finding.cases(counts.delivered).basis(format!(
        "{} wire duplicates, {} of them within one connection ({:.4} %, at most {:.4} %)",
        counts.wire_duplicates,
        counts.wire_duplicates_same_epoch,
        share * 100.0,
        bound * 100.0
    ));
    for row in &case.record.ledger.rows {
        match row {
            Row::Duplicate { n, device, at, at_ns } => finding.violation(|| {
                let what = format!("surfaced a second time, at cseq {}", at.cseq);
                case.slice_of_number(what, *n, Some(*device), *at_ns)
            }),
            Row::AnswerChanged { n, first, later, at_ns } => finding.violation(|| {
                let what = format!(
                    "a retry was answered with cseq {} and mid {}, the first time with cseq {} and mid {}",
                    later.cseq, later.mid, first.cseq, first.mid
                );
                case.slice_of_number(what, *n, None, *at_ns)
            }),
            _ => {}
        }
    }
    let rows = counts.duplicate + counts.answer_changed;
    finding.violations(
        rows.saturating_sub(finding.violations),
        "second surfacings beyond the rows kept",
    );
    if share > bound {
        finding.violations(
            counts.wire_duplicates_same_epoch,
            "items delivered again within one connection",
        );
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};

    #[test]
    fn a_second_surfacing_is_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        kit.record.ledger.surfaced(&seen);
        judged(&kit).only_fails("M4");
    }

    #[test]
    fn items_that_keep_coming_again_are_convicted() {
        let mut kit = Kit::clean();
        let seen = kit.surfacing(kit.some_number());
        let (device, conv, cseq, at_ns) = (seen.device, seen.conv, seen.cseq, seen.at_ns);
        for _ in 0..50 {
            kit.record.ledger.wire_duplicate(device, conv, cseq, false, at_ns);
        }
        judged(&kit).only_fails("M4");
        let mut kit = Kit::clean();
        for _ in 0..50 {
            kit.record.ledger.wire_duplicate(device, conv, cseq, true, at_ns);
        }
        judged(&kit).passes();
    }
}
