use storm_workload::catalog::SCENARIOS;
use storm_workload::document::{Document, SourceText};
use storm_workload::plan::Window;

use super::*;

fn resolve(name: &str, overrides: &ExperimentOverrides) -> ResolvedExperiment {
    ResolvedExperiment::resolve(
        name,
        (&EXPERIMENTS, &SCENARIOS),
        overrides,
        &["log.read_past_watermark"],
    )
    .unwrap_or_else(|errors| panic!("{name}\n{errors}"))
}

fn ci() -> ExperimentOverrides {
    ExperimentOverrides { scale: Some("ci".parse().unwrap()), ..ExperimentOverrides::default() }
}

fn on(substrate: Substrate, base: &ExperimentOverrides) -> ExperimentOverrides {
    ExperimentOverrides { substrate, ..base.clone() }
}

fn refused(change: impl Fn(&str) -> String) -> String {
    let text = change(EXPERIMENTS.get("gateway-kill").unwrap());
    let doc = Document::read(&SourceText::new("e.yaml", text)).unwrap();
    let overrides = ExperimentOverrides::default();
    ResolvedExperiment::resolve_document(doc, &SCENARIOS, &overrides, &[]).unwrap_err().to_string()
}

fn asked(counter: &str, min: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(counter.to_owned(), min)])
}

#[test]
fn shipped_experiments_resolve_on_each_of_their_substrates_at_their_own_scale_and_in_ci() {
    for name in EXPERIMENTS.names() {
        assert!(!SCENARIOS.names().contains(&name), "names are unique over both catalogs");
        let substrates = resolve(name, &ExperimentOverrides::default()).substrates;
        let arms = arms_of(name, &EXPERIMENTS).unwrap().into_iter().map(Some);
        for arm in arms.chain([None]) {
            let own = ExperimentOverrides { arm: arm.clone(), ..ExperimentOverrides::default() };
            for base in [own, ExperimentOverrides { arm, ..ci() }] {
                for substrate in &substrates {
                    let experiment = resolve(name, &on(*substrate, &base));
                    assert_eq!(experiment.name, name);
                    assert!(experiment.summary().contains("hypothesis"));
                }
            }
        }
    }
}

#[test]
fn a_substrate_takes_away_the_step_that_it_cannot_do() {
    let steps = |substrate, base: &ExperimentOverrides| {
        let experiment = resolve("kafka-broker-kill", &on(substrate, base));
        experiment.steps.into_iter().map(|step| step.id).collect::<Vec<_>>()
    };
    for base in [ExperimentOverrides::default(), ci()] {
        let all = steps(Substrate::Embedded, &base);
        assert_eq!(all, ["hold-writer", "slow-followers", "kill-leader"]);
        assert_eq!(steps(Substrate::Containers, &base), ["hold-writer", "kill-leader"]);
    }
}

#[test]
fn every_fault_is_used_by_a_shipped_file_or_shown_here() {
    let used: Vec<&str> = EXPERIMENTS
        .names()
        .iter()
        .flat_map(|name| resolve(name, &ci()).steps)
        .map(|step| step.fault.name())
        .collect();
    let unused: Vec<&&str> = FaultSpec::NAMES.iter().filter(|name| !used.contains(name)).collect();
    assert_eq!(unused, [&"drain", &"reset"]);
}

#[test]
fn the_windows_of_a_run_stand_in_order_and_hold_the_load() {
    let experiment = resolve("gateway-kill", &ExperimentOverrides::default());
    let windows: Vec<Window> = experiment.plan.phases.iter().map(|p| p.window).collect();
    assert_eq!(
        windows[2..],
        [Window::Steady, Window::Fault, Window::Heal, Window::Recovery, Window::Drain]
    );
    assert_eq!(experiment.plan.phases[3].count(), 5_400 * 60);
    assert_eq!(experiment.plan.gates.len(), 3);
    assert_eq!(experiment.plan.seed, 42);
}

#[test]
fn ci_shrinks_counts_and_durations_alike() {
    let experiment = resolve("gateway-kill", &ci());
    let step = &experiment.steps[0];
    assert_eq!((step.at, step.hold), (Time::seconds(1), Some(Time::seconds(4))));
    assert_eq!(step.at_least, asked("connections_cut", 160));
    assert_eq!(step.expect[0].max, Some(Bound::Time(Time::millis(3_500))));
    assert_eq!(step.expect[0].min_samples, Some(160));
    assert_eq!(experiment.windows.fault, Time::seconds(6));
    assert_eq!(experiment.plan.phases[3].count(), 3_000);
    let storm = resolve("reconnect-storm", &ci());
    assert_eq!(storm.plan.population().devices(), 2_002);
}

#[test]
fn ci_shrinks_the_delay_of_a_port_as_the_limit_of_its_calls() {
    let delay = |name: &str, overrides: &ExperimentOverrides| match &resolve(name, overrides).steps
        [0]
    .fault
    {
        FaultSpec::PortSlow(slow) => (slow.delay.0 / 1_000_000, slow.jitter.0 / 1_000_000),
        other => panic!("{} comes first", other.name()),
    };
    assert_eq!(delay("redis-slow", &ExperimentOverrides::default()), (200, 50));
    assert_eq!(delay("redis-slow", &ci()), (100, 25));
    assert_eq!(delay("history-slow", &ci()), (37, 0));
}

