//! M7: sender order.
use storm_record::ledger::row::Row;

use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let counts = case.record.ledger.counts();
    let mut finding = finding.cases(counts.accepted);
    for row in &case.record.ledger.rows {
        if let Row::Overtaken { n, device, this, other, at_ns, .. } = row {
            finding.violation(|| {
                let what = format!(
                    "sent at {} ms and given cseq {}, while the one sent at {} ms has cseq {}",
                    this.0, this.1, other.0, other.1
                );
                case.slice_of_number(what, *n, Some(*device), *at_ns)
            });
        }
    }
    finding.violations(
        counts.overtaken.saturating_sub(finding.violations),
        "overtaken messages beyond the rows kept",
    );
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::ledger::row::Row;

    use crate::kit::{Kit, judged};
    use crate::world::World;

    #[test]
    fn an_overtaken_message_is_convicted() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        let conv = World::conv(0, 1).unwrap();
        kit.record.ledger.rows.push(Row::Overtaken {
            n,
            device: 0,
            conv,
            this: (5, 1),
            other: (4, 2),
            at_ns: 1,
        });
        judged(&kit).only_fails("M7");
    }
}
