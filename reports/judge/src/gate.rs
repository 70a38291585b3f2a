//! Limits that a file sets, and the figures they are compared with.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts and nanoseconds of a run are far below 2^52"
)]
use storm_record::facts::{FaultKind, WindowSpan};
use storm_record::series::{Basis, Filter, Samples};
use storm_record::slices::{SLICE_NS, SliceCounts};
use storm_workload::gate::{Blast, Bound, Gate, Path, Severity, Stat};
use storm_workload::metrics::{Kind, Metric, Unit};
use storm_workload::plan::Window;
use storm_workload::units::Time;

use crate::case::Case;
use crate::control::{due_of, shares};
use crate::finding::Outcome;
use crate::invariant::{detected_ns, synchrony_of};
use crate::report::{GateResult, Quantity};
use crate::verdict::Reason;

/// Where a gate looks.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Spans with the ordinal of their window; a part of a window has no ordinal and is read from slices.
    parts: Vec<(Option<u16>, WindowSpan)>,
}

impl Scope {
    /// Windows of a name or kind.
    pub fn named(case: &Case<'_>, name: &str) -> Self {
        let of = case.spans().filter(|(_, span)| span.name == name || span.window.name() == name);
        Self { parts: of.map(|(at, span)| (Some(at), span.clone())).collect() }
    }

    /// A part of the run.
    pub fn between(from_ns: u64, to_ns: u64, window: Window) -> Self {
        let span =
            WindowSpan { phase: 0, name: String::new(), window, from_ns, to_ns, closed: true };
        Self { parts: vec![(None, span)] }
    }

    fn samples(&self, case: &Case<'_>, filter: Filter) -> Samples {
        let mut all = Samples::default();
        for (at, span) in &self.parts {
            if let Some(at) = at {
                all.add(&case.record.samples(*at, &filter));
                continue;
            }
            let inside =
                |from: u64, to: u64| from >= span.from_ns && to <= span.to_ns + SLICE_NS / 2;
            for slice in
                case.record.slices.iter().filter(|slice| inside(slice.from_ns, slice.to_ns))
            {
                all.add(&slice.samples(&filter));
            }
        }
        all
    }

    fn counts(&self, case: &Case<'_>) -> SliceCounts {
        let mut all = SliceCounts::default();
        for slice in &case.record.slices {
            let taken = self.parts.iter().any(|(at, span)| match at {
                Some(at) => slice.window == *at,
                None => slice.from_ns >= span.from_ns && slice.from_ns < span.to_ns,
            });
            if taken {
                all.add(&slice.counts);
            }
        }
        all
    }

    fn holds(&self, at_ns: u64) -> bool {
        self.parts.iter().any(|(_, span)| (span.from_ns..span.to_ns).contains(&at_ns))
    }

    fn seconds(&self) -> f64 {
        self.parts.iter().map(|(_, span)| (span.to_ns - span.from_ns) as f64 / 1e9).sum()
    }
}

/// A figure with the samples behind it.
struct Read {
    value: Option<Quantity>,
    samples: u64,
}

fn filter(gate: &Gate) -> Filter {
    Filter { metric: gate.metric, basis: Basis::Response, path: gate.path, blast: gate.blast }
}

fn stat_of(samples: &Samples, stat: Stat, seconds: f64) -> Option<Quantity> {
    let count = samples.count();
    match stat {
        Stat::Max => samples.max().map(Quantity::from),
        Stat::Mean => samples.mean().map(Quantity::from),
        Stat::Count => Some(Quantity::Number(count as f64)),
        Stat::Rate => Some(Quantity::Number(count as f64 / seconds.max(0.001))),
        Stat::Share => None,
        Stat::P50 | Stat::P90 | Stat::P99 | Stat::P999 | Stat::P9999 => {
            samples.quantile_e4(stat.quantile_e4()?).map(Quantity::from)
        }
    }
}

