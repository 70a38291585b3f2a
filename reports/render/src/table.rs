//! What the terminal and the Markdown report say in the same words: latency table, ledger, faults, figures.
use storm_judge::Report;
use storm_judge::finding::{Finding, Outcome};
use storm_judge::report::{
    BatchRow, CpuGroup, FaultReport, GateResult, LatencyRow, LedgerReport, Quantity, RecoveryReport,
};

use crate::words::{count, time};

/// Series that are shown; the rest is in `report.json`.
const SHOWN: [&str; 2] = ["message.accepted", "message.delivered"];

/// A figure as it is written; `>=` marks one that falls among censored samples.
pub(crate) fn quantity(value: Quantity) -> String {
    match value {
        Quantity::Ns(ns) => time(ns),
        Quantity::AtLeast(ns) => format!(">= {}", time(ns)),
        Quantity::Number(number) if number.fract() == 0.0 => format!("{number:.0}"),
        Quantity::Number(number) => {
            let text = format!("{number:.4}");
            text.trim_end_matches('0').to_owned()
        }
    }
}

/// A gate in one line: what was found, and what was asked for.
pub(crate) fn gate(gate: &GateResult) -> String {
    let value = gate.value.map_or_else(|| "no value".to_owned(), quantity);
    let why = gate.reason.map(|reason| format!(", {}", reason.name())).unwrap_or_default();
    let GateResult { name, of, metric, stat, over, bound, samples, .. } = gate;
    format!(
        "{name} ({of}): {metric} {stat} {value}, asked {bound} over {over}, {} samples{why}",
        count(*samples)
    )
}

/// An invariant or check in one line.
pub(crate) fn finding(finding: &Finding) -> String {
    let why = finding.reason.map(|reason| format!(" {}:", reason.name())).unwrap_or_default();
    let what = if finding.outcome == Outcome::Fail {
        format!("{} violations in {} cases", count(finding.violations), count(finding.cases))
    } else {
        format!("{} cases", count(finding.cases))
    };
    format!("{}:{why} {} ({what})", finding.id, finding.demands)
}

/// Ids of the findings with an outcome.
pub(crate) fn with(report: &Report, outcome: Outcome) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.outcome == outcome).collect()
}

/// Ids in a row.
pub(crate) fn ids(findings: &[&Finding]) -> String {
    findings.iter().map(|finding| finding.id.as_str()).collect::<Vec<_>>().join(" ")
}

/// The name of the window whose latencies are the headline: the first steady one, else the first there is.
pub(crate) fn headline_window(report: &Report) -> Option<&str> {
    let steady = report
        .windows
        .iter()
        .find(|window| window.kind == "steady")
        .map(|window| window.window.as_str());
    let known = |name: &&str| report.latency.iter().any(|row| row.window == *name);
    steady.filter(known).or_else(|| report.latency.first().map(|row| row.window.as_str()))
}

