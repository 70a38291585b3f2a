//! From phases and load shapes of a file to stretches of constant rate with exact counts.

use super::phase::{Condition, End, Phase, Window};
use crate::file::{Load, PhaseRole, PhaseSpec, Until};
use crate::schedule::Segment;
use crate::units::{MILLION, Rate};

/// Length of one constant stretch of a ramp.
const RAMP_STEP_NS: u64 = 100_000_000;

pub(super) fn lower_phase(spec: &PhaseSpec) -> Phase {
    let end = match (spec.for_, spec.until, spec.limit) {
        (Some(len), ..) => End::After(len),
        (None, Some(until), Some(limit)) => {
            let condition = match until {
                Until::Connected => Condition::Connected,
                Until::Steady => Condition::Steady,
                Until::Settled => Condition::Settled,
            };
            End::Until { condition, limit }
        }
        _ => unreachable!("phases without a length are refused by the checks"),
    };
    let window = match spec.role {
        PhaseRole::WarmUp => Window::WarmUp,
        PhaseRole::Steady => Window::Steady,
        PhaseRole::Stress => Window::Stress,
        PhaseRole::Drain => Window::Drain,
    };
    Phase {
        name: spec.name.clone(),
        window,
        end,
        load: spec.load,
        from_ns: None,
        streams: Vec::new(),
    }
}

/// Load in millionths at the start and, as the larger of both, at the peak.
pub(super) fn loads(load: Load) -> (u64, u64) {
    match load {
        Load::None => (0, 0),
        Load::Hold(factor) => (factor.0, factor.0),
        Load::Ramp(ramp) => (ramp.from.0, ramp.from.0.max(ramp.to.0)),
    }
}

/// Lowers a load shape to stretches of constant rate with exact counts.
pub(super) fn segments(rate: Rate, load: Load, len_ns: u64) -> Vec<Segment> {
    // Intents = rate (millionths a second) x load (millionths) x nanoseconds over these denominators.
    const DENOMINATOR: u128 = 1_000_000_000 * (MILLION as u128) * (MILLION as u128);
    let count = |weight: u128| u64::try_from(weight / DENOMINATOR).unwrap_or(u64::MAX);
    match load {
        Load::None => Vec::new(),
        Load::Hold(factor) => {
            let weight = u128::from(rate.0) * u128::from(factor.0) * u128::from(len_ns);
            vec![Segment { start_ns: 0, len_ns, count: count(weight) }]
        }
        Load::Ramp(ramp) => {
            // The area under the line up to each boundary, rounded down, gives counts that add up exactly.
            let (from, to) = (u128::from(ramp.from.0), u128::from(ramp.to.0));
            let area = |at: u64| {
                let at = u128::from(at);
                let len = u128::from(len_ns.max(1));
                // Average load up to `at` is from + (to - from) x at / (2 len), here without a negative step.
                let doubled = (2 * len * from).saturating_sub(from * at) + to * at;
                count(u128::from(rate.0) * at / 2 * (doubled / len))
            };
            let starts = (0..len_ns)
                .step_by(usize::try_from(RAMP_STEP_NS).expect("a usize has at least 32 bits"));
            let mut done = 0;
            starts
                .map(|start_ns| {
                    let end_ns = (start_ns + RAMP_STEP_NS).min(len_ns);
                    // Rounding of the average may make the area step back by one where the load is close to 0.
                    let up_to = area(end_ns).max(done);
                    let count = up_to - std::mem::replace(&mut done, up_to);
                    Segment { start_ns, len_ns: end_ns - start_ns, count }
                })
                .collect()
        }
    }
}
