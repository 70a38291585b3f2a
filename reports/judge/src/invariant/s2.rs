//! S2: stale routes are bounded.
use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let sessions = &case.sessions;
    let worst = sessions.stale.iter().max_by_key(|stale| stale.len_ns);
    let mut finding = finding.cases(sessions.gone);
    if let Some(worst) = worst {
        finding = finding.basis(format!(
            "oldest stale route {} ms, at most {} ms since {}",
            worst.len_ns / 1_000_000,
            worst.bound_ns / 1_000_000,
            worst.why
        ));
    }
    for stale in sessions.stale.iter().filter(|stale| stale.len_ns > stale.bound_ns) {
        finding.violation(|| {
            let what = format!(
                "the route to {} (connection epoch {}) stood {} ms after {}, at most {} ms are allowed",
                stale.node,
                stale.epoch,
                stale.len_ns / 1_000_000,
                stale.why,
                stale.bound_ns / 1_000_000
            );
            case.violation(what, Some(stale.device), Some(stale.from_ns))
        });
    }
    if sessions.gone == 0 {
        return finding.not_applicable("no connection with a route ended");
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::facts::FaultKind;

    use crate::finding::Outcome;
    use crate::kit::{Kit, judged};

    #[test]
    fn a_route_that_outlives_its_connection_is_convicted() {
        let mut kit = Kit::clean();
        kit.reconnect(2, 3_000_000_000, 11_000_000_000);
        // The route of the first connection stays until the second one replaces it.
        kit.record.facts.routes.retain(|change| !(change.device == 2 && change.route.is_none()));
        judged(&kit).only_fails("S2");
    }

    #[test]
    fn the_route_of_a_device_that_left_a_silent_link_may_wait_until_its_node_finds_out() {
        for (told, kept) in [(true, true), (false, false)] {
            let mut kit = Kit::clean();
            kit.reconnect(2, 3_000_000_000, 5_500_000_000);
            kit.record.facts.routes.retain(|at| !(at.device == 2 && at.route.is_none()));
            let devices = if told { vec![2] } else { Vec::new() };
            // The device was told while the act was under way: its link ended before the fault was noted.
            let log = kit.fault(FaultKind::BlackHoleTold, 3_000_500_000, 9_000_000_000);
            log.began_ns = Some(2_999_000_000);
            log.targets.devices = devices;
            let report = judged(&kit);
            let stale = report.finding("S2");
            assert_eq!(stale.outcome == Outcome::Pass, kept, "{stale:#?}");
        }
    }
}
