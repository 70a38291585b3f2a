//! Tables of a report: latencies and CPU by thread group.
#![expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of CPU and counts of a run are far below 2^52"
)]
use std::collections::BTreeMap;

use storm_record::series::{Basis, Filter};
use storm_workload::gate::Path;
use storm_workload::metrics::{Kind, Metric};
use storm_workload::plan::Window;

use crate::case::Case;
use crate::report::{CpuGroup, LatencyRow, Quantity};

/// Thread-name prefixes of the groups.
const GROUPS: [(&str, &str); 7] = [
    ("storm-", "generator"),
    ("gw-", "gateways"),
    ("svc-", "services"),
    ("lb-", "balancers"),
    ("chat-", "backends"),
    ("judge", "judge"),
    ("", "other"),
];

/// Response and service times of every window that sends, over all paths and by path.
pub(crate) fn latency(case: &Case<'_>) -> Vec<LatencyRow> {
    let mut rows = Vec::new();
    let paths = [
        (None, "all"),
        (Some(Path::SameNode), "same-node"),
        (Some(Path::CrossNode), "cross-node"),
        (Some(Path::Relay), "relay"),
    ];
    for (at, span) in case.spans() {
        for metric in Metric::ALL.iter().filter(|metric| metric.kind() == Kind::Latency) {
            for (path, name) in paths {
                for (basis, word) in [(Basis::Response, "response"), (Basis::Service, "service")] {
                    let samples = case
                        .record
                        .samples(at, &Filter { metric: *metric, basis, path, blast: None });
                    let quantile =
                        |e4| samples.quantile_e4(e4).map_or(Quantity::Ns(0), Quantity::from);
                    if samples.count() == 0 {
                        continue;
                    }
                    rows.push(LatencyRow {
                        window: span.name.clone(),
                        metric: metric.name().to_owned(),
                        path: name.to_owned(),
                        basis: word.to_owned(),
                        samples: samples.count(),
                        censored: samples.censored(),
                        p50: quantile(5_000),
                        p99: quantile(9_900),
                        p999: quantile(9_990),
                        max: samples.max().map_or(Quantity::Ns(0), Quantity::from),
                    });
                }
            }
        }
    }
    rows
}

fn group_of(thread: &str) -> usize {
    GROUPS.iter().position(|(prefix, _)| thread.starts_with(prefix)).unwrap_or(GROUPS.len() - 1)
}

/// CPU by thread group over the steady windows, or over all of the run when there is none.
pub(crate) fn cpu(case: &Case<'_>) -> Vec<CpuGroup> {
    let lists = &case.record.facts.cpu;
    let spans: Vec<_> = case.windows(Window::Steady).collect();
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut elapsed, mut sends) = (0, 0);
    for (at, span) in &spans {
        let inside: Vec<_> =
            lists.iter().filter(|list| (span.from_ns..=span.to_ns).contains(&list.at_ns)).collect();
        let (Some(first), Some(last)) = (inside.first(), inside.last()) else { continue };
        elapsed += last.at_ns - first.at_ns;
        for (thread, after) in &last.threads {
            let before = first.threads.get(thread).copied().unwrap_or(0);
            *used.entry(thread).or_default() += after.saturating_sub(before);
        }
        let slices = case.record.slices.iter().filter(|slice| slice.window == *at);
        sends += slices
            .filter(|slice| slice.from_ns >= first.at_ns && slice.from_ns < last.at_ns)
            .map(|slice| slice.counts.written)
            .sum::<u64>();
    }
    let mut groups: Vec<(u64, &str, u64)> = vec![(0, "", 0); GROUPS.len()];
    for (thread, ns) in used {
        let group = &mut groups[group_of(thread)];
        group.0 += ns;
        if ns >= group.2 {
            (group.1, group.2) = (thread, ns);
        }
    }
    let elapsed = elapsed.max(1) as f64;
    let rows = GROUPS.iter().zip(groups).filter(|(_, (ns, ..))| *ns > 0).map(
        |((_, name), (ns, thread, most))| CpuGroup {
            group: (*name).to_owned(),
            cpu_s: ns as f64 / 1e9,
            cores: ns as f64 / elapsed,
            us_a_send: ns as f64 / 1e3 / sends.max(1) as f64,
            busiest: format!("{thread} {:.0} %", most as f64 / elapsed * 100.0),
        },
    );
    rows.collect()
}
