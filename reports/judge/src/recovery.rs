//! When a system is back to its control run.
use storm_record::promises::Recovery;

/// A difference of latency below this is noise, nanoseconds.
const NOISE_NS: u64 = 2_000_000;

/// The state in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// End of the second, nanoseconds since the run's start.
    pub at_ns: u64,
    /// Share of the sends due that were delivered everywhere within a second; `None` when none was due.
    pub on_time: Option<f64>,
    /// Delivered p99 over the last third of the hold time.
    pub p99_ns: Option<u64>,
    /// Most connections of a gateway over the mean.
    pub imbalance: Option<f64>,
    /// Connections on all gateways.
    pub connections: u64,
    /// Deliveries owed at the end of the second.
    pub owed: u64,
}

/// What the control run reached under the same load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reference {
    /// Share delivered on time.
    pub on_time: f64,
    /// Largest delivered p99 over a third of the hold time.
    pub p99_ns: u64,
    /// Most deliveries owed.
    pub owed: u64,
    /// Gateways.
    pub gateways: u64,
    /// Latencies below this cannot be told apart: the generator's own lateness could decide.
    pub floor_ns: u64,
}

/// Why a second does not count as recovered.
pub fn deviates(moment: &Moment, reference: &Reference, rule: &Recovery) -> Option<String> {
    if let Some(on_time) = moment.on_time.filter(|share| *share < rule.on_time * reference.on_time)
    {
        return Some(format!(
            "{:.2} % on time, control {:.2} %",
            on_time * 100.0,
            reference.on_time * 100.0
        ));
    }
    let factor =
        std::time::Duration::from_nanos(reference.p99_ns).mul_f64(rule.latency_factor.max(1.0));
    let most = u64::try_from(factor.as_nanos()).unwrap_or(u64::MAX);
    let most = most.max(reference.p99_ns.saturating_add(NOISE_NS)).max(reference.floor_ns);
    if let Some(p99) = moment.p99_ns.filter(|p99| *p99 > most) {
        return Some(format!(
            "delivered p99 {} ms, at most {} ms",
            p99 / 1_000_000,
            most / 1_000_000
        ));
    }
    let even = rule.imbalance.unwrap_or_else(|| even(reference.gateways, moment.connections));
    if let Some(imbalance) = moment.imbalance.filter(|imbalance| *imbalance > even) {
        return Some(format!(
            "{imbalance:.2} times the mean of connections on one gateway, at most {even:.2}"
        ));
    }
    let owed = reference.owed.saturating_mul(2).max(50);
    (moment.owed > owed).then(|| format!("{} deliveries owed, at most {owed}", moment.owed))
}

/// Most connections of a gateway over the mean that a draw of gateways by devices explains, where one gateway may have come
/// back empty: 5 %, or four standard deviations of the binomial distribution where few connections make that more.
#[expect(
    clippy::cast_precision_loss,
    reason = "a handful of gateways, and thousands of connections"
)]
fn even(gateways: u64, connections: u64) -> f64 {
    let gateways = gateways.max(2) as f64;
    let left = gateways - 1.0;
    let chance = 4.0 * ((left - 1.0) / connections.max(1) as f64).sqrt();
    gateways / left * (1.0 + chance.max(0.05))
}

/// From when on the system is recovered: the first second from which nothing deviates for the hold time. The last second may
/// be cut short by the end of the watch, hence two seconds of grace.
pub fn recovered(moments: &[Moment], reference: &Reference, rule: &Recovery) -> Option<u64> {
    let hold_ns = rule.hold_ns.saturating_sub(2_000_000_000).max(1);
    let mut since: Option<u64> = None;
    for moment in moments {
        if deviates(moment, reference, rule).is_some() {
            since = None;
            continue;
        }
        let from = *since.get_or_insert(moment.at_ns.saturating_sub(1_000_000_000));
        if moment.at_ns - from >= hold_ns {
            return Some(from);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Recovery = Recovery {
        within_ns: 60_000_000_000,
        hold_ns: 5_000_000_000,
        on_time: 0.99,
        latency_factor: 1.1,
        imbalance: None,
    };
    const REFERENCE: Reference =
        Reference { on_time: 1.0, p99_ns: 20_000_000, owed: 10, gateways: 3, floor_ns: 0 };

    fn good(second: u64) -> Moment {
        Moment {
            at_ns: second * 1_000_000_000,
            on_time: Some(1.0),
            p99_ns: Some(21_000_000),
            imbalance: Some(1.2),
            connections: 10_000,
            owed: 5,
        }
    }

    #[test]
    fn a_relapse_starts_the_hold_again() {
        let mut moments: Vec<Moment> = (1..=20).map(good).collect();
        moments[0].on_time = Some(0.5);
        moments[2].p99_ns = Some(500_000_000);
        assert_eq!(recovered(&moments, &REFERENCE, &RULE), Some(3_000_000_000));
    }

    #[test]
    fn few_connections_may_lie_less_evenly() {
        assert!((even(3, 1_000_000) - 1.575).abs() < 1e-9);
        // 364 of 702 is the mean of two gateways plus one standard deviation.
        assert!(even(3, 702) > 1.70 && even(3, 702) < 1.75);
        assert!((even(2, 100) - 2.1).abs() < 1e-9, "one gateway has them all");
    }

    #[test]
    fn each_part_can_hold_it_back() {
        for mutate in 0..4 {
            let moments: Vec<Moment> = (1..=20)
                .map(|second| {
                    let mut moment = good(second);
                    match mutate {
                        0 => moment.on_time = Some(0.98),
                        1 => moment.p99_ns = Some(30_000_000),
                        2 => moment.imbalance = Some(1.7),
                        _ => moment.owed = 1_000,
                    }
                    moment
                })
                .collect();
            assert_eq!(recovered(&moments, &REFERENCE, &RULE), None, "part {mutate}");
        }
    }
}
