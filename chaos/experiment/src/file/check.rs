//! What makes an experiment impossible, each reason at its place in the file.

use std::collections::BTreeMap;

use storm_faults::Fault as _;
use storm_faults::spec::{
    BROKERS, BrokerSelector, DeviceSelector, Direction, FaultSpec, LeaderOf, NodeRole,
    NodeSelector, Told,
};
use storm_workload::document::{Document, FileError, Node, hint};
use storm_workload::gate::{GateContext, check_gates};
use storm_workload::plan::Plan;
use storm_workload::system::Role;
use storm_workload::units::Time;

use super::{Control, Experiment, FORMAT, SOMETIMES, Step};

/// Windows that an `expect` entry may judge.
const EXPECT_WINDOWS: &[&str] = &["fault", "heal", "recovery", "steady"];

/// Checks that need nothing but the file.
pub(super) fn check_file(experiment: &Experiment, doc: &Document) -> Vec<FileError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String, help: &str| {
        let error = doc.error_at(path, message);
        errors.push(if help.is_empty() { error } else { error.with_help(help) });
    };
    if experiment.format != FORMAT {
        wrong("format", format!("format {} is unknown", experiment.format), "write `format: 1`");
    }
    if experiment.hypothesis.trim().is_empty() {
        wrong(
            "hypothesis",
            "the hypothesis is empty".to_owned(),
            "one sentence that the run can prove wrong",
        );
    }
    if experiment.substrates.is_empty() {
        wrong(
            "substrates",
            "the experiment may run nowhere".to_owned(),
            "write `substrates: [embedded]`",
        );
    }
    if experiment.method.is_empty() {
        wrong(
            "method",
            "nothing is made wrong".to_owned(),
            "run the scenario itself, or add a step",
        );
    }
    let windows = experiment.windows;
    for (key, len) in [
        ("steady", windows.steady.unwrap_or(Time(1))),
        ("fault", windows.fault),
        ("heal", windows.heal),
        ("recovery", windows.recovery),
        ("drain", windows.drain),
    ] {
        if len == Time(0) {
            wrong(&format!("windows.{key}"), "a window cannot last 0 s".to_owned(), "");
        }
    }
    if experiment.recovery.hold > experiment.recovery.within
        || experiment.recovery.within > windows.recovery
    {
        wrong(
            "recovery",
            "`hold` fits into `within`, and `within` into `windows.recovery`".to_owned(),
            "",
        );
    }
    for (ix, name) in experiment.sometimes.iter().enumerate() {
        if !SOMETIMES.contains(&name.as_str()) {
            wrong(
                &format!("sometimes.{ix}"),
                format!("unknown condition `{name}`"),
                &hint(name, SOMETIMES),
            );
        }
    }
    for (ix, step) in experiment.method.iter().enumerate() {
        if experiment.method[..ix].iter().any(|s| s.id == step.id) {
            wrong(&format!("method.{ix}.id"), format!("two steps are named `{}`", step.id), "");
        }
        check_step(step, &format!("method.{ix}"), &mut wrong);
    }
    match starts(&experiment.method) {
        Ok(starts) => {
            for (ix, step) in experiment.method.iter().enumerate() {
                if starts[step.id.as_str()] + step.for_.unwrap_or(Time(0)).0 > windows.fault.0 {
                    let help = format!(
                        "the window lasts {}: make it longer or the step shorter",
                        windows.fault
                    );
                    wrong(
                        &format!("method.{ix}"),
                        format!("step `{}` ends after the fault window", step.id),
                        &help,
                    );
                }
            }
        }
        Err((ix, message, help)) => wrong(&format!("method.{ix}"), message, &help),
    }
    for (ix, step) in experiment.method.iter().enumerate() {
        check_witness(step, &format!("method.{ix}.witness"), doc, &mut errors);
    }
    errors
}

/// A counter that the fault does not have would be refused at the injection only, which costs the whole run.
fn check_witness(step: &Step, path: &str, doc: &Document, errors: &mut Vec<FileError>) {
    let counters = step.fault.counters();
    for entry in doc.get(path).map_or(&[][..], Node::entries) {
        let name = entry.key.as_str();
        if !counters.contains(&name) {
            let message = format!("the fault `{}` has no counter `{name}`", step.fault.name());
            let error = FileError::new(message, entry.key_at.clone());
            errors.push(error.with_help(hint(name, counters)));
        } else if step.witness.get(name).is_some_and(|least| least.min == 0) {
            let error = doc.error_at(&format!("{path}.{name}"), "at least 0 witnesses nothing");
            errors.push(error.with_help("a witness starts at 1"));
        }
    }
}

