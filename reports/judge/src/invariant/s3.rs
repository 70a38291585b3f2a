//! S3: a connected device is routed.
use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let sessions = &case.sessions;
    let mut finding = finding
        .cases(sessions.checked)
        .basis(format!("a route within {} ms", case.bounds.routed_ns() / 1_000_000));
    if case.record.facts.routes.is_empty() {
        finding.unless_convicted(Reason::ObserverLost);
        return finding;
    }
    for missing in &sessions.missing {
        finding.violation(|| {
            let what = format!(
                "connected to {} (connection epoch {}) without a route for {} ms",
                missing.node,
                missing.epoch,
                missing.len_ns / 1_000_000
            );
            case.violation(what, Some(missing.device), Some(missing.from_ns))
        });
    }
    if sessions.checked == 0 {
        return finding.not_applicable("no connection lasted long enough to need a route");
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::facts::{FaultKind, RouteFact};

    use crate::kit::{Kit, judged};

    const WIPED_NS: u64 = 4_000_000_000;

    /// The registry is emptied, and one device has its route again so much later.
    fn wiped(kind: FaultKind, ports: &[&str], later_ns: u64) -> Kit {
        let mut kit = Kit::clean();
        let log = kit.fault(kind, WIPED_NS, WIPED_NS + 1_000_000_000);
        log.targets.ports = ports.iter().map(|port| (*port).to_owned()).collect();
        let routes = &mut kit.record.facts.routes;
        let route = routes.iter().find(|change| change.device == 2).and_then(|c| c.route.clone());
        routes.push(RouteFact { device: 2, route: None, at_ns: WIPED_NS });
        routes.push(RouteFact { device: 2, route, at_ns: WIPED_NS + later_ns });
        routes.sort_by_key(|change| change.at_ns);
        kit
    }

    #[test]
    fn a_route_that_a_wipe_took_has_the_time_to_be_rebuilt_and_no_more() {
        let wipe = |later_ns| wiped(FaultKind::RegistryWipe, &["registry"], later_ns);
        judged(&wipe(4_500_000_000)).passes();
        judged(&wipe(6_000_000_000)).only_fails("S3");
    }

    #[test]
    fn a_fault_on_another_port_excuses_no_missing_route() {
        let slow = |port| wiped(FaultKind::PortSlow, &[port], 4_500_000_000);
        judged(&slow("registry")).passes();
        judged(&slow("history")).only_fails("S3");
    }

    #[test]
    fn a_connected_device_without_route_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.facts.routes.retain(|change| change.device != 2);
        judged(&kit).only_fails("S3");
    }
}
