//! The summary of a control run, and whether a run's steady window agrees with it.
use std::collections::BTreeMap;

use storm_record::Record;
use storm_record::control::{ControlSeries, ControlSummary, ControlWindow};
use storm_record::facts::{CounterList, WindowSpan};
use storm_record::series::{Figure, Filter, Samples};
use storm_record::slices::{DueSecond, SLICE_NS};
use storm_workload::gate::LAG_GUARD_FACTOR;
use storm_workload::metrics::Metric;
use storm_workload::plan::Window;

use crate::case::Case;
use crate::survey::ratio;

/// Difference of goodput that is noise.
const GOODPUT: f64 = 0.01;
/// Difference of latency that is noise: a share, or so many nanoseconds.
const NOISE_NS: u64 = 2_000_000;

/// Share of latency that is noise between two equal runs, in percent of the smaller. The virtual machines of real backends compile, collect and flush
/// when they will, and one stall of theirs is a hundredth of all messages (decision 47).
fn noise_percent(substrate: &str) -> u64 {
    if substrate == "embedded" { 10 } else { 100 }
}

/// Increase of counters between two instants.
pub(crate) fn increase(lists: &[CounterList], from_ns: u64, to_ns: u64) -> BTreeMap<String, u64> {
    let before = lists.iter().rev().find(|list| list.at_ns <= from_ns);
    let after = lists.iter().rev().find(|list| list.at_ns <= to_ns);
    let Some(after) = after else { return BTreeMap::new() };
    let start = |name: &str| before.and_then(|list| list.counters.get(name)).copied().unwrap_or(0);
    after
        .counters
        .iter()
        .map(|(name, value)| (name.clone(), value.saturating_sub(start(name))))
        .collect()
}

/// What became of the sends due in each whole second of a window.
pub(crate) fn due_of(record: &Record, span: &WindowSpan) -> Vec<DueSecond> {
    let (from, to) = (span.from_ns.div_ceil(SLICE_NS), span.to_ns / SLICE_NS);
    let due = record.due();
    (from..to).filter_map(|second| due.get(&u32::try_from(second).ok()?).copied()).collect()
}

/// Shares (goodput, on time) over seconds; `None` when nothing was due.
pub(crate) fn shares(due: &[DueSecond]) -> Option<(f64, f64)> {
    let mut all = DueSecond::default();
    for second in due {
        all.add(second);
    }
    (all.due > 0).then(|| (ratio(all.good, all.due), ratio(all.on_time, all.due)))
}

/// The summary of a finished control run, for the record of the run it belongs to.
pub fn summarise(record: &Record) -> ControlSummary {
    let delivered = Filter::of(Metric::MessageDelivered);
    let third = record.promises.recovery.map_or(SLICE_NS, |rule| (rule.hold_ns / 3).max(SLICE_NS));
    let windows = (0_u16..)
        .zip(&record.facts.windows)
        .map(|(at, span)| {
            let slices: Vec<_> = record.slices.iter().filter(|slice| slice.window == at).collect();
            let samples: Vec<Samples> =
                slices.iter().map(|slice| slice.samples(&delivered)).collect();
            let slice_p99_ns = (0..slices.len()).filter_map(|last| {
                let mut merged = Samples::default();
                let until = slices[last].to_ns;
                for at in (0..=last).rev().take_while(|at| slices[*at].to_ns + third > until) {
                    merged.add(&samples[at]);
                }
                merged.quantile_e4(9_900).map(Figure::ns)
            });
            let slice_p99_ns = slice_p99_ns.collect();
            let counts = record.counts(at);
            let series = record
                .totals
                .iter()
                .filter(|((window, _), _)| *window == at)
                .map(|((_, key), samples)| {
                    let series = ControlSeries {
                        key: *key,
                        censored: samples.censored(),
                        hist: samples.encode(),
                    };
                    (key.to_string(), series)
                })
                .collect();
            ControlWindow {
                name: span.name.clone(),
                window: span.window,
                len_ns: span.to_ns - span.from_ns,
                due: due_of(record, span),
                delivered_p99_ns: record.samples(at, &delivered).quantile_e4(9_900).map(Figure::ns),
                slice_p99_ns,
                owed_max: slices.iter().map(|slice| slice.levels.owed).max().unwrap_or(0),
                sends: counts.written,
                deliveries: counts.delivered,
                attempts: counts.attempts,
                counters: increase(&record.facts.counters, span.from_ns, span.to_ns),
                series,
            }
        })
        .collect();
    let manifest = &record.manifest;
    let (run, plan_hash) = (manifest.run.clone(), manifest.plan_hash.clone());
    ControlSummary {
        run,
        plan_hash,
        binary: manifest.binary.clone(),
        host: manifest.host.clone(),
        windows,
    }
}

