//! Limits under which figures count at all: the generator proves that it was not the limit, and that the host was the run's, or there
//! is no result.
#![expect(clippy::cast_precision_loss, reason = "counts and bytes of a run are far below 2^52")]
use storm_record::series::{Figure, Filter};
use storm_workload::metrics::Metric;
use storm_workload::plan::Window;

use crate::case::Case;
use crate::report::GuardResult;
use crate::survey::ratio;
use crate::verdict::Reason;

/// Share of the plan that must be fired inside a measured window.
const OFFERED: f64 = 0.999;
/// Share of a core that no thread of the generator may use for three looks running.
const CPU: f64 = 0.85;
/// Share of the cores' time that others may take for three looks running, while nothing of it is left idle.
const OTHERS: f64 = 0.10;
/// Idle share of the cores from which nobody had to wait for them.
const IDLE: f64 = 0.05;
/// Growth of memory a minute in steady state.
const MEMORY: f64 = 0.01;
/// Unknown outcomes, above which loss is weakly tested.
const UNKNOWN: f64 = 0.05;
/// Windows whose figures are judged.
const MEASURED: [Window; 5] =
    [Window::Steady, Window::Stress, Window::Fault, Window::Heal, Window::Recovery];
/// Steady windows shorter than this say nothing about growth of memory.
const MEMORY_SPAN_NS: u64 = 60_000_000_000;

fn guard(name: &str, tripped: bool, shows: String, reason: Reason) -> GuardResult {
    GuardResult { name: name.to_owned(), shows, tripped, reason, counts_for_generator: true }
}

/// All guards.
pub fn all(case: &Case<'_>) -> Vec<GuardResult> {
    let mut guards = vec![lag(case), offered(case), cpu(case)];
    guards.extend(memory(case));
    guards.extend(host(case));
    guards.push(clock(case));
    guards.push(unknown(case));
    guards
}

/// Whether the generator was the limit.
pub fn saturated(guards: &[GuardResult]) -> Option<Reason> {
    guards
        .iter()
        .find(|guard| guard.tripped && guard.counts_for_generator)
        .map(|guard| guard.reason)
}

/// Why what took too long counts against nobody.
pub fn doubt(guards: &[GuardResult]) -> Option<Reason> {
    saturated(guards).or_else(|| crowded(guards))
}

/// Whether others took the cores. What was met all the same counts; what was missed is nobody's fault.
pub fn crowded(guards: &[GuardResult]) -> Option<Reason> {
    let crowded = |guard: &&GuardResult| guard.tripped && guard.reason == Reason::HostBusy;
    guards.iter().find(crowded).map(|guard| guard.reason)
}

fn lag(case: &Case<'_>) -> GuardResult {
    let limit = case.record.promises.lag_p99_ns;
    let mut worst: Option<(Figure, &str)> = None;
    for (at, span) in case.spans().filter(|(_, span)| MEASURED.contains(&span.window)) {
        let p99 = case.record.samples(at, &Filter::of(Metric::LoadLag)).quantile_e4(9_900);
        if let Some(p99) = p99
            && worst.is_none_or(|(known, _)| p99.ns() > known.ns())
        {
            worst = Some((p99, &span.name));
        }
    }
    let tripped = limit > 0 && worst.is_some_and(|(p99, _)| p99.ns() > limit);
    let shows = worst.map_or_else(
        || "no sample".to_owned(),
        |(p99, window)| {
            let (ms, most) = (p99.ns() as f64 / 1e6, limit as f64 / 1e6);
            format!("lag p99 {ms:.2} ms in {window}, at most {most:.2} ms")
        },
    );
    guard("lag_p99", tripped, shows, Reason::GeneratorSaturated)
}

fn offered(case: &Case<'_>) -> GuardResult {
    let mut all = storm_record::slices::SliceCounts::default();
    for (at, _) in case.spans().filter(|(_, span)| MEASURED.contains(&span.window)) {
        all.add(&case.record.counts(at));
    }
    let share = if all.offered == 0 { 1.0 } else { ratio(all.fired, all.offered) };
    let shows = format!(
        "{} of {} fired ({:.3} %, at least 99.9 %), {} dropped",
        all.fired,
        all.offered,
        share * 100.0,
        all.dropped
    );
    guard("offered", share < OFFERED || all.dropped > 0, shows, Reason::GeneratorSaturated)
}

fn measured(case: &Case<'_>, at_ns: u64) -> bool {
    case.record.facts.window_at(at_ns).is_some_and(|span| MEASURED.contains(&span.window))
}

