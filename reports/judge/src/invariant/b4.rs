//! B4: hints are obeyed.
#![expect(clippy::cast_precision_loss, reason = "delays and counts far below 2^52")]
use std::collections::BTreeMap;

use storm_record::ledger::row::{ClosedBy, DelayRule};

use crate::case::Case;
use crate::finding::Finding;

/// A hint is kept when the attempt comes at most so much too early.
const EARLY_NS: u64 = 20_000_000;
/// Attempts in windows below which their mean says nothing.
const MEAN_MIN: usize = 100;
/// Standard deviations of a mean of uniform draws that are too many.
const SIGMAS: f64 = 6.0;

pub(super) fn check(case: &Case<'_>, mut finding: Finding) -> Finding {
    let ledger = &case.record.ledger;
    let mut in_window = Vec::new();
    for attempt in &ledger.attempts {
        let waited = attempt.started_ns.saturating_sub(attempt.decided_ns);
        match attempt.rule {
            DelayRule::Hint(hint_ns) => {
                finding.cases += 1;
                if waited + EARLY_NS < hint_ns {
                    finding.violation(|| {
                        let what = format!(
                            "told to wait {} ms, tried again after {} ms",
                            hint_ns / 1_000_000,
                            waited / 1_000_000
                        );
                        case.violation(what, Some(attempt.device), Some(attempt.started_ns))
                    });
                }
            }
            DelayRule::Window(window_ns) if window_ns > 0 => {
                finding.cases += 1;
                in_window.push(waited as f64 / window_ns as f64);
            }
            _ => {}
        }
    }
    if in_window.len() >= MEAN_MIN {
        let mean = in_window.iter().sum::<f64>() / in_window.len() as f64;
        let error = 0.2887 / (in_window.len() as f64).sqrt();
        finding = finding.basis(format!(
            "attempts lie at {mean:.3} of their window on average, 0.5 is expected"
        ));
        if mean < 0.5 - SIGMAS * error {
            finding.violations(
                1,
                &format!(
                    "attempts lie at {mean:.3} of their window on average: the window is not used"
                ),
            );
        }
    }
    // The last terminal end of each device; only a planned return may follow.
    let mut terminal: BTreeMap<u32, u64> = BTreeMap::new();
    for closed in
        ledger.closed.iter().filter(|closed| closed.terminal && closed.by == ClosedBy::Server)
    {
        finding.cases += 1;
        terminal.insert(closed.device, closed.at_ns);
    }
    for attempt in ledger.attempts.iter().filter(|attempt| attempt.rule != DelayRule::Planned) {
        if terminal.get(&attempt.device).is_some_and(|at| attempt.started_ns > *at) {
            finding.violation(|| {
                case.violation(
                    "tried again after a terminal close code",
                    Some(attempt.device),
                    Some(attempt.started_ns),
                )
            });
        }
    }
    if finding.cases == 0 {
        return finding.not_applicable("no server gave a hint");
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::ledger::row::DelayRule;

    use crate::kit::{Kit, attempt, judged};

    #[test]
    fn an_attempt_before_its_hint_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.ledger.attempts.push(attempt(
            1,
            3,
            5_000_000_000,
            100_000_000,
            DelayRule::Hint(400_000_000),
        ));
        judged(&kit).only_fails("B4");
    }

    #[test]
    fn a_window_that_nobody_uses_is_convicted() {
        let mut kit = Kit::clean();
        for n in 0..150 {
            kit.record.ledger.attempts.push(attempt(
                n,
                0,
                5_000_000_000,
                2_000_000,
                DelayRule::Window(1_000_000_000),
            ));
        }
        judged(&kit).only_fails("B4");
    }
}
