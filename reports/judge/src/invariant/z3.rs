//! Z3: nothing is left behind, and every observer looked to the end.
use storm_record::facts::ObserverLost;

use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let facts = &case.record.facts;
    let mut finding = finding.cases(1);
    for log in
        facts.faults.iter().filter(|log| log.injected_ns.is_some() && log.healed_ns.is_none())
    {
        finding.basis.push(format!("{} is left behind: {}", log.step, log.undo));
        finding.unless_convicted(Reason::NotHealed);
    }
    for lost in &facts.lost {
        finding.basis.push(format!("{}: {}", lost.observer, lost.why));
        let generator = lost.observer == ObserverLost::LOAD;
        let reason = if generator { Reason::WorkerLost } else { Reason::ObserverLost };
        finding.unless_convicted(reason);
    }
    if case.record.ledger.counts().rows_dropped > 0 {
        finding
            .basis
            .push(format!("{} rows found no room", case.record.ledger.counts().rows_dropped));
        finding.unless_convicted(Reason::ObserverLost);
    }
    match &facts.last {
        None => finding.unless_convicted(Reason::NoFinalPhase),
        Some(last) if !last.drained || !last.read => {
            finding.basis.extend(last.missing.iter().cloned());
            finding.unless_convicted(Reason::NoFinalPhase);
        }
        Some(_) => {}
    }
    if let Some(stopped) = &facts.stopped {
        finding.basis.push(format!("stopped: {}", stopped.why));
        finding.unless_convicted(Reason::Stopped);
    }
    finding
}

#[cfg(test)]
mod tests {
    use storm_record::facts::{FaultKind, ObserverLost, Stopped};
    use storm_record::ledger::ROWS_MAX;
    use storm_record::ledger::row::Row;

    use crate::kit::{Kit, judged};
    use crate::verdict::Reason;

    #[test]
    fn a_blind_observer_makes_a_run_inconclusive() {
        let mut kit = Kit::clean();
        let (observer, why) = ("routes".to_owned(), "timed out".to_owned());
        kit.record.facts.lost.push(ObserverLost { observer, why, at_ns: 1 });
        judged(&kit).is_unsettled_by("Z3", Reason::ObserverLost);
    }

    #[test]
    fn a_generator_that_died_makes_a_run_inconclusive() {
        let mut kit = Kit::clean();
        let (observer, why) = (ObserverLost::LOAD.to_owned(), "a thread died".to_owned());
        kit.record.facts.lost.push(ObserverLost { observer, why, at_ns: 1 });
        judged(&kit).is_unsettled_by("Z3", Reason::WorkerLost);
    }

    #[test]
    fn a_fault_that_stays_and_rows_without_room_make_a_run_inconclusive() {
        let mut kit = Kit::clean();
        kit.record.ledger.rows =
            vec![Row::RefusedBare { n: kit.some_number(), at_ns: 1 }; ROWS_MAX];
        kit.record.ledger.dseq_hole(1, 1, 5, 7, 1);
        assert_eq!(judged(&kit).finding("Z3").reason, Some(Reason::ObserverLost));
        let mut kit = Kit::clean();
        kit.fault(FaultKind::ConsumerPause, 4_000_000_000, 6_000_000_000).healed_ns = None;
        let left = judged(&kit);
        assert_eq!(left.finding("Z3").reason, Some(Reason::NotHealed));
        assert!(left.finding("Z3").basis[0].contains("is left behind"));
    }

    #[test]
    fn a_drain_that_did_not_end_makes_a_run_inconclusive() {
        let mut kit = Kit::clean();
        kit.record.facts.last.as_mut().unwrap().read = false;
        assert_eq!(judged(&kit).finding("Z3").reason, Some(Reason::NoFinalPhase));
        kit.record.facts.last = None;
        assert_eq!(judged(&kit).0.reasons, [Reason::NoFinalPhase]);
    }

    #[test]
    fn a_stopped_run_exits_with_its_own_code() {
        let mut kit = Kit::clean();
        kit.record.facts.stopped = Some(Stopped { why: "signal".to_owned(), at_ns: 1 });
        let report = judged(&kit);
        assert_eq!((report.0.exit_code, report.0.reasons.as_slice()), (13, &[Reason::Stopped][..]));
    }
}