fn cpu(case: &Case<'_>) -> GuardResult {
    let mut worst = (0.0, String::new());
    let mut running: std::collections::BTreeMap<&str, Vec<f64>> = std::collections::BTreeMap::new();
    for pair in case.record.facts.cpu.windows(2).filter(|pair| measured(case, pair[1].at_ns)) {
        let elapsed = pair[1].at_ns.saturating_sub(pair[0].at_ns).max(1) as f64;
        for (thread, after) in
            pair[1].threads.iter().filter(|(thread, _)| thread.starts_with("storm-"))
        {
            let before = pair[0].threads.get(thread).copied().unwrap_or(0);
            let shares = running.entry(thread).or_default();
            shares.push(after.saturating_sub(before) as f64 / elapsed);
            if let [.., a, b, c] = shares[..] {
                let least = a.min(b).min(c);
                if least > worst.0 {
                    worst = (least, thread.clone());
                }
            }
        }
    }
    let shows = format!(
        "busiest {} at {:.0} % of a core for three looks, at most 85 %",
        worst.1,
        worst.0 * 100.0
    );
    guard("generator_cpu", worst.0 > CPU, shows, Reason::GeneratorSaturated)
}

fn memory(case: &Case<'_>) -> Option<GuardResult> {
    let (_, span) = case.windows(Window::Steady).next()?;
    let rows: Vec<_> = case
        .record
        .facts
        .memory
        .iter()
        .filter(|row| (span.from_ns..=span.to_ns).contains(&row.at_ns))
        .collect();
    let (first, last) = (rows.first()?, rows.last()?);
    let len = last.at_ns.saturating_sub(first.at_ns);
    if len < MEMORY_SPAN_NS {
        return None;
    }
    let growth = last.resident as f64 / first.resident.max(1) as f64 - 1.0;
    let a_minute = growth / (len as f64 / 60e9);
    let shows = format!(
        "{:+.2} % a minute, at most 1 %; system and generator share the process",
        a_minute * 100.0
    );
    let mut guard = guard("memory", a_minute > MEMORY, shows, Reason::GeneratorSaturated);
    // The system under test lives in the same process, so its growth must not excuse it.
    guard.counts_for_generator = false;
    Some(guard)
}

/// The most that others took for three looks running in which the cores had no time left.
fn host(case: &Case<'_>) -> Option<GuardResult> {
    let (mut worst, mut shares) = (0.0_f64, Vec::new());
    for pair in case.record.facts.host.windows(2).filter(|pair| measured(case, pair[1].at_ns)) {
        let (before, after) = (pair[0], pair[1]);
        let elapsed = after.at_ns.saturating_sub(before.at_ns).max(1) as f64;
        let all = elapsed * f64::from(after.cores);
        let busy = after.busy_ns.saturating_sub(before.busy_ns) as f64;
        let own = after.own_ns.saturating_sub(before.own_ns) as f64;
        let full = busy >= all * (1.0 - IDLE);
        shares.push(if full { ((busy - own) / all).max(0.0) } else { 0.0 });
        if let [.., a, b, c] = shares[..] {
            worst = worst.max(a.min(b).min(c));
        }
    }
    let cores = case.record.facts.host.last()?.cores;
    let shows = format!(
        "others took {:.0} % of the cores ({cores}) for three looks without idle time, at most 10 %",
        worst * 100.0
    );
    let mut guard = guard("host_cpu", worst > OTHERS, shows, Reason::HostBusy);
    guard.counts_for_generator = false;
    Some(guard)
}

fn clock(case: &Case<'_>) -> GuardResult {
    let negative: u64 = case.record.slices.iter().map(|slice| slice.counts.clock_negative).sum();
    guard(
        "clock",
        negative > 0,
        format!("{negative} negative samples, at most 0"),
        Reason::ClockUnbounded,
    )
}