fn read(case: &Case<'_>, gate: &Gate, scope: &Scope) -> Read {
    match gate.metric.kind() {
        Kind::Latency => latency(case, gate, scope),
        Kind::Share => {
            let due: Vec<_> =
                scope.parts.iter().flat_map(|(_, span)| due_of(case.record, span)).collect();
            let samples = due.iter().map(|second| second.due).sum();
            let share = shares(&due).map(|(good, on_time)| match gate.metric {
                Metric::MessageOnTime => on_time,
                _ => good,
            });
            Read { value: share.map(Quantity::Number), samples }
        }
        Kind::Count => {
            let counts = scope.counts(case);
            let value = match gate.metric {
                Metric::MessageRejected => counts.rejected,
                Metric::MessageAttempts => counts.attempts,
                Metric::MessageRedelivered => counts.wire_duplicates,
                Metric::ConnectAttempts => counts.connects,
                _ => case
                    .sessions
                    .missing
                    .iter()
                    .filter(|missing| scope.holds(missing.from_ns))
                    .count() as u64,
            };
            let value = match (gate.stat, gate.metric) {
                (Stat::Rate, _) => value as f64 / scope.seconds().max(0.001),
                (Stat::Mean, Metric::MessageAttempts) => {
                    value as f64 / counts.written.max(1) as f64
                }
                (Stat::Mean, _) => value as f64 / scope.seconds().max(1.0),
                _ => value as f64,
            };
            Read { value: Some(Quantity::Number(value)), samples: 1 }
        }
        Kind::Derived => derived(case, gate, scope),
    }
}

fn latency(case: &Case<'_>, gate: &Gate, scope: &Scope) -> Read {
    let filter = filter(gate);
    let Some(window) = gate.window else {
        let samples = scope.samples(case, filter);
        return Read {
            value: stat_of(&samples, gate.stat, scope.seconds()),
            samples: samples.count(),
        };
    };
    // A sliding window: the worst one counts.
    let slices: Vec<_> = case
        .record
        .slices
        .iter()
        .filter(|slice| scope.parts.iter().any(|(at, _)| *at == Some(slice.window)))
        .map(|slice| (slice.from_ns, slice.to_ns, slice.samples(&filter)))
        .collect();
    let mut worst = Read { value: None, samples: 0 };
    for (last, (_, to_ns, _)) in slices.iter().enumerate() {
        let mut merged = Samples::default();
        let inside = slices[..=last]
            .iter()
            .rev()
            .take_while(|(from, ..)| from + window.0 + SLICE_NS / 10 >= *to_ns);
        inside.for_each(|(_, _, samples)| merged.add(samples));
        let seconds = window.0 as f64 / 1e9;
        let value = stat_of(&merged, gate.stat, seconds);
        if value.map(Quantity::value) > worst.value.map(Quantity::value) {
            worst = Read { value, samples: merged.count() };
        }
    }
    worst
}

fn derived(case: &Case<'_>, gate: &Gate, scope: &Scope) -> Read {
    let values: Vec<Quantity> = match gate.metric {
        Metric::ConnectSynchrony => {
            let worst = scope.parts.iter().filter_map(|(_, span)| synchrony_of(case, Some(span)));
            worst.map(|index| Quantity::Number(index.value())).collect()
        }
        Metric::RouteStale => {
            let stale = case.sessions.stale.iter().filter(|stale| scope.holds(stale.from_ns));
            let values: Vec<_> = stale.map(|stale| Quantity::Ns(stale.len_ns)).collect();
            // No route outlived its connection: the oldest is none at all.
            if values.is_empty() && !case.record.facts.routes.is_empty() {
                vec![Quantity::Ns(0)]
            } else {
                values
            }
        }
        Metric::FaultDetected => {
            let faults = case.record.facts.faults.iter();
            let faults = faults.filter(|log| log.injected_ns.is_some_and(|at| scope.holds(at)));
            faults
                .map(|log| {
                    detected_ns(case, log).map_or(Quantity::AtLeast(u64::MAX >> 1), Quantity::Ns)
                })
                .collect()
        }
        _ => {
            let gaps = case.record.facts.accept_gaps.iter();
            let gaps = gaps.filter(|gap| scope.parts.iter().any(|(at, _)| *at == Some(gap.window)));
            gaps.map(|gap| Quantity::Ns(gap.gap_ns)).collect()
        }
    };
    let samples = values.len() as u64;
    let worst = values.into_iter().max_by(|a, b| a.value().total_cmp(&b.value()));
    Read { value: worst, samples }
}

