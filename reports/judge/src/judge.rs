//! From a record to a report.
use storm_record::Record;
use storm_record::facts::{FaultLog, Mark};
use storm_workload::plan::Window;

use crate::case::Case;
use crate::control;
use crate::coverage;
use crate::finding::{Finding, Outcome};
use crate::gate::{self, Doubt, Scope};
use crate::guard;
use crate::invariant::{self, Class, detected_ns, recovered_of};
use crate::report::{
    Commands, Condition, ControlReport, FaultReport, GateResult, Hypothesis, Identity,
    LedgerReport, Quantity, RecoveryReport, Report, SCHEMA, WindowRow,
};
use crate::tables;
use crate::verdict::{Exit, Reason, Verdict};
use crate::world::{PlanError, World};

/// Judges a run. The same record gives the same report, byte for byte.
///
/// # Errors
/// The stored plan is of another version.
pub fn judge(record: &Record) -> Result<Report, PlanError> {
    let case = Case::new(record, World::read(&record.plan)?);
    Ok(report(&case))
}

fn report(case: &Case<'_>) -> Report {
    let record = case.record;
    let facts = &record.facts;
    let guards = guard::all(case);
    let doubt = Doubt { all: guard::saturated(&guards), misses: guard::crowded(&guards) };
    let coverage = coverage::conditions(case);
    let findings: Vec<Finding> = invariant::ALL
        .iter()
        .map(|invariant| {
            let mut finding = invariant.judge(case);
            // A broken promise of conduct may be the generator's or the host's doing; a lost message never is.
            if invariant.class == Class::Conduct
                && matches!(finding.outcome, Outcome::Fail)
                && let Some(reason) = doubt.all.or(doubt.misses)
            {
                finding.outcome = Outcome::Inconclusive;
                finding.reason = Some(reason);
            }
            weaken(&mut finding, invariant.wants, &coverage);
            finding
        })
        .collect();
    let gates = gates(case, doubt);
    let invariant_broken = findings.iter().any(|finding| finding.outcome == Outcome::Fail);
    let gate_missed = gates.iter().any(|gate| gate.fails && gate.outcome == Outcome::Fail);
    let mut reasons: Vec<Reason> = findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::Inconclusive)
        .filter_map(|finding| finding.reason)
        .chain(
            gates
                .iter()
                .filter(|gate| gate.fails && gate.outcome == Outcome::Inconclusive)
                .filter_map(|gate| gate.reason),
        )
        .collect();
    if record.manifest.steered {
        reasons.push(Reason::Stopped);
    }
    reasons.sort_unstable();
    reasons.dedup();
    let inconclusive = !reasons.is_empty();
    let verdict = match (invariant_broken || gate_missed, inconclusive) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Inconclusive,
        (false, false) => Verdict::Pass,
    };
    let exit = Exit::worst([
        (Exit::Invariant, invariant_broken),
        (Exit::Gate, gate_missed),
        (Exit::Stopped, facts.stopped.is_some()),
        (Exit::Inconclusive, inconclusive),
    ]);
    let headline = headline(verdict, &findings, &gates, &reasons, record);
    Report {
        schema: SCHEMA.to_owned(),
        verdict,
        exit_code: exit.code(),
        headline,
        hypothesis: record.manifest.hypothesis.clone(),
        hypothesis_is: hypothesis(case, &gates),
        identity: identity(record),
        windows: windows(case),
        latency: tables::latency(case),
        ledger: ledger(case),
        faults: facts.faults.iter().map(|log| fault(case, log)).collect(),
        recovery: recovery(case),
        cpu: tables::cpu(case),
        batches: tables::batches(case),
        control: compared(case),
        coverage,
        damaged: record.damaged.clone(),
        commands: Commands {
            repeat: record.manifest.command.clone(),
            again: record.manifest.again.clone(),
        },
        reasons,
        findings,
        gates,
        guards,
    }
}

fn weaken(finding: &mut Finding, wants: &[&str], coverage: &[Condition]) {
    if finding.outcome != Outcome::Pass {
        return;
    }
    for want in wants {
        let promised =
            coverage.iter().find(|condition| condition.name == **want && condition.promised);
        if promised.is_some_and(|condition| condition.reached == 0) {
            finding.weak.push(format!("`{want}` was not reached"));
        }
    }
}

fn gates(case: &Case<'_>, doubt: Doubt) -> Vec<GateResult> {
    let promises = &case.record.promises;
    let mut all = Vec::new();
    for gate in &promises.slo {
        all.push(gate::judge(case, gate, "slo", &Scope::named(case, gate.over()), doubt));
    }
    for gate in &promises.steady_state {
        all.push(gate::judge(case, gate, "steady-state", &Scope::named(case, gate.over()), doubt));
    }
    if let Some(after) = after_recovery(case) {
        for gate in &promises.steady_state {
            all.push(gate::judge(case, gate, "steady-state after recovery", &after, doubt));
        }
    }
    for expect in &promises.expects {
        let scope = if expect.gate.over() == "step" {
            step(case, &expect.step)
        } else {
            Scope::named(case, expect.gate.over())
        };
        all.push(gate::judge(case, &expect.gate, &expect.step, &scope, doubt));
    }
    all
}