fn unknown(case: &Case<'_>) -> GuardResult {
    let share = case.survey.unknown_share();
    let shows = format!("{:.3} % of the sends have no answer, at most 5 %", share * 100.0);
    let mut guard = guard("unknown", share > UNKNOWN, shows, Reason::TooFewSamples);
    guard.counts_for_generator = false;
    guard
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use storm_record::facts::{CpuList, HostFact, MemoryFact};

    use crate::kit::{Judged, Kit, judged};
    use crate::verdict::Reason;

    const S: u64 = 1_000_000_000;

    fn tripped(report: &Judged) -> Vec<&str> {
        let guards = report.0.guards.iter();
        guards.filter(|guard| guard.tripped).map(|guard| guard.name.as_str()).collect()
    }

    /// A thread of the generator is busy for so many per cent of each second from 4 s on.
    fn busy(kit: &mut Kit, percent: u64, seconds: u64) {
        for second in 0..=seconds {
            let threads =
                BTreeMap::from([("storm-shard-0".to_owned(), second * S / 100 * percent)]);
            kit.record.facts.cpu.push(CpuList { at_ns: (4 + second) * S, threads });
        }
    }

    #[test]
    fn a_clean_run_trips_nothing() {
        let mut kit = Kit::clean();
        busy(&mut kit, 84, 5);
        assert!(tripped(&judged(&kit)).is_empty());
    }

    #[test]
    fn late_starts_are_the_generators_limit() {
        let mut kit = Kit::clean();
        kit.record.promises.lag_p99_ns = 50_000;
        let report = judged(&kit);
        assert_eq!(tripped(&report), ["lag_p99"]);
        report.is_unsettled_by("Z1", Reason::GeneratorSaturated);
    }

    #[test]
    fn intents_that_were_not_fired_are_the_generators_limit() {
        let mut kit = Kit::clean();
        kit.record.slices[4].counts.fired -= 20;
        let report = judged(&kit);
        assert_eq!(tripped(&report), ["offered"]);
        report.is_unsettled_by("Z1", Reason::GeneratorSaturated);
    }

    #[test]
    fn a_thread_of_the_generator_may_be_busy_for_two_looks_and_not_for_three() {
        for (looks, trips) in [(2, false), (3, true)] {
            let mut kit = Kit::clean();
            busy(&mut kit, 95, looks);
            assert_eq!(tripped(&judged(&kit)).contains(&"generator_cpu"), trips, "{looks} looks");
        }
    }

    /// From 4 s on, each second of each of two cores is this much of others, of this process, and idle: per cent.
    fn shared(kit: &mut Kit, others: u64, own: u64, looks: u64) {
        for second in 0..=looks {
            let used = |percent: u64| second * S / 100 * percent * 2;
            let (busy_ns, own_ns) = (used(others + own), used(own));
            let at_ns = (4 + second) * S;
            kit.record.facts.host.push(HostFact { at_ns, cores: 2, busy_ns, own_ns });
        }
    }

    /// Every answer took longer than the gate allows.
    fn late(kit: &mut Kit) {
        let gate = serde_json::json!({"name": "fast", "metric": "message.delivered", "stat": "p99", "max": "1ms"});
        kit.record.promises.slo.push(serde_json::from_value(gate).unwrap());
    }

    #[test]
    fn a_process_that_fills_the_cores_itself_is_not_crowded() {
        let mut kit = Kit::clean();
        shared(&mut kit, 5, 95, 5);
        late(&mut kit);
        let report = judged(&kit);
        assert!(tripped(&report).is_empty());
        assert_eq!(report.0.exit_code, 10);
    }

    #[test]
    fn neighbours_that_leave_idle_time_take_nothing_away() {
        let mut kit = Kit::clean();
        shared(&mut kit, 60, 30, 5);
        assert!(tripped(&judged(&kit)).is_empty());
    }

    #[test]
    fn a_miss_while_others_took_the_cores_for_three_looks_is_nobodys_fault() {
        for (looks, code) in [(2, 10), (3, 12)] {
            let mut kit = Kit::clean();
            shared(&mut kit, 17, 83, looks);
            late(&mut kit);
            let report = judged(&kit);
            assert_eq!(tripped(&report).contains(&"host_cpu"), looks == 3);
            assert_eq!(report.0.exit_code, code, "{looks} looks");
            assert_eq!(report.0.reasons.contains(&Reason::HostBusy), looks == 3);
        }
    }

    #[test]
    fn what_was_met_although_others_took_the_cores_was_met() {
        let mut kit = Kit::clean();
        shared(&mut kit, 50, 50, 5);
        let report = judged(&kit);
        assert_eq!(tripped(&report), ["host_cpu"]);
        report.passes();
    }

    #[test]
    fn a_lost_message_stays_lost_however_crowded_the_host_was() {
        let mut kit = Kit::clean();
        shared(&mut kit, 50, 50, 5);
        let n = kit.some_number();
        kit.record.ledger.streams_mut()[0].delivered.clear(n.k, 0);
        judged(&kit).only_fail(&["M1", "M9"]);
    }

    #[test]
    fn time_that_runs_backwards_trips_the_clock() {
        let mut kit = Kit::clean();
        kit.record.slices[3].counts.clock_negative = 1;
        assert_eq!(tripped(&judged(&kit)), ["clock"]);
    }

    #[test]
    fn memory_that_grows_is_said_and_excuses_nothing() {
        let mut kit = Kit::clean();
        kit.record.facts.windows[1].to_ns = 70 * S;
        for (at_ns, resident) in [(3 * S, 100_000_000), (68 * S, 103_000_000)] {
            kit.record.facts.memory.push(MemoryFact { at_ns, resident });
        }
        let report = judged(&kit);
        assert_eq!(tripped(&report), ["memory"]);
        assert!(!report.0.reasons.contains(&Reason::GeneratorSaturated));
    }

    #[test]
    fn sends_without_answer_are_said_and_weaken_no_loss() {
        let mut kit = Kit::clean();
        let stream = &mut kit.record.ledger.streams_mut()[0];
        for k in 0..stream.end / 5 {
            stream.outcome.clear(k, 0);
        }
        let report = judged(&kit);
        assert_eq!(tripped(&report), ["unknown"]);
        assert!(report.finding("M1").weak[0].contains("have no answer"));
        assert!(!report.0.reasons.contains(&Reason::GeneratorSaturated));
    }
}