#[test]
fn an_arm_replaces_what_it_names() {
    let experiment = resolve(
        "gateway-kill",
        &ExperimentOverrides { arm: Some("silent".to_owned()), ..Default::default() },
    );
    let FaultSpec::Kill(kill) = &experiment.steps[0].fault else { panic!("the step kills") };
    assert_eq!(kill.how, storm_faults::spec::KillHow::Silent);
    assert!(experiment.steps[0].at_least.is_empty());
    let unknown = ExperimentOverrides { arm: Some("silnet".to_owned()), ..Default::default() };
    let error =
        ResolvedExperiment::resolve("gateway-kill", (&EXPERIMENTS, &SCENARIOS), &unknown, &[])
            .unwrap_err();
    assert!(error.to_string().contains("did you mean `silent`?"), "{error}");
}

#[test]
fn the_command_line_reaches_experiment_and_scenario() {
    let sets = [
        "windows.fault=55s",
        "streams.chat.rate=700/s",
        "system.variants=[log.read_past_watermark]",
    ];
    let overrides = ExperimentOverrides {
        sets: sets.map(str::to_owned).to_vec(),
        seed: Some(5),
        ..Default::default()
    };
    let experiment = resolve("gateway-kill", &overrides);
    assert_eq!(experiment.plan.phases[3].count(), 700 * 55);
    assert_eq!(experiment.plan.system.variants, ["log.read_past_watermark"]);
    assert_eq!(experiment.plan.seed, 5);
}

#[test]
fn steps_after_steps_start_when_those_have_healed() {
    let experiment = resolve("sequencer-freeze", &ExperimentOverrides::default());
    assert_eq!(experiment.steps[1].at, Time::seconds(42));
    assert_eq!(experiment.plan.system.service_nodes().len(), 4);
}

#[test]
fn a_resolved_experiment_survives_storage() {
    let experiment = resolve("kafka-broker-kill", &ci());
    let json = serde_json::to_string(&experiment).unwrap();
    let stored: ResolvedExperiment = serde_json::from_str(&json).unwrap();
    assert_eq!(stored.plan.hash(), experiment.plan.hash());
    assert_eq!(stored.steps, experiment.steps);
    assert_eq!(serde_json::to_string(&stored).unwrap(), json);
}

#[test]
fn a_witness_of_another_fault_is_shown_where_it_is_written() {
    let found = refused(|text| {
        text.replace(
            "fault: {kill: {node: {role: gateway, count: 1}, how: process}}",
            "fault: {rolling: {role: gateway}}",
        )
    });
    let line = EXPERIMENTS.get("gateway-kill").unwrap();
    let (at, text) = (1..).zip(line.lines()).find(|(_, text)| text.contains("witness:")).unwrap();
    let column = text.find("connections_cut").unwrap() + 1;
    for part in [
        "the fault `rolling` has no counter `connections_cut`",
        &format!("e.yaml:{at}:{column}"),
        "did you mean `connections_shed`?",
    ] {
        assert!(found.contains(part), "{part} in\n{found}");
    }
    let found = refused(|text| text.replace("{connections_cut:", "{nodes:"));
    assert!(found.contains("one of: unit_gone, connections_cut,"), "{found}");
    let found = refused(|text| text.replace("{min: 800}", "{min: 0}"));
    assert!(found.contains("at least 0 witnesses nothing"), "{found}");
}

#[test]
fn a_black_hole_of_one_way_cannot_tell_the_device() {
    let errors = refused(|text| {
        let fault = "{kill: {node: {role: gateway, count: 1}, how: process}}";
        assert!(text.contains(fault), "{text}");
        text.replace(fault, "{black-hole: {devices: {share: 40%}, direction: up, told: device}}")
    });
    assert!(errors.contains("nothing flows either way"), "{errors}");
}

#[test]
fn only_counts_of_devices_shrink_with_the_population() {
    let text = EXPERIMENTS.get("gateway-kill").unwrap();
    let text = text.replace("{min: 800}", "{min: 800}, unit_gone: {min: 1}");
    let doc = Document::read(&SourceText::new("e.yaml", text)).unwrap();
    let small = ResolvedExperiment::resolve_document(doc, &SCENARIOS, &ci(), &[]).unwrap();
    let mut expected = asked("connections_cut", 160);
    expected.extend(asked("unit_gone", 1));
    assert_eq!(small.steps[0].at_least, expected);
}

#[test]
fn impossible_experiments_are_refused_with_every_reason() {
    let found = refused(|text| {
        text.replace("for: 40s ", "for: 400s ")
            .replace(
                "fault: {kill: {node: {role: gateway, count: 1}, how: process}}",
                "fault: {kill: {node: {role: gateway, count: 9}, how: process}}",
            )
            .replace("routed-to-dead-route", "routed-to-ded-route")
            .replace("final:", "finla:")
    });
    for part in [
        "ends after the fault window",
        "did you mean `routed-to-dead-route`?",
        "did you mean `final`?",
    ] {
        assert!(found.contains(part), "{part} in\n{found}");
    }
    let found = refused(|text| {
        text.replace("count: 1}, how", "count: 9}, how")
            .replace("over: fault, min_samples", "over: falt, min_samples")
    });
    for part in ["9 nodes are wanted and 3 have the role", "did you mean `fault`?"] {
        assert!(found.contains(part), "{part} in\n{found}");
    }
    let found = refused(|text| text.replace("scenario: messenger-18k", "scenario: mesenger-18k"));
    assert!(
        found.contains("e.yaml:11:") && found.contains("did you mean `messenger-18k`?"),
        "{found}"
    );
    let found =
        refused(|text| text.replace("streams.chat.rate: 5.4k/s", "streams.chat.rate: 5.4k"));
    assert!(found.contains("e.yaml:11:") && found.contains("write it as `18k/s`"), "{found}");
}
