//! Which gates are impossible: unknown windows and baselines, wrong units, bounds that nothing can meet or miss.

use super::{Bound, Gate, LAG_GUARD_FACTOR, Stat};
use crate::document::{Document, FileError, hint};
use crate::metrics::{Kind, Metric, Unit};
use crate::units::Time;

/// What a gate is checked against.
#[derive(Debug)]
pub struct GateContext<'a> {
    /// Phases and roles that `over` may name.
    pub windows: &'a [&'a str],
    /// What `baseline` may name.
    pub baselines: &'a [&'a str],
    /// The longest deadline of the streams: no sample is larger.
    pub deadline: Time,
    /// The limit of the lag guard.
    pub lag_p99: Time,
}

/// Everything wrong with a list of gates, each error at its place below `path`.
pub fn check_gates(
    doc: &Document,
    path: &str,
    gates: &[Gate],
    context: &GateContext<'_>,
) -> Vec<FileError> {
    let mut errors = Vec::new();
    for (ix, gate) in gates.iter().enumerate() {
        let base = format!("{path}.{ix}");
        if gates[..ix].iter().any(|g| g.name == gate.name) {
            errors.push(
                doc.error_at(
                    &format!("{base}.name"),
                    format!("two gates are named `{}`", gate.name),
                ),
            );
        }
        check_gate(doc, &base, gate, context, &mut errors);
    }
    errors
}

fn check_gate(
    doc: &Document,
    base: &str,
    gate: &Gate,
    context: &GateContext<'_>,
    errors: &mut Vec<FileError>,
) {
    let mut wrong = |key: &str, message: String, help: &str| {
        let place = if key.is_empty() { base.to_owned() } else { format!("{base}.{key}") };
        errors.push(doc.error_at(&place, message).with_help(help));
    };
    let bounds = [gate.min.is_some(), gate.max.is_some(), gate.max_factor.is_some()];
    if bounds.iter().filter(|b| **b).count() != 1 {
        wrong(
            "",
            "a gate needs exactly one of `min`, `max` and `max_factor`".to_owned(),
            "keep one of them",
        );
    }
    if gate.max_factor.is_some() != gate.baseline.is_some() {
        wrong(
            "",
            "`max_factor` and `baseline` belong together".to_owned(),
            "for example `max_factor: 1.2, baseline: steady`",
        );
    }
    if let Some(baseline) = &gate.baseline
        && !context.baselines.contains(&baseline.as_str())
    {
        wrong(
            "baseline",
            format!("unknown baseline `{baseline}`"),
            &hint(baseline, context.baselines),
        );
    }
    if !context.windows.contains(&gate.over()) {
        wrong(
            "over",
            format!("no phase or role `{}`", gate.over()),
            &hint(gate.over(), context.windows),
        );
    }
    let stat_fits = match gate.metric.kind() {
        Kind::Latency => !matches!(gate.stat, Stat::Share),
        Kind::Share => matches!(gate.stat, Stat::Share),
        Kind::Count => matches!(gate.stat, Stat::Count | Stat::Rate | Stat::Max | Stat::Mean),
        Kind::Derived => matches!(gate.stat, Stat::Max),
    };
    if !stat_fits {
        let help = match gate.metric.kind() {
            Kind::Latency => "one of: p50, p90, p99, p99.9, p99.99, max, mean, rate, count",
            Kind::Share => "write `stat: share`",
            Kind::Count => "one of: count, rate, max, mean",
            Kind::Derived => "write `stat: max`",
        };
        wrong("stat", format!("`{}` has no `{}`", gate.metric, gate.stat.name()), help);
        return;
    }
    let unit = match gate.stat {
        Stat::Count | Stat::Rate => Unit::Count,
        _ => gate.metric.unit(),
    };
    for (key, bound) in [("min", gate.min), ("max", gate.max)] {
        match (bound, unit) {
            (None | Some(Bound::Derived), _) => {}
            (Some(Bound::Time(_)), Unit::Time) => {}
            (Some(Bound::Number(_)), Unit::Time) => {
                wrong(
                    key,
                    format!("the bound of `{}` is a time", gate.metric),
                    "write it with a unit, for example `250ms`",
                );
            }
            (Some(Bound::Time(_)), _) => {
                wrong(
                    key,
                    format!("the bound of `{}` is a number", gate.metric),
                    "write it without a time unit",
                );
            }
            (Some(Bound::Number(n)), Unit::Share) if n > 1.0 => {
                wrong(key, "a share is at most 1".to_owned(), "write `0.999` or `99.9%`");
            }
            _ => {}
        }
    }
    if gate.metric.kind() == Kind::Latency
        && let Some(max) = gate.max.and_then(Bound::time)
        && gate.stat != Stat::Count
    {
        let floor = Time(context.lag_p99.0.saturating_mul(LAG_GUARD_FACTOR));
        let from_intent = gate.metric.name().starts_with("message.");
        if from_intent && max < floor {
            wrong(
                "max",
                format!(
                    "this bound is under the floor of {floor}, {LAG_GUARD_FACTOR} times the lag guard of {}",
                    context.lag_p99
                ),
                "raise the bound: below it the generator's own lateness could decide",
            );
        }
        if from_intent && gate.metric != Metric::MessageLate && max > context.deadline {
            wrong(
                "max",
                format!(
                    "this bound lies above the deadline of {}, so it could never be missed",
                    context.deadline
                ),
                "a message that never arrives counts as its deadline; lower the bound",
            );
        }
    }
}
