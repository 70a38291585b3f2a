//! Z2: every fault and healing is witnessed.
use storm_record::facts::{FaultKind, FaultLog, SystemWhat};
use storm_record::ledger::row::ClosedBy;

use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;

/// From injection to the first reaction of the system, nanoseconds.
pub(crate) fn detected_ns(case: &Case<'_>, log: &FaultLog) -> Option<u64> {
    let injected = log.injected_ns?;
    let facts = &case.record.facts;
    let on_node = |node: &str| {
        log.targets.nodes.is_empty() || log.targets.nodes.iter().any(|name| name == node)
    };
    let of_device = |device: u32| {
        log.targets.devices.contains(&device)
            || case
                .sessions
                .at(device, injected)
                .is_some_and(|at| on_node(&at.node) && !log.targets.nodes.is_empty())
    };
    let reacts = |what: &SystemWhat, node: &str| match what {
        SystemWhat::ConnectionClosed { device, code, .. } => {
            *code != chat_protocol::close::NORMAL && of_device(*device)
        }
        SystemWhat::Fenced => on_node(node),
        SystemWhat::RouteSwept(device) => of_device(*device),
        SystemWhat::LeaderElected { .. } => !log.targets.brokers.is_empty(),
        SystemWhat::PartitionAssigned { .. } => log.kind.is_some_and(FaultKind::stops_node),
        SystemWhat::FloorRaised(_)
        | SystemWhat::PartitionStopped { .. }
        | SystemWhat::EventsLost => false,
    };
    let system = facts
        .system
        .iter()
        .filter(|fact| fact.at_ns >= injected && reacts(&fact.what, &fact.node))
        .map(|fact| fact.at_ns);
    let closed = case.record.ledger.closed.iter();
    let closed = closed
        .filter(|closed| closed.at_ns >= injected && of_device(closed.device))
        .filter(|closed| !matches!(closed.by, ClosedBy::Left | ClosedBy::End))
        .map(|closed| closed.at_ns);
    let routes = facts
        .routes
        .iter()
        .filter(|change| change.at_ns >= injected && of_device(change.device))
        .map(|change| change.at_ns);
    let first = system.chain(closed).chain(routes).min()?;
    Some(first - injected)
}

pub(super) fn check(case: &Case<'_>, mut finding: Finding) -> Finding {
    let facts = &case.record.facts;
    let not_held = facts.steady_did_not_hold();
    for step in &case.record.promises.steps {
        let injected =
            facts.faults.iter().any(|log| log.step == step.id && log.injected_ns.is_some());
        if !injected {
            finding.cases += 1;
            let reason = if not_held { Reason::SteadyNotEstablished } else { Reason::NotWitnessed };
            finding.basis.push(format!("{}: not injected", step.id));
            finding.unless_convicted(reason);
        }
    }
    for log in &facts.faults {
        finding.cases += 1;
        let name = format!("{} ({})", log.step, log.kind.map_or("unknown", FaultKind::name));
        if log.injected_ns.is_none() {
            finding.basis.push(format!(
                "{name}: not injected, {}",
                log.trouble.as_deref().unwrap_or("no reason given")
            ));
            finding.unless_convicted(Reason::NotWitnessed);
        } else if log.witnessed_ns.is_none() {
            finding.basis.push(format!("{name}: not witnessed"));
            finding.unless_convicted(Reason::NotWitnessed);
        } else if log.lapsed_ns.is_some() {
            finding.basis.push(format!("{name}: lapsed before it was healed"));
            finding.unless_convicted(Reason::NotWitnessed);
        } else if log.healed_ns.is_none() {
            finding.basis.push(format!(
                "{name}: healing not witnessed, {}",
                log.trouble.as_deref().unwrap_or("no evidence")
            ));
            finding.unless_convicted(Reason::NotHealed);
        } else {
            finding.basis.push(format!("{name}: witnessed and healed"));
        }
    }
    if finding.cases == 0 {
        return finding.not_applicable("no fault was planned");
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::facts::FaultKind;

    use crate::kit::{Kit, judged};
    use crate::verdict::{Reason, Verdict};

    #[test]
    fn a_witnessed_and_healed_fault_is_in_order() {
        let mut kit = Kit::clean();
        kit.fault(FaultKind::ConsumerPause, 4_000_000_000, 6_000_000_000);
        judged(&kit).passes();
    }

    #[test]
    fn a_fault_that_was_not_seen_to_bite_unsettles_this_alone() {
        let mut kit = Kit::clean();
        kit.fault(FaultKind::ConsumerPause, 4_000_000_000, 6_000_000_000).witnessed_ns = None;
        judged(&kit).is_unsettled_by("Z2", Reason::NotWitnessed);
    }

    #[test]
    fn a_fault_that_did_not_bite_proves_nothing() {
        for (mutate, reason) in
            [(0, Reason::NotWitnessed), (1, Reason::NotHealed), (2, Reason::NotWitnessed)]
        {
            let mut kit = Kit::clean();
            let log = kit.fault(FaultKind::ConsumerPause, 4_000_000_000, 6_000_000_000);
            match mutate {
                0 => log.witnessed_ns = None,
                1 => log.healed_ns = None,
                _ => log.lapsed_ns = Some(5_000_000_000),
            }
            let report = judged(&kit);
            assert_eq!(report.0.verdict, Verdict::Inconclusive);
            assert!(report.0.reasons.contains(&reason), "{:?}", report.0.reasons);
        }
    }
}