/// The hold time at the end of the recovery watch, when the method ran.
fn after_recovery(case: &Case<'_>) -> Option<Scope> {
    let rule = case.record.promises.recovery?;
    let (_, span) = case.windows(Window::Recovery).next()?;
    let from_ns = span.to_ns.saturating_sub(rule.hold_ns).max(span.from_ns);
    Some(Scope::between(from_ns, span.to_ns, Window::Recovery))
}

/// From the injection of a step's first fault until all of them were healed.
fn step(case: &Case<'_>, id: &str) -> Scope {
    let faults = case.record.facts.faults.iter().filter(|log| log.step == id);
    let (mut from, mut to) = (u64::MAX, 0);
    for log in faults {
        from = from.min(log.injected_ns.unwrap_or(u64::MAX));
        to = to.max(log.healed_ns.unwrap_or(case.record.facts.end_ns));
    }
    if from < to { Scope::between(from, to, Window::Fault) } else { Scope::named(case, "fault") }
}

fn hypothesis(case: &Case<'_>, gates: &[GateResult]) -> Option<Hypothesis> {
    case.record.manifest.hypothesis.as_ref()?;
    let not_held =
        case.record.facts.marks.iter().any(|mark| matches!(mark, Mark::Steady { held: false, .. }));
    let before = gates
        .iter()
        .filter(|gate| gate.of == "steady-state")
        .all(|gate| gate.outcome == Outcome::Pass);
    Some(if not_held || !before {
        Hypothesis::NotEstablished
    } else if gates.iter().any(|gate| gate.fails && gate.outcome != Outcome::Pass) {
        Hypothesis::Deviated
    } else {
        Hypothesis::Held
    })
}

fn headline(
    verdict: Verdict,
    findings: &[Finding],
    gates: &[GateResult],
    reasons: &[Reason],
    record: &Record,
) -> String {
    let broken: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::Fail)
        .map(|f| f.id.as_str())
        .collect();
    let missed: Vec<&str> = gates
        .iter()
        .filter(|gate| gate.fails && gate.outcome == Outcome::Fail)
        .map(|gate| gate.name.as_str())
        .collect();
    let mut text = match verdict {
        Verdict::Pass => "Pass: every invariant held and every gate was met".to_owned(),
        Verdict::Inconclusive => {
            let reasons: Vec<&str> = reasons.iter().map(|reason| reason.name()).collect();
            format!("Inconclusive: {}", reasons.join(", "))
        }
        Verdict::Fail => {
            let mut parts = Vec::new();
            if !broken.is_empty() {
                parts.push(format!("{} broken", broken.join(", ")));
            }
            if !missed.is_empty() {
                parts.push(format!("missed {}", missed.join(", ")));
            }
            format!("Fail: {}", parts.join("; "))
        }
    };
    if !record.manifest.variants.is_empty() {
        text = format!("{text} (with {})", record.manifest.variants.join(", "));
    }
    text
}

fn identity(record: &Record) -> Identity {
    let manifest = record.manifest.clone();
    Identity {
        run: manifest.run,
        version: manifest.version,
        substrate: manifest.substrate,
        scenario: manifest.scenario,
        experiment: manifest.experiment,
        arm: manifest.arm,
        seed: manifest.seed,
        scale: manifest.scale,
        plan_hash: manifest.plan_hash,
        binary: manifest.binary,
        host: manifest.host,
        variants: manifest.variants,
        settings: manifest.settings,
        servers: manifest.servers,
        started_ms: manifest.started_ms,
    }
}

fn windows(case: &Case<'_>) -> Vec<WindowRow> {
    let rows = case.spans().map(|(at, span)| {
        let counts = case.record.counts(at);
        let shares = control::shares(&control::due_of(case.record, span));
        WindowRow {
            window: span.name.clone(),
            kind: span.window.name().to_owned(),
            from_ms: span.from_ns / 1_000_000,
            len_ms: (span.to_ns - span.from_ns) / 1_000_000,
            offered: counts.offered,
            fired: counts.fired,
            written: counts.written,
            accepted: counts.accepted,
            delivered: counts.delivered,
            rejected: counts.rejected,
            unknown: counts.unknown,
            dropped: counts.dropped,
            goodput: shares.map(|(good, _)| good),
            on_time: shares.map(|(_, on_time)| on_time),
            connects: counts.connects,
        }
    });
    rows.collect()
}

