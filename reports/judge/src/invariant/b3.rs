//! B3: backoff resets after a stable session only.
use std::collections::BTreeMap;

use storm_record::ledger::row::{Attempt, DelayRule};

use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, mut finding: Finding) -> Finding {
    let mut before: BTreeMap<u32, Attempt> = BTreeMap::new();
    for attempt in &case.record.ledger.attempts {
        let known = before.insert(attempt.device, *attempt);
        // A window dictated by the server and a plan start anew by design.
        let (Some(known), DelayRule::Backoff | DelayRule::Hint(_)) = (known, attempt.rule) else {
            continue;
        };
        finding.cases += 1;
        if attempt.index >= known.index {
            continue;
        }
        let sessions =
            case.sessions.connections.get(&attempt.device).map_or(&[][..], Vec::as_slice);
        let session = sessions.iter().find(|session| {
            session.opened_ns >= known.started_ns && session.opened_ns <= attempt.started_ns
        });
        let stable = session.is_some_and(|session| {
            let end = session.closed.map_or(attempt.decided_ns, |(at, _)| at);
            end.saturating_sub(session.opened_ns) + case.bounds.late_start_ns()
                >= case.bounds.stable_ns()
        });
        if !stable {
            finding.violation(|| {
                let what = format!(
                    "the attempt index fell from {} to {} without a stable session",
                    known.index, attempt.index
                );
                case.violation(what, Some(attempt.device), Some(attempt.started_ns))
            });
        }
    }
    if finding.cases == 0 {
        return finding.not_applicable("no device had to attempt twice by backoff");
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::ledger::row::DelayRule;

    use crate::kit::{Kit, attempt, judged};

    #[test]
    fn a_reset_without_a_stable_session_is_convicted() {
        let mut kit = Kit::clean();
        for (index, at) in [(0, 4_000_000_000), (1, 5_000_000_000), (0, 6_000_000_000)] {
            kit.record.ledger.attempts.push(attempt(1, index, at, 30_000_000, DelayRule::Backoff));
        }
        judged(&kit).only_fails("B3");
    }
}
