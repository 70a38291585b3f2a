//! A2: no hysteresis.
use storm_record::series::Filter;
use storm_record::slices::SLICE_NS;
use storm_workload::metrics::Metric;
use storm_workload::plan::Window;

use crate::case::Case;
use crate::control::agrees;
use crate::finding::Finding;
use crate::recovery::{self, Moment, Reference};
use crate::survey::ratio;
use crate::verdict::Reason;

/// The state of every second from `from_ns` until the load ends.
fn moments(case: &Case<'_>, from_ns: u64, third_ns: u64) -> Vec<Moment> {
    let record = case.record;
    let due = record.due();
    let loaded = |window: u16| {
        record
            .facts
            .windows
            .get(usize::from(window))
            .is_some_and(|span| span.window != Window::Drain)
    };
    let delivered = Filter::of(Metric::MessageDelivered);
    let slices: Vec<_> = record
        .slices
        .iter()
        .filter(|slice| slice.from_ns >= from_ns && loaded(slice.window))
        .map(|slice| (slice, slice.samples(&delivered)))
        .collect();
    let mut moments = Vec::new();
    for (at, (slice, _)) in slices.iter().enumerate() {
        let mut merged = storm_record::series::Samples::default();
        for (_, samples) in
            slices[..=at].iter().rev().take_while(|(other, _)| other.to_ns + third_ns > slice.to_ns)
        {
            merged.add(samples);
        }
        let second = u32::try_from(slice.from_ns / SLICE_NS).unwrap_or(u32::MAX);
        let whole = slice.to_ns.saturating_sub(slice.from_ns) * 10 >= SLICE_NS * 9;
        let figures = due.get(&second).filter(|figures| figures.due > 0 && whole);
        let connections: Option<Vec<u64>> =
            record.facts.nodes.iter().rev().find(|list| list.at_ns <= slice.to_ns).map(|list| {
                let gateways = list
                    .nodes
                    .iter()
                    .filter(|node| node.roles.iter().any(|role| role == "gateway"));
                gateways.map(|node| node.connections).collect()
            });
        let all = connections.as_ref().map_or(0, |all| all.iter().sum());
        let imbalance =
            connections.filter(|all| all.len() > 1 && all.iter().sum::<u64>() > 0).map(|all| {
                let (sum, most) = (all.iter().sum::<u64>(), all.iter().max().copied().unwrap_or(0));
                ratio(most * all.len() as u64, sum)
            });
        moments.push(Moment {
            at_ns: slice.to_ns,
            on_time: figures.map(|figures| ratio(figures.on_time, figures.due)),
            p99_ns: merged.quantile_e4(9_900).map(storm_record::series::Figure::ns),
            imbalance,
            connections: all,
            owed: slice.levels.owed,
        });
    }
    moments
}

/// What the control run reached in the windows that hold the load.
pub(crate) fn reference(case: &Case<'_>) -> Option<Reference> {
    let control = case.record.control.as_ref()?;
    let held: Vec<_> = control
        .windows
        .iter()
        .filter(|window| {
            matches!(
                window.window,
                Window::Steady | Window::Fault | Window::Heal | Window::Recovery
            )
        })
        .collect();
    let (due, on_time) = held
        .iter()
        .flat_map(|window| &window.due)
        .fold((0, 0), |(due, on_time), second| (due + second.due, on_time + second.on_time));
    let p99 = held.iter().flat_map(|window| &window.slice_p99_ns).copied().max().unwrap_or(0);
    Some(Reference {
        on_time: if due == 0 { 1.0 } else { ratio(on_time, due) },
        p99_ns: p99,
        owed: held.iter().map(|window| window.owed_max).max().unwrap_or(0),
        gateways: u64::from(case.world.plan().system.gateways),
        floor_ns: case
            .record
            .promises
            .lag_p99_ns
            .saturating_mul(storm_workload::gate::LAG_GUARD_FACTOR),
    })
}

/// From healed to recovered: (instant of healing, instant of recovery if there was one).
pub(crate) fn recovered_of(case: &Case<'_>) -> Option<(u64, Option<u64>)> {
    let rule = case.record.promises.recovery.as_ref()?;
    let reference = reference(case)?;
    let healed = case.record.facts.all_healed_ns()?;
    let moments = moments(case, healed, rule.hold_ns / 3);
    Some((healed, recovery::recovered(&moments, &reference, rule)))
}

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let Some(rule) = &case.record.promises.recovery else {
        return finding.not_applicable("no recovery is watched");
    };
    let mut finding = finding;
    let Some(reference) = reference(case) else {
        finding.unless_convicted(Reason::NoControl);
        return finding;
    };
    if case.record.facts.steady_did_not_hold() {
        // Nothing was injected, so there is nothing to recover from.
        finding.unless_convicted(Reason::SteadyNotEstablished);
        return finding;
    }
    if let Err(why) = agrees(case) {
        finding.basis.push(why);
        finding.unless_convicted(Reason::ControlMismatch);
        return finding;
    }
    let Some((healed, recovered)) = recovered_of(case) else {
        finding.unless_convicted(Reason::NotHealed);
        return finding;
    };
    finding.cases = 1;
    match recovered {
        Some(at) if at.saturating_sub(healed) <= rule.within_ns => {
            let took = at.saturating_sub(healed) / 1_000_000;
            finding.basis(format!(
                "recovered {took} ms after healing, at most {} ms",
                rule.within_ns / 1_000_000
            ))
        }
        _ if case.record.facts.stopped.is_some() => {
            finding.unless_convicted(Reason::Stopped);
            finding
        }
        _ => {
            let last = moments(case, healed, rule.hold_ns / 3).iter().rev().find_map(|moment| {
                recovery::deviates(moment, &reference, rule).map(|why| (moment.at_ns, why))
            });
            finding.violation(|| {
                let why = last.as_ref().map_or_else(
                    || "the watch was too short to tell".to_owned(),
                    |(_, why)| why.clone(),
                );
                let what = format!(
                    "not back to control within {} ms of healing: {why}",
                    rule.within_ns / 1_000_000
                );
                case.violation(what, None, Some(last.as_ref().map_or(healed, |(at, _)| *at)))
            });
            finding
        }
    }
}

#[cfg(test)]
mod tests {
    use storm_record::facts::Mark;

    use crate::finding::Outcome;
    use crate::kit::{Kit, judged};
    use crate::verdict::Reason;

    #[test]
    fn a_system_that_stays_slow_is_convicted() {
        let mut kit = Kit::with_recovery();
        judged(&kit).passes();
        for slice in kit.record.slices.iter_mut().filter(|slice| slice.from_ns >= 6_000_000_000) {
            slice.due.iter_mut().for_each(|(_, second)| second.on_time = second.due / 2);
        }
        judged(&kit).only_fails("A2");
    }

    #[test]
    fn a_run_whose_steady_state_did_not_hold_had_nothing_to_recover_from() {
        let mut kit = Kit::with_recovery();
        kit.record.facts.marks.push(Mark::Steady { held: false, at_ns: 1 });
        for slice in kit.record.slices.iter_mut().filter(|slice| slice.from_ns >= 6_000_000_000) {
            slice.due.iter_mut().for_each(|(_, second)| second.on_time = second.due / 2);
        }
        judged(&kit).is_unsettled_by("A2", Reason::SteadyNotEstablished);
    }

    #[test]
    fn without_a_control_run_nothing_is_said() {
        let mut kit = Kit::with_recovery();
        kit.record.control = None;
        assert_eq!(judged(&kit).finding("A2").outcome, Outcome::Inconclusive);
    }
}