/// The latency table of a window: response time beside service time.
pub(crate) fn latency(report: &Report, window: &str) -> Vec<Vec<String>> {
    let head = ["", "samples", "response p50", "p99", "p99.9", "service p50", "p99", "p99.9"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let of = |row: &&LatencyRow| {
        row.window == window && row.basis == "response" && SHOWN.contains(&row.metric.as_str())
    };
    for row in report.latency.iter().filter(of) {
        let label = if row.path == "all" { row.metric.clone() } else { format!("  {}", row.path) };
        let mut line = vec![label, count(row.samples)];
        line.extend([row.p50, row.p99, row.p999].map(quantity));
        let same = |other: &&LatencyRow| {
            other.window == row.window
                && other.metric == row.metric
                && other.path == row.path
                && other.basis == "service"
        };
        match report.latency.iter().find(same) {
            Some(service) => line.extend([service.p50, service.p99, service.p999].map(quantity)),
            None => line.extend(["-", "-", "-"].map(str::to_owned)),
        }
        table.push(line);
    }
    if table.len() == 1 { Vec::new() } else { table }
}

/// What became of the messages.
pub(crate) fn ledger(ledger: &LedgerReport) -> [String; 2] {
    let line = |entries: &[(&str, u64)]| {
        entries
            .iter()
            .map(|(name, n)| format!("{name} {}", count(*n)))
            .collect::<Vec<_>>()
            .join("  ")
    };
    [
        line(&[
            ("submitted", ledger.submitted),
            ("accepted", ledger.accepted),
            ("rejected", ledger.rejected),
            ("unknown", ledger.unknown),
            ("owed", ledger.owed),
            ("delivered", ledger.delivered),
        ]),
        line(&[
            ("lost", ledger.lost),
            ("duplicate", ledger.duplicate),
            ("phantom", ledger.phantom),
            ("leaked", ledger.leaked),
            ("corrupted", ledger.corrupted),
            ("reordered", ledger.reordered),
        ]),
    ]
}

/// A fault in one line, with the time from one mark to the next.
pub(crate) fn fault(fault: &FaultReport) -> String {
    let mut marks = Vec::new();
    let at = |ms: u64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
    match (fault.injected_ms, fault.witnessed_ms) {
        (None, _) => marks.push("never injected".to_owned()),
        (Some(injected), None) => {
            marks.push(format!("injected at {}, not witnessed", at(injected)));
        }
        (Some(injected), Some(_)) => marks.push(format!("injected at {}, witnessed", at(injected))),
    }
    if let Some(detected) = fault.detected_ms {
        marks.push(format!("detected after {}", at(detected)));
    }
    match (fault.healing_ms, fault.healed_ms) {
        (_, Some(healed)) => marks.push(format!("healed at {}", at(healed))),
        (Some(healing), None) => {
            marks.push(format!("healing begun at {}, not witnessed", at(healing)));
        }
        (None, None) => marks.push("not healed".to_owned()),
    }
    marks.extend(fault.trouble.clone());
    let targets = if fault.targets.len() > 3 {
        format!("{} and {} more", fault.targets[..3].join(" "), fault.targets.len() - 3)
    } else {
        fault.targets.join(" ")
    };
    format!("{} ({} {targets}): {}", fault.step, fault.kind, marks.join(", "))
}

/// Recovery in one line.
pub(crate) fn recovery(recovery: &RecoveryReport) -> String {
    let at = |ms: u64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
    match recovery.took_ms {
        Some(took) => {
            format!("recovered {} after healing, at most {}", at(took), at(recovery.within_ms))
        }
        None => format!("not recovered within {}", at(recovery.within_ms)),
    }
}

/// What a backend gets at a time, in words.
pub(crate) fn batch(row: &BatchRow) -> String {
    format!("{} {:.1} {} ({:.0} a second)", row.backend, row.mean, row.unit, row.a_second)
}

/// Groups whose parts are containers where the system runs in them.
const IN_CONTAINERS: [&str; 4] = ["gateways", "services", "balancers", "backends"];

/// Cores of every container, the busiest first.
pub(crate) fn containers(groups: &[CpuGroup]) -> Vec<(&str, f64)> {
    let groups = groups.iter().filter(|group| IN_CONTAINERS.contains(&group.group.as_str()));
    let mut parts: Vec<_> = groups
        .flat_map(|group| &group.parts)
        .map(|(name, cores)| (name.split_once('-').map_or(name.as_str(), |(_, rest)| rest), *cores))
        .collect();
    parts.sort_by(|one, other| other.1.total_cmp(&one.1));
    parts
}

/// CPU of a group of threads.
pub(crate) fn cpu(group: &CpuGroup) -> [String; 4] {
    [
        group.group.clone(),
        format!("{:.2}", group.cores),
        format!("{:.1}", group.us_a_send),
        group.busiest.clone(),
    ]
}