fn ledger(case: &Case<'_>) -> LedgerReport {
    let survey = &case.survey;
    let counts = case.record.ledger.counts();
    LedgerReport {
        planned: survey.planned,
        submitted: survey.submitted,
        accepted: survey.accepted,
        rejected: survey.rejected,
        unknown: survey.unknown,
        owed: survey.owed,
        delivered: counts.delivered,
        lost: if case.drained() { survey.lost_slots } else { 0 },
        duplicate: counts.duplicate,
        phantom: counts.phantom + survey.phantom.count,
        leaked: counts.stranger + survey.leaked.count,
        corrupted: counts.corrupt,
        reordered: counts.disorder + counts.overtaken,
        wire_duplicates: counts.wire_duplicates,
        answered_again: counts.answered_again,
        backfilled: counts.backfilled,
        receipts: counts.receipts,
        rejects: case.record.ledger.rejects.clone(),
    }
}

fn fault(case: &Case<'_>, log: &FaultLog) -> FaultReport {
    let ms = |at: Option<u64>| at.map(|at| at / 1_000_000);
    let line = |evidence: &storm_record::facts::Evidence| {
        format!(
            "{}: {} -> {} (required {})",
            evidence.counter, evidence.before, evidence.after, evidence.required
        )
    };
    let targets = &log.targets;
    let mut words = targets.nodes.clone();
    if !targets.devices.is_empty() {
        words.push(format!("{} devices", targets.devices.len()));
    }
    words.extend(targets.brokers.iter().map(|broker| format!("broker {broker}")));
    words.extend(targets.groups.iter().map(|group| format!("group {group}")));
    words.extend(targets.ports.iter().map(|port| format!("port {port}")));
    FaultReport {
        step: log.step.clone(),
        kind: log.kind.map_or("unknown", |kind| kind.name()).to_owned(),
        targets: words,
        injected_ms: ms(log.injected_ns),
        witnessed_ms: ms(log.witnessed_ns),
        detected_ms: ms(detected_ns(case, log)),
        healing_ms: ms(log.healing_ns),
        healed_ms: ms(log.healed_ns),
        evidence: log.evidence.iter().map(line).collect(),
        healing: log.healing.iter().map(line).collect(),
        trouble: log.trouble.clone(),
    }
}

fn recovery(case: &Case<'_>) -> Option<RecoveryReport> {
    let rule = case.record.promises.recovery?;
    let (healed, at) = recovered_of(case)?;
    Some(RecoveryReport {
        healed_ms: healed / 1_000_000,
        took_ms: at.map(|at| at.saturating_sub(healed) / 1_000_000),
        within_ms: rule.within_ns / 1_000_000,
    })
}

fn compared(case: &Case<'_>) -> Option<ControlReport> {
    let control = case.record.control.as_ref()?;
    let agrees = control::agrees(case);
    let steady = control::steady(case)?;
    Some(ControlReport {
        run: control.run.clone(),
        agrees: agrees.is_ok(),
        why: agrees.err(),
        goodput: steady.goodput,
        delivered_p99: (steady.p99.0.map(Quantity::Ns), steady.p99.1.map(Quantity::Ns)),
    })
}

#[cfg(test)]
mod tests {
    use storm_record::facts::{FaultKind, Mark};
    use storm_record::promises::Step;

    use crate::kit::{Kit, judged};
    use crate::report::Hypothesis;
    use crate::verdict::{Reason, Verdict};

    #[test]
    fn a_run_that_somebody_steered_proves_nothing() {
        let mut kit = Kit::clean();
        kit.record.manifest.steered = true;
        let report = judged(&kit).0;
        assert_eq!((report.verdict, report.exit_code), (Verdict::Inconclusive, 12));
        assert_eq!(report.reasons, [Reason::Stopped]);
    }

    #[test]
    fn a_steady_state_that_did_not_hold_establishes_no_hypothesis() {
        let mut kit = Kit::clean();
        kit.record.manifest.hypothesis = Some("nothing is lost".to_owned());
        kit.record
            .promises
            .steps
            .push(Step { id: "kill-one".to_owned(), kinds: vec![FaultKind::Kill] });
        kit.record.facts.marks.push(Mark::Steady { held: false, at_ns: 1 });
        let report = judged(&kit);
        report.is_unsettled_by("Z2", Reason::SteadyNotEstablished);
        assert_eq!(report.0.hypothesis_is, Some(Hypothesis::NotEstablished));
    }

    #[test]
    fn a_promised_condition_that_was_not_reached_weakens_a_pass() {
        let mut kit = Kit::clean();
        kit.record.promises.sometimes.push("start-from-snapshot".to_owned());
        let report = judged(&kit);
        report.passes();
        assert_eq!(report.finding("M6").weak, ["`start-from-snapshot` was not reached"]);
    }
}