/// The bound that `derived` stands for, nanoseconds or an index.
fn derived_bound(case: &Case<'_>, gate: &Gate, scope: &Scope) -> Quantity {
    let bounds = &case.bounds;
    let kinds = || {
        let faults = case.record.facts.faults.iter();
        let injected = faults.filter(|log| log.injected_ns.is_some_and(|at| scope.holds(at)));
        injected.filter_map(|log| log.kind)
    };
    match gate.metric {
        // A connection that nobody closed is found by its silence, which takes longer than a dead node's lease.
        Metric::RouteStale if kinds().any(FaultKind::is_silent) => {
            Quantity::Ns(bounds.half_open_ns().max(bounds.stale_dead_ns()))
        }
        Metric::RouteStale => Quantity::Ns(bounds.stale_dead_ns()),
        Metric::FaultDetected => Quantity::Ns(
            kinds()
                .map(|kind| bounds.detected_ns(kind))
                .max()
                .unwrap_or_else(|| bounds.half_open_ns()),
        ),
        Metric::MessageAcceptGap => Quantity::Ns(bounds.accept_gap_ns()),
        Metric::ConnectRecovered => Quantity::Ns(bounds.half_open_ns()),
        Metric::HeartbeatRtt => Quantity::Ns(
            u64::try_from(case.record.manifest.timers.pong.as_nanos()).unwrap_or(u64::MAX),
        ),
        Metric::ConnectSynchrony => Quantity::Number(4.0),
        _ if gate.metric.unit() == Unit::Time => Quantity::Ns(
            u64::try_from(case.record.manifest.timers.send_ack.as_nanos()).unwrap_or(u64::MAX),
        ),
        _ => Quantity::Number(0.0),
    }
}

fn baseline(case: &Case<'_>, gate: &Gate, name: &str) -> Option<Quantity> {
    if name != "control" {
        return read(case, &Gate { window: None, ..gate.clone() }, &Scope::named(case, name)).value;
    }
    let control = case.record.control.as_ref()?;
    let windows = control
        .windows
        .iter()
        .filter(|window| window.name == gate.over() || window.window.name() == gate.over());
    // A control run has no blast radius.
    let wanted = Filter { blast: None, ..filter(gate) };
    let (mut all, mut due, mut seconds) = (Samples::default(), Vec::new(), 0.0);
    for window in windows {
        for series in window.series.values().filter(|series| wanted.takes(&series.key)) {
            all.add(&Samples::decode(&series.hist, series.censored).ok()?);
        }
        due.extend_from_slice(&window.due);
        seconds += window.len_ns as f64 / 1e9;
    }
    match gate.metric.kind() {
        Kind::Latency => stat_of(&all, gate.stat, seconds),
        Kind::Share => shares(&due).map(|(good, on_time)| {
            Quantity::Number(if gate.metric == Metric::MessageOnTime { on_time } else { good })
        }),
        Kind::Count | Kind::Derived => None,
    }
}

fn limit_of(bound: Bound, derived: impl FnOnce() -> Quantity) -> Quantity {
    match bound {
        Bound::Time(time) => Quantity::Ns(time.0),
        Bound::Number(number) => Quantity::Number(number),
        Bound::Derived => derived(),
    }
}

/// A bound in words.
fn words(sign: &str, limit: Quantity) -> String {
    match limit {
        Quantity::Ns(ns) | Quantity::AtLeast(ns) => format!("{sign} {}", Time(ns)),
        Quantity::Number(number) => format!("{sign} {number}"),
    }
}