fn check_step(step: &Step, base: &str, wrong: &mut impl FnMut(&str, String, &str)) {
    let place = |key: &str| format!("{base}.{key}");
    if step.at.is_some() == step.after.is_some() {
        wrong(
            base,
            format!("step `{}` needs `at` or `after`, not both", step.id),
            "for example `at: 10s`",
        );
    }
    if step.for_ == Some(Time(0)) {
        wrong(
            &place("for"),
            "a fault cannot last 0 s".to_owned(),
            "leave `for` out to heal at the end of the window",
        );
    }
    if matches!(step.fault, FaultSpec::Rolling(_)) && step.for_.is_none() {
        wrong(
            base,
            "a rolling restart needs `for` as its limit".to_owned(),
            "for example `for: 60s`",
        );
    }
    let fault = format!("{base}.fault.{}", step.fault.name());
    if let Some(reason) = step.fault.node().and_then(NodeSelector::fault) {
        wrong(
            &format!("{fault}.node"),
            reason.to_owned(),
            "for example `node: {role: gateway, count: 1}`",
        );
    }
    if let Some(reason) = step.fault.devices().and_then(DeviceSelector::fault) {
        wrong(
            &format!("{fault}.devices"),
            reason.to_owned(),
            "for example `devices: {share: 40%}`",
        );
    }
    if let FaultSpec::BlackHole(hole) = &step.fault
        && hole.told == Told::Device
        && hole.direction != Direction::Both
    {
        wrong(
            &format!("{fault}.direction"),
            "a device that was told leaves its link, so nothing flows either way".to_owned(),
            "leave `direction` out",
        );
    }
    let no_effect = match &step.fault {
        FaultSpec::SlowLink(f) => f.latency == Time(0) && f.jitter == Time(0),
        FaultSpec::BrokerSlow(f) => f.delay == Time(0),
        FaultSpec::PortSlow(f) => f.delay == Time(0),
        _ => false,
    };
    if no_effect {
        wrong(&fault, "a delay of 0 s makes nothing wrong".to_owned(), "");
    }
}

/// When each step starts, in nanoseconds of the fault window; else the step, the reason and the cure.
pub(super) fn starts(method: &[Step]) -> Result<BTreeMap<&str, u64>, (usize, String, String)> {
    let mut starts = BTreeMap::new();
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for (ix, step) in method.iter().enumerate() {
        let start = match (&step.at, &step.after) {
            (Some(at), _) => at.0,
            (None, Some(after)) => {
                let earlier: Vec<&str> = method[..ix].iter().map(|s| s.id.as_str()).collect();
                let end = ends.get(after.step.as_str()).ok_or_else(|| {
                    let message =
                        format!("no earlier step `{}` that heals inside the window", after.step);
                    (ix, message, hint(&after.step, &earlier))
                })?;
                end.saturating_add(after.plus.0)
            }
            (None, None) => 0,
        };
        starts.insert(step.id.as_str(), start);
        if step.for_.is_some() || step.fault.momentary() {
            ends.insert(&step.id, start.saturating_add(step.for_.unwrap_or(Time(0)).0));
        }
    }
    Ok(starts)
}

/// Checks that need the resolved plan: gates against its streams, selectors against its nodes and devices.
pub(super) fn check_against_plan(
    experiment: &Experiment,
    plan: &Plan,
    doc: &Document,
) -> Vec<FileError> {
    let mut baselines = vec!["steady"];
    if experiment.control == Control::SameSeed {
        baselines.push("control");
    }
    let context = |windows: &'static [&'static str]| GateContext {
        windows,
        baselines: &baselines,
        deadline: plan.deadline_max(),
        lag_p99: plan.guards.lag_p99,
    };
    let mut errors = Vec::new();
    if let Some(gates) = &experiment.steady_state {
        errors.extend(check_gates(doc, "steady_state", gates, &context(&["steady"])));
    }
    for (ix, step) in experiment.method.iter().enumerate() {
        errors.extend(check_gates(
            doc,
            &format!("method.{ix}.expect"),
            &step.expect,
            &context(EXPECT_WINDOWS),
        ));
        for (gate_ix, gate) in step.expect.iter().enumerate() {
            if gate.over.is_none() {
                let path = format!("method.{ix}.expect.{gate_ix}");
                errors.push(
                    doc.error_at(&path, "an expectation needs `over`")
                        .with_help("for example `over: fault`"),
                );
            }
        }
        check_targets(
            &step.fault,
            &format!("method.{ix}.fault.{}", step.fault.name()),
            plan,
            doc,
            &mut errors,
        );
    }
    errors
}

