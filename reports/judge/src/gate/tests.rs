use serde_json::{Value, json};
use storm_record::facts::Stopped;
use storm_workload::gate::Gate;

use crate::finding::Outcome;
use crate::kit::{Judged, Kit, judged};
use crate::report::GateResult;
use crate::verdict::{Reason, Verdict};

/// A gate on deliveries, which take 5 ms in a clean run, with what a test changes.
fn gate(change: &Value) -> Gate {
    let mut gate =
        json!({"name": "fast", "metric": "message.delivered", "stat": "p99", "max": "10ms"});
    let all = gate.as_object_mut().unwrap();
    for (key, value) in change.as_object().unwrap() {
        if value.is_null() {
            all.remove(key);
        } else {
            all.insert(key.clone(), value.clone());
        }
    }
    serde_json::from_value(gate).unwrap()
}

fn with(mut kit: Kit, change: &Value) -> Judged {
    kit.record.promises.slo.push(gate(change));
    judged(&kit)
}

fn result(report: &Judged) -> &GateResult {
    report.0.gates.last().unwrap()
}

fn is_open(report: &Judged, reason: Reason) {
    assert_eq!(
        (result(report).outcome, result(report).reason),
        (Outcome::Inconclusive, Some(reason))
    );
    assert_eq!(report.0.verdict, Verdict::Inconclusive);
    assert!(report.0.reasons.contains(&reason), "{:?}", report.0.reasons);
}

#[test]
fn a_met_gate_changes_nothing_and_a_missed_one_fails_the_run() {
    with(Kit::clean(), &json!({})).passes();
    let missed = with(Kit::clean(), &json!({"max": "4ms"}));
    assert_eq!((missed.0.verdict, missed.0.exit_code), (Verdict::Fail, 10));
    assert!(missed.0.reasons.is_empty());
    assert_eq!(missed.0.headline, "Fail: missed fast");
}

#[test]
fn a_gate_that_only_warns_fails_nothing() {
    with(Kit::clean(), &json!({"max": "4ms", "severity": "warn"})).passes();
}

#[test]
fn a_lower_bound_is_missed_from_below() {
    let share = |min: f64| {
        let change = json!({"metric": "message.goodput", "stat": "share", "max": null, "min": min});
        with(Kit::clean(), &change)
    };
    share(0.999).passes();
    assert_eq!(share(1.001).0.exit_code, 10);
}

#[test]
fn too_few_samples_decide_nothing() {
    is_open(&with(Kit::clean(), &json!({"min_samples": 1_000_000})), Reason::TooFewSamples);
}

#[test]
fn a_latency_that_nobody_measured_is_missed() {
    let report = with(Kit::clean(), &json!({"path": "relay"}));
    assert_eq!((result(&report).outcome, report.0.exit_code), (Outcome::Fail, 10));
}

#[test]
fn a_factor_needs_its_control_run() {
    let factor = json!({"max": null, "max_factor": 1.1, "baseline": "control"});
    is_open(&with(Kit::clean(), &factor), Reason::NoControl);
    with(Kit::with_recovery(), &factor).passes();
}

#[test]
fn a_window_that_never_came_leaves_its_gate_open() {
    let fault = json!({"over": "fault"});
    is_open(&with(Kit::clean(), &fault), Reason::SteadyNotEstablished);
    let mut kit = Kit::clean();
    kit.record.facts.stopped = Some(Stopped { why: "signal".to_owned(), at_ns: 1 });
    is_open(&with(kit, &fault), Reason::Stopped);
}

#[test]
fn a_generator_that_was_the_limit_leaves_every_gate_open() {
    let mut kit = Kit::clean();
    kit.record.slices[4].counts.dropped = 1;
    is_open(&with(kit, &json!({"max": "4ms"})), Reason::GeneratorSaturated);
}