fn over(gate: &Gate) -> String {
    let path = match gate.path {
        None => "",
        Some(Path::SameNode) => ", path same-node",
        Some(Path::CrossNode) => ", path cross-node",
        Some(Path::Relay) => ", path relay",
    };
    let blast = match gate.blast {
        None => "",
        Some(Blast::In) => ", blast in",
        Some(Blast::Out) => ", blast out",
    };
    format!("{}{path}{blast}", gate.over())
}

/// Why figures may not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doubt {
    /// None of them count: the generator did not measure what it planned.
    pub all: Option<Reason>,
    /// A miss does not count: others took the cores. What was met all the same was met.
    pub misses: Option<Reason>,
}

/// Judges one gate over a scope.
pub fn judge(case: &Case<'_>, gate: &Gate, of: &str, scope: &Scope, doubt: Doubt) -> GateResult {
    let read = read(case, gate, scope);
    let mut result = GateResult {
        name: gate.name.clone(),
        of: of.to_owned(),
        metric: gate.metric.name().to_owned(),
        stat: gate.stat.name().to_owned(),
        over: over(gate),
        bound: String::new(),
        limit: None,
        value: read.value,
        samples: read.samples,
        outcome: Outcome::Pass,
        reason: None,
        fails: gate.severity == Severity::Fail,
    };
    let unsure = |result: &mut GateResult, reason: Reason| {
        result.outcome = Outcome::Inconclusive;
        result.reason = Some(reason);
    };
    let (sign, limit) = match (gate.min, gate.max, gate.max_factor) {
        (Some(min), ..) => (">=", Some(limit_of(min, || derived_bound(case, gate, scope)))),
        (_, Some(max), _) => ("<=", Some(limit_of(max, || derived_bound(case, gate, scope)))),
        (_, _, Some(factor)) => {
            let name = gate.baseline.as_deref().unwrap_or("control");
            result.bound = format!("<= {factor} x {name}");
            let base = baseline(case, gate, name);
            let limit = base.map(|base| match base {
                Quantity::Ns(ns) | Quantity::AtLeast(ns) => {
                    // What the generator's own lateness could decide is not decided.
                    let floor = case
                        .record
                        .promises
                        .lag_p99_ns
                        .saturating_mul(storm_workload::gate::LAG_GUARD_FACTOR);
                    Quantity::Ns(factor.of(ns).max(floor))
                }
                Quantity::Number(number) => Quantity::Number(number * factor.0 as f64 / 1e6),
            });
            ("<=", limit)
        }
        (None, None, None) => ("<=", None),
    };
    if result.bound.is_empty() {
        result.bound = limit.map_or_else(String::new, |limit| words(sign, limit));
    }
    result.limit = limit;
    let Some(limit) = limit else {
        unsure(&mut result, Reason::NoControl);
        return result;
    };
    if scope.parts.is_empty() {
        let reason = if case.record.facts.stopped.is_some() {
            Reason::Stopped
        } else {
            Reason::SteadyNotEstablished
        };
        unsure(&mut result, reason);
        return result;
    }
    let Some(value) = read.value else {
        // Unanswered messages do yield samples, so none at all is a miss; a derived figure without a case is not.
        if gate.metric.kind() == Kind::Latency
            && gate.metric != Metric::ConnectRecovered
            && gate.samples_needed() > 0
        {
            match doubt.all.or(doubt.misses) {
                Some(reason) => unsure(&mut result, reason),
                None => result.outcome = Outcome::Fail,
            }
        } else {
            unsure(&mut result, Reason::TooFewSamples);
        }
        return result;
    };
    let missed = match sign {
        ">=" => value.value() < limit.value(),
        _ => value.value() > limit.value(),
    };
    let enough = gate.metric.kind() != Kind::Latency
        || matches!(gate.stat, Stat::Count | Stat::Rate)
        || read.samples >= gate.samples_needed();
    if !enough {
        unsure(&mut result, Reason::TooFewSamples);
    } else if let Some(reason) = doubt.all.or(doubt.misses.filter(|_| missed)) {
        unsure(&mut result, reason);
    } else if missed {
        result.outcome = Outcome::Fail;
    }
    result
}

#[cfg(test)]
mod tests;
