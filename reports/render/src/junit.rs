//! `junit.xml`: one case a gate, invariant and guard. Missed or broken is a failure, inconclusive an error, not applicable skipped.
use quick_junit::{
    NonSuccessKind, Report as Suites, SerializeError, TestCase, TestCaseStatus, TestSuite,
};
use storm_judge::Report;
use storm_judge::finding::Outcome;

use crate::{table, violation};

/// The report as `JUnit` XML, with a line end.
pub fn junit(report: &Report) -> Result<String, SerializeError> {
    let identity = &report.identity;
    let mut suites = Suites::new(identity.experiment.as_deref().unwrap_or(&identity.scenario));
    let mut checks = TestSuite::new("invariants");
    checks.add_property(("run", identity.run.as_str()));
    checks.add_property(("seed", identity.seed.to_string().as_str()));
    checks.add_property(("substrate", identity.substrate.as_str()));
    for finding in &report.findings {
        let evidence = finding
            .evidence
            .iter()
            .flat_map(|seen| violation::lines(seen, ""))
            .collect::<Vec<_>>()
            .join("\n");
        let status = status(finding.outcome, &table::finding(finding), &evidence);
        checks.add_test_case(case(&finding.id, "invariants", status));
    }
    let mut gates = TestSuite::new("gates");
    for gate in &report.gates {
        // A gate that is only reported cannot fail a pipeline.
        let outcome = if gate.outcome == Outcome::Fail && !gate.fails {
            Outcome::NotApplicable
        } else {
            gate.outcome
        };
        let name = format!("{} ({})", gate.name, gate.of);
        gates.add_test_case(case(&name, "gates", status(outcome, &table::gate(gate), "")));
    }
    let mut guards = TestSuite::new("guards");
    for guard in &report.guards {
        let outcome = if guard.tripped { Outcome::Inconclusive } else { Outcome::Pass };
        guards.add_test_case(case(&guard.name, "guards", status(outcome, &guard.shows, "")));
    }
    suites.add_test_suites([checks, gates, guards]);
    // Jenkins validates with `junit-10.xsd` of its xUnit plugin, which knows this attribute on `testsuite` only.
    let mut text = suites.to_string()?.replacen(&format!(" skipped=\"{}\"", suites.skipped), "", 1);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn case(name: &str, class: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(class);
    case
}

fn status(outcome: Outcome, message: &str, description: &str) -> TestCaseStatus {
    let mut status = match outcome {
        Outcome::Pass => return TestCaseStatus::success(),
        Outcome::NotApplicable => TestCaseStatus::skipped(),
        Outcome::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
        Outcome::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
    };
    status.set_message(message);
    if !description.is_empty() {
        status.set_description(description);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;

    #[test]
    fn broken_is_a_failure_and_open_an_error() {
        insta::assert_snapshot!(junit(&kit::failed()).unwrap());
    }

    #[test]
    fn root_has_only_the_attributes_that_ci_servers_know() {
        let text = junit(&kit::failed()).unwrap();
        let root = text.lines().find(|line| line.starts_with("<testsuites")).unwrap();
        let names: Vec<&str> =
            root.split(' ').filter_map(|part| Some(part.split_once('=')?.0)).collect();
        assert_eq!(names, ["name", "tests", "failures", "errors"], "{root}");
    }

    #[test]
    fn passing_run_has_no_failure_and_no_error() {
        let text = junit(&kit::passed()).unwrap();
        assert!(!text.contains("<failure") && !text.contains("<error"), "{text}");
    }
}
