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
    use crate::kit::{Kit, judged};

    #[test]
    fn a_connected_device_without_route_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.facts.routes.retain(|change| change.device != 2);
        judged(&kit).only_fails("S3");
    }
}