/// Steady figures side by side: goodput and delivered p99 of control and of this run.
pub(crate) struct Steady {
    pub(crate) goodput: (f64, f64),
    pub(crate) p99: (Option<u64>, Option<u64>),
}

pub(crate) fn steady(case: &Case<'_>) -> Option<Steady> {
    let control = case
        .record
        .control
        .as_ref()?
        .windows
        .iter()
        .find(|window| window.window == Window::Steady)?;
    let (at, span) = case.windows(Window::Steady).next()?;
    let mine = case
        .record
        .samples(at, &Filter::of(Metric::MessageDelivered))
        .quantile_e4(9_900)
        .map(Figure::ns);
    let goodput = |due: &[DueSecond]| shares(due).map_or(1.0, |(good, _)| good);
    Some(Steady {
        goodput: (goodput(&control.due), goodput(&due_of(case.record, span))),
        p99: (control.delivered_p99_ns, mine),
    })
}

/// Whether the control run is one of this run, and its steady window agrees with this one's.
pub(crate) fn agrees(case: &Case<'_>) -> Result<(), String> {
    let Some(control) = &case.record.control else { return Ok(()) };
    let manifest = &case.record.manifest;
    for (what, theirs, mine) in [
        ("plan", &control.plan_hash, &manifest.plan_hash),
        ("binary", &control.binary, &manifest.binary),
        ("host class", &control.host, &manifest.host),
    ] {
        if theirs != mine {
            return Err(format!("the control run has another {what}: {theirs} instead of {mine}"));
        }
    }
    let Some(steady) = steady(case) else { return Err("no steady window to compare".to_owned()) };
    if (steady.goodput.0 - steady.goodput.1).abs() > GOODPUT {
        return Err(format!(
            "steady goodput {:.4}, control {:.4}",
            steady.goodput.1, steady.goodput.0
        ));
    }
    // Below the floor of gates the generator's own lateness could decide.
    let floor = case.record.promises.lag_p99_ns.saturating_mul(LAG_GUARD_FACTOR);
    if let (Some(control), Some(mine)) = steady.p99 {
        let most = (control.min(mine) / 100 * noise_percent(&manifest.substrate)).max(NOISE_NS);
        if control.abs_diff(mine) > most && control.max(mine) > floor {
            return Err(format!(
                "steady delivered p99 {} ms, control {} ms",
                mine / 1_000_000,
                control / 1_000_000
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};
    use crate::verdict::{Reason, Verdict};
    use storm_record::control::ControlSummary;

    type Change = fn(&mut ControlSummary);

    #[test]
    fn a_control_run_of_something_else_or_on_another_day_settles_nothing() {
        let changes: [(&str, Change); 5] = [
            ("another plan", |control| control.plan_hash.push('x')),
            ("another binary", |control| control.binary.push('x')),
            ("another host class", |control| control.host.push('x')),
            ("steady goodput", |control| {
                for second in control.windows.iter_mut().flat_map(|window| &mut window.due) {
                    second.good = second.due * 9 / 10;
                }
            }),
            ("steady delivered p99", |control| {
                for window in &mut control.windows {
                    window.delivered_p99_ns = Some(900_000_000);
                }
            }),
        ];
        for (what, change) in changes {
            let mut kit = Kit::with_recovery();
            judged(&kit).passes();
            change(kit.record.control.as_mut().unwrap());
            let report = judged(&kit).0;
            assert_eq!(report.verdict, Verdict::Inconclusive, "{what}");
            assert_eq!(report.reasons, [Reason::ControlMismatch], "{what}");
            let why = report.control.unwrap().why.unwrap();
            assert!(why.contains(what), "{why}");
        }
    }

    #[test]
    fn real_backends_may_differ_by_a_factor_of_two_and_not_by_more() {
        for (substrate, percent, agrees) in [
            ("embedded", 105, true),
            ("embedded", 142, false),
            ("embedded", 60, false),
            ("containers", 190, true),
            ("containers", 53, true),
            ("containers", 210, false),
            ("containers", 48, false),
        ] {
            let mut kit = Kit::with_recovery();
            kit.record.manifest.substrate = substrate.to_owned();
            // Far above the floor below which no difference counts.
            kit.record.promises.lag_p99_ns = 1;
            for window in &mut kit.record.control.as_mut().unwrap().windows {
                window.delivered_p99_ns = window.delivered_p99_ns.map(|ns| ns * percent / 100);
            }
            let unsettled = judged(&kit).0.reasons.contains(&Reason::ControlMismatch);
            assert_eq!(!unsettled, agrees, "{substrate} {percent}");
        }
    }
}
