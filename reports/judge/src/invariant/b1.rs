//! B1: backoff envelope.
#![expect(clippy::cast_precision_loss, reason = "delays and counts far below 2^52")]
use storm_record::ledger::row::{Attempt, DelayRule};

use crate::case::Case;
use crate::finding::Finding;

/// Attempts below which the mean of drawn delays says nothing.
const MEAN_MIN: usize = 100;
/// Standard deviations of a mean of uniform draws that are too many.
const SIGMAS: f64 = 6.0;

pub(super) fn check(case: &Case<'_>, mut finding: Finding) -> Finding {
    let bounds = &case.bounds;
    let attempts = &case.record.ledger.attempts;
    let most = |attempt: &Attempt| match attempt.rule {
        DelayRule::Planned => None,
        DelayRule::Window(window) => Some(window),
        DelayRule::Backoff => Some(bounds.backoff_ns(attempt.index)),
        DelayRule::Hint(_) => None,
    };
    let mut drawn = Vec::new();
    for attempt in attempts {
        let Some(most) = most(attempt) else { continue };
        finding.cases += 1;
        let waited = attempt.started_ns.saturating_sub(attempt.decided_ns);
        // The client may wait for its planned return, but never longer than that.
        if attempt.delay_ns > most || waited > most + bounds.late_start_ns() {
            finding.violation(|| {
                let what = format!(
                    "attempt {} started {} ms after the last end (drawn {} ms), at most {} ms",
                    attempt.index,
                    waited / 1_000_000,
                    attempt.delay_ns / 1_000_000,
                    most / 1_000_000
                );
                case.violation(what, Some(attempt.device), Some(attempt.started_ns))
            });
        }
        if most > 0 && attempt.rule == DelayRule::Backoff {
            drawn.push(attempt.delay_ns as f64 / most as f64);
        }
    }
    if drawn.len() >= MEAN_MIN {
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let error = 0.2887 / (drawn.len() as f64).sqrt();
        finding = finding.basis(format!(
            "delays drawn are {mean:.3} of the largest on average, 0.5 is expected"
        ));
        if mean < 0.5 - SIGMAS * error {
            finding.violations(1, &format!("delays are {mean:.3} of the largest allowed on average, too small to be drawn from all of it"));
        }
    }
    if finding.cases == 0 {
        return finding.not_applicable("no device had to reconnect on its own");
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::ledger::row::DelayRule;

    use crate::kit::{Kit, attempt, judged};

    #[test]
    fn an_attempt_beyond_its_largest_delay_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.ledger.attempts.push(attempt(
            1,
            0,
            5_000_000_000,
            3_000_000_000,
            DelayRule::Backoff,
        ));
        judged(&kit).only_fails("B1");
    }

    #[test]
    fn hammering_is_convicted() {
        let mut kit = Kit::clean();
        for n in 0..200 {
            let at = 5_000_000_000 + n * 50_000_000;
            kit.record.ledger.attempts.push(attempt(
                1,
                u32::try_from(n).unwrap(),
                at,
                1_000_000,
                DelayRule::Backoff,
            ));
        }
        judged(&kit).only_fails("B1");
    }
}
