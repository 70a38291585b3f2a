//! H1: silence is found in time.
use storm_record::facts::{FaultKind, SystemWhat};
use storm_record::ledger::row::ClosedBy;

use crate::case::Case;
use crate::finding::Finding;
use crate::sessions::silences;

/// Close code of the server's heartbeat.
const HEARTBEAT: u16 = chat_protocol::close::HEARTBEAT;
/// Share of the links that went silent for long enough which the server itself must have found.
const FOUND: f64 = 0.5;

pub(super) fn check(case: &Case<'_>, mut finding: Finding) -> Finding {
    let facts = &case.record.facts;
    let bounds = &case.bounds;
    let (least_ms, most_ms) =
        (bounds.half_open_min_ns() / 1_000_000, bounds.half_open_ns() / 1_000_000);
    // A node that was frozen finds what it missed when it goes on: its clock starts there.
    let frozen = |node: &str, at_ns: u64| {
        facts.faults.iter().any(|log| {
            log.kind.is_some_and(FaultKind::stops_node)
                && log.targets.nodes.iter().any(|name| name == node)
                && log.injected_ns.is_some_and(|from| from <= at_ns)
        })
    };
    // Silence is the fault's doing only for the devices and nodes it names.
    let touched = |device: u32, epoch: u64, at_ns: u64, silent_ns: u64| {
        let links = case.sessions.connections.get(&device).map_or(&[][..], Vec::as_slice);
        // A link that the device never learned of was lost on its way, which the fault may have done.
        let link = links.iter().find(|known| known.epoch == epoch);
        facts.faults.iter().any(|log| {
            let since = at_ns.saturating_sub(silent_ns + bounds.half_open_ns());
            let over = log.healed_ns.map_or(u64::MAX, |healed| healed + bounds.half_open_ns());
            let spared = log.kind.is_some_and(FaultKind::silences_links)
                && link.is_some_and(|link| !silences(log, link, bounds));
            let named = log.targets.devices.contains(&device) && !spared
                || log
                    .targets
                    .nodes
                    .iter()
                    .any(|node| links.iter().any(|known| *known.node == **node));
            named && log.injected_ns.is_some_and(|from| from <= at_ns) && since <= over
        })
    };
    let mut found = Vec::new();
    for fact in &facts.system {
        let SystemWhat::ConnectionClosed { device, conn_epoch, code, silent_ms } = fact.what else {
            continue;
        };
        finding.cases += 1;
        if code != HEARTBEAT {
            continue;
        }
        found.push((device, fact.at_ns));
        if frozen(&fact.node, fact.at_ns) {
            continue;
        }
        if silent_ms < least_ms || silent_ms > most_ms {
            finding.violation(|| {
                let what = format!(
                    "closed for silence after {silent_ms} ms (connection epoch {conn_epoch} on {}), allowed are {least_ms} to {most_ms} ms",
                    fact.node
                );
                case.violation(what, Some(device), Some(fact.at_ns))
            });
        } else if !touched(device, conn_epoch, fact.at_ns, silent_ms * 1_000_000) {
            finding.violation(|| {
                case.violation(
                    "a living link was closed for silence",
                    Some(device),
                    Some(fact.at_ns),
                )
            });
        }
    }
    for closed in case.record.ledger.closed.iter().filter(|closed| closed.by == ClosedBy::Patience)
    {
        finding.cases += 1;
        let silent_ns = closed.at_ns.saturating_sub(closed.last_frame_ns);
        if silent_ns > bounds.patience_ns() {
            finding.violation(|| {
                let what = format!(
                    "the client waited {} ms, at most {} ms",
                    silent_ns / 1_000_000,
                    bounds.patience_ns() / 1_000_000
                );
                case.violation(what, Some(closed.device), Some(closed.at_ns))
            });
        } else if !touched(closed.device, closed.conn_epoch, closed.at_ns, silent_ns) {
            finding.violation(|| {
                case.violation(
                    "the client gave up a living link",
                    Some(closed.device),
                    Some(closed.at_ns),
                )
            });
        }
    }
    for log in facts.faults.iter().filter(|log| log.kind == Some(FaultKind::BlackHole)) {
        let Some(injected) = log.injected_ns else { continue };
        let until = log.healing_ns.or(log.healed_ns).unwrap_or(facts.end_ns);
        if until < injected + bounds.half_open_ns() {
            continue;
        }
        let silent: Vec<u32> = log
            .targets
            .devices
            .iter()
            .copied()
            .filter(|device| case.sessions.at(*device, injected).is_some())
            .collect();
        let seen = silent.iter().filter(|device| {
            found.iter().any(|(of, at)| {
                of == *device && (injected..=injected + bounds.half_open_ns()).contains(at)
            })
        });
        let seen = seen.count();
        finding = finding.basis(format!(
            "{}: {seen} of {} silent links found by the server",
            log.step,
            silent.len()
        ));
        finding.cases += silent.len() as u64;
        if crate::survey::ratio(seen as u64, silent.len() as u64) < FOUND && !silent.is_empty() {
            finding.violation(|| {
                let what = format!(
                    "the server found {seen} of {} silent links within {most_ms} ms",
                    silent.len()
                );
                case.violation(what, silent.first().copied(), Some(injected))
            });
        }
    }
    if finding.cases == 0 {
        return finding.not_applicable("no connection was closed by either side");
    }
    finding.closed()
}

#[cfg(test)]
mod tests {
    use storm_record::facts::{FaultKind, SystemFact, SystemWhat};

    use crate::kit::{Kit, judged};

    fn closed(silent_ms: u64) -> SystemFact {
        let what = SystemWhat::ConnectionClosed { device: 2, conn_epoch: 1, code: 4408, silent_ms };
        SystemFact { at_ns: 9_000_000_000, node: "gateway-1".to_owned(), what }
    }

    #[test]
    fn a_living_link_closed_for_silence_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.facts.system.push(closed(2_000));
        judged(&kit).only_fails("H1");
    }

    #[test]
    fn silence_found_too_late_is_convicted() {
        let mut kit = Kit::clean();
        kit.fault(FaultKind::BlackHole, 4_000_000_000, 8_000_000_000).targets.devices = vec![2];
        kit.record.facts.system.push(closed(60_000));
        judged(&kit).only_fails("H1");
    }

    #[test]
    fn a_link_dialled_after_a_black_hole_came_is_a_living_one() {
        for (back_ns, convicted) in [(4_100_000_000, false), (7_500_000_000, true)] {
            let mut kit = Kit::clean();
            kit.fault(FaultKind::BlackHole, 4_000_000_000, 10_000_000_000).targets.devices =
                vec![2];
            kit.reconnect(2, back_ns - 1, back_ns);
            // The server found the old link, and takes the new one for silent as well.
            let mut old = closed(4_000);
            old.at_ns = 8_000_000_000;
            let mut new = closed(2_000);
            if let SystemWhat::ConnectionClosed { conn_epoch, .. } = &mut new.what {
                *conn_epoch = 2;
            }
            new.at_ns = 9_500_000_000;
            kit.record.facts.system.extend([old, new]);
            let report = judged(&kit);
            let found = &report.finding("H1").evidence;
            let living = found.iter().any(|found| found.what.contains("a living link was closed"));
            assert_eq!(living, convicted, "{found:#?}");
        }
    }

    #[test]
    fn links_that_nobody_finds_silent_are_convicted() {
        let mut kit = Kit::clean();
        kit.fault(FaultKind::BlackHole, 4_000_000_000, 12_000_000_000).targets.devices = vec![2, 3];
        judged(&kit).only_fails("H1");
    }
}
