//! Tables of a report: latencies, CPU by thread group, and what real backends get at a time.
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
use crate::control::increase;
use crate::report::{BatchRow, CpuGroup, LatencyRow, Quantity};

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

/// Backends whose clients count what they send: name, unit, the counter of things, and that of what carries them.
const BATCHES: [(&str, &str, &str, &str); 3] = [
    ("kafka", "records a batch", "kafka.records", "kafka.batches"),
    ("cassandra", "rows a request", "cassandra.rows", "cassandra.requests"),
    ("redis", "items a script", "redis.items", "redis.scripts"),
];

/// What real backends got at a time over the steady windows; nothing about those that got nothing.
pub(crate) fn batches(case: &Case<'_>) -> Vec<BatchRow> {
    let (mut rose, mut len_ns) = (BTreeMap::<String, u64>::new(), 0);
    for (_, span) in case.windows(Window::Steady) {
        len_ns += span.to_ns - span.from_ns;
        for (name, more) in increase(&case.record.facts.counters, span.from_ns, span.to_ns) {
            *rose.entry(name).or_default() += more;
        }
    }
    let count = |name: &str| rose.get(name).copied().unwrap_or(0);
    let rows = BATCHES.iter().filter(|(.., carriers)| count(carriers) > 0);
    let rows = rows.map(|(backend, unit, things, carriers)| BatchRow {
        backend: (*backend).to_owned(),
        unit: (*unit).to_owned(),
        mean: count(things) as f64 / count(carriers) as f64,
        a_second: count(carriers) as f64 / (len_ns.max(1) as f64 / 1e9),
    });
    rows.collect()
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
    let mut groups: Vec<Vec<(&str, u64)>> = vec![Vec::new(); GROUPS.len()];
    for (thread, ns) in used {
        groups[group_of(thread)].push((thread, ns));
    }
    let elapsed = elapsed.max(1) as f64;
    let rows = GROUPS.iter().zip(groups).filter_map(|((_, name), threads)| {
        let ns: u64 = threads.iter().map(|(_, ns)| ns).sum();
        let (busiest, most) = threads.iter().max_by_key(|(_, ns)| *ns).filter(|_| ns > 0)?;
        let cores = |ns: u64| ns as f64 / elapsed;
        Some(CpuGroup {
            group: (*name).to_owned(),
            cpu_s: ns as f64 / 1e9,
            cores: cores(ns),
            us_a_send: ns as f64 / 1e3 / sends.max(1) as f64,
            busiest: format!("{busiest} {:.0} %", cores(*most) * 100.0),
            parts: threads.iter().map(|(name, ns)| ((*name).to_owned(), cores(*ns))).collect(),
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};

    #[test]
    fn what_a_backend_gets_at_a_time_is_that_of_the_steady_windows() {
        let mut kit = Kit::clean();
        for list in &mut kit.record.facts.counters {
            let second = list.at_ns / 1_000_000_000;
            let steady = second.clamp(2, 12) - 2;
            for (counter, value) in [
                ("kafka.batches", steady * 10),
                ("kafka.records", steady * 25 + 1_000),
                ("redis.items", second * 40),
                ("redis.scripts", second * 20),
                ("cassandra.rows", 0),
                ("cassandra.requests", 0),
            ] {
                list.counters.insert(counter.to_owned(), value);
            }
        }
        let rows = judged(&kit).0.batches;
        let rows: Vec<_> = rows
            .iter()
            .map(|row| format!("{} {:.1} {} {:.0}", row.backend, row.mean, row.unit, row.a_second))
            .collect();
        assert_eq!(rows, ["kafka 2.5 records a batch 10", "redis 2.0 items a script 20"]);
    }
}
