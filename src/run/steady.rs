//! Whether the steady state held, from the newest slices, before a fault may be injected.
//!
//! The verdict about steady state is the judge's, over all gates and with every late sample; this look decides only whether
//! there is a point in breaking something, so it takes the latency gates of the steady window as far as they are known.
use storm_record::series::{Basis, Filter, Samples};
use storm_record::store::Collector;
use storm_workload::Plan;
use storm_workload::gate::Gate;
use storm_workload::plan::Window;

/// Judges the latency gates on the slices of the steady window so far.
pub(super) fn holds(plan: &Plan, collector: &Collector) -> bool {
    let steady = plan.phases.iter().position(|phase| phase.window == Window::Steady);
    let Some(steady) = steady.and_then(|at| u16::try_from(at).ok()) else { return false };
    collector.look(|live| {
        let mut gates = plan.gates.iter().filter_map(|gate| Some((gate, limit_ns(gate)?)));
        let of_gate = |gate: &Gate| {
            let filter = Filter {
                metric: gate.metric,
                basis: Basis::Response,
                path: gate.path,
                blast: None,
            };
            let mut all = Samples::default();
            for slice in live.slices.iter().filter(|slice| slice.window == steady) {
                all.add(&slice.samples(&filter));
            }
            all
        };
        gates.all(|(gate, limit)| {
            let Some(quantile) = gate.stat.quantile_e4() else { return true };
            of_gate(gate).quantile_e4(quantile).is_some_and(|value| value.ns() <= limit)
        })
    })
}

/// The upper limit of a gate on a time; other gates have none.
fn limit_ns(gate: &Gate) -> Option<u64> {
    let limit = gate.max.and_then(storm_workload::gate::Bound::time)?;
    (gate.over() == Window::Steady.name()).then_some(limit.0)
}