fn check_targets(
    fault: &FaultSpec,
    path: &str,
    plan: &Plan,
    doc: &Document,
    errors: &mut Vec<FileError>,
) {
    let mut empty = |key: &str, message: String, help: String| {
        errors.push(doc.error_at(&format!("{path}.{key}"), message).with_help(help));
    };
    if let Some(node) = fault.node() {
        if let Some(name) = &node.name {
            let names = all_nodes(plan);
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            if !known.contains(&name.as_str()) {
                empty("node.name", format!("no node is named `{name}`"), hint(name, &known));
            }
        } else if let Some(role) = node.role {
            let there = nodes_of(plan, role).len();
            let wanted = usize::try_from(node.count.unwrap_or(1)).unwrap_or(usize::MAX);
            if there < wanted {
                empty(
                    "node",
                    format!("{wanted} nodes are wanted and {there} have the role"),
                    "an empty or short selection is refused".to_owned(),
                );
            }
        }
    }
    if let FaultSpec::Rolling(rolling) = fault
        && nodes_of(plan, rolling.role).is_empty()
    {
        empty(
            "role",
            "no node has the role".to_owned(),
            "an empty selection is refused".to_owned(),
        );
    }
    if let Some(devices) = fault.devices() {
        let there = u64::from(plan.population().online_devices());
        if devices.wanted(there) > there {
            empty(
                "devices",
                format!(
                    "{} devices are wanted and the plan has {there} online",
                    devices.wanted(there)
                ),
                "lower the count".to_owned(),
            );
        }
    }
    match fault.broker() {
        Some(BrokerSelector::Count(0)) => {
            empty("broker", "a `count` of 0 selects nothing".to_owned(), "from 1 up".to_owned());
        }
        Some(BrokerSelector::Count(n)) if n > BROKERS => {
            empty("broker", format!("there are {BROKERS} brokers"), "lower the count".to_owned());
        }
        Some(BrokerSelector::Broker(n)) if n >= BROKERS => {
            empty(
                "broker",
                format!("there is no broker {n}"),
                format!("brokers are numbered from 0 to {}", BROKERS - 1),
            );
        }
        Some(
            BrokerSelector::LeaderOf(LeaderOf::Partition(p))
            | BrokerSelector::FollowersOf(LeaderOf::Partition(p)),
        ) if p >= plan.system.log.partitions => {
            empty(
                "broker",
                format!("there is no partition {p}"),
                format!("there are {}", plan.system.log.partitions),
            );
        }
        _ => {}
    }
}

fn all_nodes(plan: &Plan) -> Vec<String> {
    let services = plan.system.service_nodes().into_iter().map(|n| n.name);
    plan.system
        .gateway_names()
        .into_iter()
        .chain(plan.system.balancer_names())
        .chain(services)
        .collect()
}

/// The nodes of a role by name, in the order of their numbers.
pub(super) fn nodes_of(plan: &Plan, role: NodeRole) -> Vec<String> {
    let hosting = |role: Option<Role>| {
        let nodes = plan.system.service_nodes().into_iter();
        nodes.filter(|n| role.is_none_or(|role| n.roles.contains(&role))).map(|n| n.name).collect()
    };
    match role {
        NodeRole::Gateway => plan.system.gateway_names(),
        NodeRole::Balancer => plan.system.balancer_names(),
        NodeRole::Service => hosting(None),
        NodeRole::Sessions => hosting(Some(Role::Sessions)),
        NodeRole::Messaging => hosting(Some(Role::Messaging)),
        NodeRole::Relay => hosting(Some(Role::Relay)),
        NodeRole::History => hosting(Some(Role::History)),
    }
}
