//! B2: jitter is there.
use storm_record::facts::WindowSpan;
use storm_record::ledger::row::{ClosedBy, DelayRule};

use crate::case::Case;
use crate::finding::Finding;
use crate::synchrony::{self, First, Synchrony};
use crate::verdict::Reason;

/// Largest index of a policy with jitter.
const LIMIT: f64 = 4.0;
/// Links cut within this time are a common cut.
const COMMON_NS: u64 = 50_000_000;

/// Instants at which many links were cut at once, with the devices.
fn cuts(case: &Case<'_>) -> Vec<(u64, u64, Vec<u32>)> {
    let mut ends: Vec<(u64, u32)> = case
        .record
        .ledger
        .closed
        .iter()
        .filter(|closed| {
            closed.conn_epoch != 0 && matches!(closed.by, ClosedBy::Socket | ClosedBy::Server)
        })
        .map(|closed| (closed.at_ns, closed.device))
        .collect();
    ends.sort_unstable();
    let mut cuts = Vec::new();
    let mut from = 0;
    while from < ends.len() {
        let start = ends[from].0;
        let to = from + ends[from..].partition_point(|(at, _)| *at <= start + COMMON_NS);
        if to - from >= synchrony::ATTEMPTS_MIN {
            cuts.push((
                start,
                ends[to - 1].0,
                ends[from..to].iter().map(|(_, device)| *device).collect(),
            ));
            from = to;
        } else {
            from += 1;
        }
    }
    cuts
}

/// The worst synchrony index of the common cuts that began in a window, or in the whole run.
pub(crate) fn synchrony_of(case: &Case<'_>, span: Option<&WindowSpan>) -> Option<Synchrony> {
    let attempts = &case.record.ledger.attempts;
    let cuts = cuts(case);
    let mut worst: Option<Synchrony> = None;
    for (at, (from_ns, last_ns, devices)) in cuts.iter().enumerate() {
        if span.is_some_and(|span| !(span.from_ns..span.to_ns).contains(from_ns)) {
            continue;
        }
        let until = cuts.get(at + 1).map_or(u64::MAX, |(next, ..)| *next);
        let devices: std::collections::BTreeSet<u32> = devices.iter().copied().collect();
        let mut seen = std::collections::BTreeSet::new();
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for attempt in attempts {
            let after = attempt.decided_ns >= *from_ns
                && attempt.decided_ns < until
                && devices.contains(&attempt.device);
            if !after || attempt.rule == DelayRule::Planned {
                continue;
            }
            if seen.insert(attempt.device) && attempt.decided_ns <= last_ns + COMMON_NS {
                let window_ns = match attempt.rule {
                    DelayRule::Window(window) => window,
                    _ => case.bounds.backoff_ns(0),
                };
                let delay_ns = attempt.started_ns.saturating_sub(attempt.decided_ns);
                first.push(First { delay_ns, window_ns });
            } else {
                later.push(attempt.started_ns - from_ns);
            }
        }
        let index = synchrony::index(&first, &later, case.bounds.backoff_base_ns() * 2);
        worst = match (worst, index) {
            (None, index) => index,
            (Some(worst), Some(index)) if index.value() > worst.value() => Some(index),
            (worst, _) => worst,
        };
    }
    worst
}

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let cuts = cuts(case);
    if cuts.is_empty() {
        let many = synchrony::ATTEMPTS_MIN;
        return finding.not_applicable(&format!("no {many} links were cut within 50 ms"));
    }
    let links: usize = cuts.iter().map(|(_, _, devices)| devices.len()).sum();
    let mut finding = finding.cases(links as u64);
    match synchrony_of(case, None) {
        None => finding.unless_convicted(Reason::TooFewSamples),
        Some(index) => {
            finding = finding.basis(format!(
                "synchrony index {:.3} (J1 {}, J2 {}), at most {LIMIT}",
                index.value(),
                shown(index.j1),
                shown(index.j2)
            ));
            if index.value() > LIMIT {
                finding.violation(|| {
                    let what = format!(
                        "attempts of {links} cut devices coincide: synchrony index {:.2}",
                        index.value()
                    );
                    case.violation(what, None, cuts.first().map(|(at, ..)| *at))
                });
            }
        }
    }
    finding.closed()
}

fn shown(index: Option<f64>) -> String {
    index.map_or_else(|| "too few".to_owned(), |index| format!("{index:.3}"))
}

#[cfg(test)]
mod tests {
    use storm_record::ledger::row::DelayRule;

    use crate::kit::{Kit, attempt, judged};

    #[test]
    fn aligned_attempts_after_a_common_cut_are_convicted() {
        for (aligned, convicted) in [(true, true), (false, false)] {
            let mut kit = Kit::clean();
            kit.cut(120, 5_000_000_000);
            for n in 0..120_u64 {
                let delay = if aligned { 1_000_000_000 } else { n * 2_000_000_000 / 120 };
                let device = u32::try_from(n).unwrap() + 1_000;
                kit.record.ledger.attempts.push(attempt(
                    device,
                    0,
                    5_000_000_000,
                    delay,
                    DelayRule::Window(2_000_000_000),
                ));
            }
            if convicted {
                judged(&kit).only_fails("B2");
            } else {
                judged(&kit).passes();
            }
        }
    }
}
