//! From an experiment file, an arm and the command line to one resolved experiment.

use std::collections::BTreeMap;

use chat_protocol::limits::Timers;
use serde::{Deserialize, Serialize};
use storm_faults::counts_devices;
use storm_faults::spec::{FaultSpec, Port};
use storm_workload::catalog::Catalog;
use storm_workload::document::{Document, FileError, FileErrors, Node, hint};
use storm_workload::file::{Intent, read_scenario};
use storm_workload::gate::{Bound, Gate};
use storm_workload::metrics::Metric;
use storm_workload::plan::{FaultWindows, Overrides, Plan};
use storm_workload::scale::{Ci, Scale, Shrink};
use storm_workload::units::Time;

use super::check::{check_against_plan, check_file, starts};
use super::{Bounds, Control, Experiment, FinalReads, Recovery, StopWhen, Substrate, Windows};

/// Under `--scale ci` time bounds of expectations from here up shrink: they come from timers, which shrink too.
const TIMER_BOUND_MIN: Time = Time::seconds(5);
/// No bound becomes shorter than this by shrinking: the host does not get faster.
const TIMER_BOUND_FLOOR: Time = Time::seconds(2);
/// Waiting limits that end by a condition are not made shorter than this and the shortest window: a busy host needs them, an idle one does
/// not use them.
const WAIT_MIN: Time = Time::seconds(12);
/// Keys of the scenario that `--set` reaches through an experiment.
const SCENARIO_KEYS: &[&str] = &["population", "sessions", "streams", "phases", "slo", "guards"];

/// What the command line changes about an experiment.
#[derive(Debug, Clone, Default)]
pub struct ExperimentOverrides {
    /// `a.b.c=value`, into the experiment, or into its scenario where the first word is a key of scenarios only.
    pub sets: Vec<String>,
    /// Smaller than written.
    pub scale: Option<Scale>,
    /// Another seed.
    pub seed: Option<u64>,
    /// Length of the steady window, after scaling.
    pub steady_for: Option<Time>,
    /// The arm that runs; the file as it stands when none is named.
    pub arm: Option<String>,
    /// Where it runs.
    pub substrate: Substrate,
    /// Partitions of the log where neither file names any.
    pub partitions: Option<u32>,
    /// What `--scale ci` does otherwise than its preset where the run stands; the experiment's own users go first.
    pub ci: Ci,
}

/// One step with every value known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedStep {
    /// Its name.
    pub id: String,
    /// Start, from the start of the fault window.
    pub at: Time,
    /// Healed after this; none: by the heal phase.
    pub hold: Option<Time>,
    /// What is made wrong.
    pub fault: FaultSpec,
    /// By how much counters of the fault must have risen, in place of its own figures.
    pub at_least: BTreeMap<String, u64>,
    /// What must hold.
    pub expect: Vec<Gate>,
}

/// An experiment with every value known; part of the record of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResolvedExperiment {
    /// Its name.
    pub name: String,
    /// What is believed.
    pub hypothesis: String,
    /// What happens.
    pub about: String,
    /// What it is for.
    pub intent: Intent,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Sources.
    pub cite: BTreeMap<String, String>,
    /// The arm that runs.
    pub arm: Option<String>,
    /// The load with all windows; its gates are the steady-state gates.
    pub plan: Plan,
    /// What it is compared with.
    pub control: Control,
    /// Lengths of the windows, as scaled.
    pub windows: Windows,
    /// The method, by start.
    pub steps: Vec<ResolvedStep>,
    /// When the system counts as back.
    pub recovery: Recovery,
    /// The end of the run.
    pub final_reads: FinalReads,
    /// Changed bounds of invariants.
    pub bounds: Bounds,
    /// Conditions that it promises to reach.
    pub sometimes: Vec<String>,
    /// Further stop conditions.
    pub stop_when: Vec<StopWhen>,
    /// Where it may run.
    pub substrates: Vec<Substrate>,
}

/// The names of the arms of an experiment, by catalog name or path.
///
/// # Errors
/// The file is missing or has errors of its own.
pub fn arms_of(name: &str, catalog: &Catalog) -> Result<Vec<String>, FileErrors> {
    let doc = Document::read(&catalog.source(name)?)?;
    Ok(doc
        .get("arms")
        .map_or_else(Vec::new, |arms| arms.entries().iter().map(|e| e.key.clone()).collect()))
}

impl ResolvedExperiment {
    /// Resolves an experiment by catalog name or path. `variants` are the names that `system.variants` may hold.
    ///
    /// # Errors
    /// Everything wrong with the experiment, its scenario and the overrides.
    pub fn resolve(
        name: &str,
        catalogs: (&Catalog, &Catalog),
        overrides: &ExperimentOverrides,
        variants: &[&str],
    ) -> Result<Self, FileErrors> {
        let (experiments, scenarios) = catalogs;
        let doc = Document::read(&experiments.source(name)?)?;
        experiments.refuse_taken_name(name, &doc)?;
        Self::resolve_document(doc, scenarios, overrides, variants)
    }

    /// Resolves a document that was read already.
    ///
    /// # Errors
    /// Everything wrong with the experiment, its scenario and the overrides.
    pub fn resolve_document(
        mut doc: Document,
        scenarios: &Catalog,
        overrides: &ExperimentOverrides,
        variants: &[&str],
    ) -> Result<Self, FileErrors> {
        apply_substrate(&mut doc, overrides.substrate)?;
        if let Some(arm) = &overrides.arm {
            apply_arm(&mut doc, arm)?;
        }
        let (for_scenario, own): (Vec<&String>, Vec<&String>) = overrides
            .sets
            .iter()
            .partition(|set| SCENARIO_KEYS.contains(&set.split(['.', '=']).next().unwrap_or("")));
        for set in own {
            doc.set_argument(set)?;
        }
        let (experiment, mut errors) = doc.decode_partly::<Experiment>();
        errors.extend(experiment.iter().flat_map(|e| check_file(e, &doc)));
        // The scenario is read although the experiment has errors, so that those of both show together.
        let prepared = experiment.as_ref().map(|e| scenario_of(e, &doc, scenarios, &for_scenario));
        let (scenario, experiment) = match (prepared, experiment) {
            (Some(Ok(scenario)), Some(experiment)) => (scenario, experiment),
            (Some(Err(more)), _) => {
                errors.extend(more.errors);
                return Err(FileErrors::check(errors).expect_err("an error was added"));
            }
            _ => {
                return Err(FileErrors::check(errors)
                    .expect_err("a document that could not be read has errors"));
            }
        };
        let scale = overrides.scale.or(experiment.load.scale.map(Scale::Factor));
        let below = Overrides {
            sets: Vec::new(),
            scale,
            seed: Some(overrides.seed.unwrap_or(experiment.seed)),
            steady_for: None,
            drain_limit: None,
            partitions: overrides.partitions,
            ci: Ci { users: experiment.load.ci.users.or(overrides.ci.users), ..overrides.ci },
        };
        let (plan, shrink) = match Plan::resolve_document(&scenario, &below, variants) {
            Ok(resolved) => resolved,
            Err(more) => {
                errors.extend(more.errors);
                return Err(FileErrors::check(errors).expect_err("an error was added"));
            }
        };
        let lengthened = scenario_lengths(&experiment, overrides, shrink, &plan);
        let (plan, _) =
            Plan::resolve_document(&scenario, &Overrides { ..lengthened.over(below) }, variants)?;
        let experiment = shrunk(experiment, shrink, overrides.substrate);
        errors.extend(check_against_plan(&experiment, &plan, &doc));
        FileErrors::check(errors)?;
        Ok(Self::build(experiment, plan, lengthened.windows, overrides.arm.clone()))
    }

    fn build(
        experiment: Experiment,
        mut plan: Plan,
        windows: Windows,
        arm: Option<String>,
    ) -> Self {
        if let Some(gates) = experiment.steady_state {
            plan.gates = gates;
        }
        let plan = plan.with_windows(FaultWindows {
            fault: windows.fault,
            heal: windows.heal,
            recovery: windows.recovery,
        });
        let starts = starts(&experiment.method).expect("the chain of steps was checked");
        let at: Vec<u64> = experiment.method.iter().map(|step| starts[step.id.as_str()]).collect();
        let mut steps: Vec<ResolvedStep> = experiment
            .method
            .into_iter()
            .zip(at)
            .map(|(step, at)| ResolvedStep {
                id: step.id,
                at: Time(at),
                hold: step.for_,
                fault: step.fault,
                at_least: step.witness.into_iter().map(|(name, least)| (name, least.min)).collect(),
                expect: step.expect,
            })
            .collect();
        steps.sort_by_key(|step| step.at);
        Self {
            name: experiment.name,
            hypothesis: experiment.hypothesis,
            about: experiment.about,
            intent: experiment.intent,
            tags: experiment.tags,
            cite: experiment.cite,
            arm,
            plan,
            control: experiment.control,
            windows,
            steps,
            recovery: experiment.recovery,
            final_reads: experiment.final_reads,
            bounds: experiment.invariants.bounds,
            sometimes: experiment.sometimes,
            stop_when: experiment.stop_when,
            substrates: experiment.substrates,
        }
    }

    /// Whether client links run through the fault proxy.
    pub fn needs_proxy(&self) -> bool {
        self.steps.iter().any(|step| step.fault.needs_proxy())
    }

    /// File descriptors that the faults need besides those of the plan: two a link for the proxy, and the ends of links that went
    /// silent while their devices are back on others.
    pub fn descriptors(&self) -> u64 {
        if !self.needs_proxy() {
            return 0;
        }
        let sockets = self.plan.estimates().sockets;
        let silent = self.steps.iter().map(|step| match &step.fault {
            FaultSpec::BlackHole(hole) => hole.devices.wanted(sockets).min(sockets),
            _ => 0,
        });
        let ends_of_a_link = 4 + 2 * u64::from(self.plan.system.balancers);
        2 * sockets + silent.sum::<u64>() * ends_of_a_link
    }

    /// Every expectation with the step that states it.
    pub fn expectations(&self) -> impl Iterator<Item = (&str, &Gate)> {
        self.steps.iter().flat_map(|step| step.expect.iter().map(|gate| (step.id.as_str(), gate)))
    }
}

/// Window lengths after scaling, in the shape that the scenario and the experiment need.
struct Lengths {
    windows: Windows,
    steady_for: Time,
}

impl Lengths {
    fn over(&self, below: Overrides) -> Overrides {
        Overrides {
            steady_for: Some(self.steady_for),
            drain_limit: Some(self.windows.drain),
            ..below
        }
    }
}

fn scenario_lengths(
    experiment: &Experiment,
    overrides: &ExperimentOverrides,
    shrink: Shrink,
    plan: &Plan,
) -> Lengths {
    let windows = experiment.windows;
    let own = plan.steady().map_or(Time::seconds(3), |phase| phase.end.longest());
    let steady_for =
        overrides.steady_for.or(windows.steady.map(|len| shrink.window(len))).unwrap_or(own);
    let wait = |len: Time| shrink.time(len).max(len.min(wait_min(shrink)));
    let windows = Windows {
        steady: Some(steady_for),
        fault: shrink.time(windows.fault),
        heal: wait(windows.heal),
        recovery: wait(windows.recovery),
        drain: wait(windows.drain),
    };
    Lengths { windows, steady_for }
}

/// The shortest wait for a condition. To be back means to be back for a window, so that much is not left for getting there.
fn wait_min(shrink: Shrink) -> Time {
    Time(WAIT_MIN.0.saturating_add(shrink.window_min.0))
}

/// Lays over the file what it says of a substrate.
fn apply_substrate(doc: &mut Document, substrate: Substrate) -> Result<(), FileErrors> {
    let values = doc.get("on_substrate").and_then(|all| all.get(substrate.name())).cloned();
    for entry in values.iter().flat_map(Node::entries) {
        doc.set(&entry.key, entry.value.clone())?;
    }
    Ok(())
}

/// Replaces what an arm names.
fn apply_arm(doc: &mut Document, arm: &str) -> Result<(), FileErrors> {
    let arms = doc.get("arms").cloned();
    let Some(values) = arms.as_ref().and_then(|arms| arms.get(arm)) else {
        let names: Vec<&str> =
            arms.iter().flat_map(Node::entries).map(|e| e.key.as_str()).collect();
        return Err(FileErrors::of_name(
            arm,
            format!("the experiment has no arm `{arm}`"),
            Some(hint(arm, &names)),
        ));
    };
    for entry in values.entries() {
        doc.set(&entry.key, entry.value.clone())?;
    }
    Ok(())
}

/// The scenario with the experiment's `load.set`, `system` and the command line laid over it.
fn scenario_of(
    experiment: &Experiment,
    doc: &Document,
    scenarios: &Catalog,
    sets: &[&String],
) -> Result<Document, FileErrors> {
    let at_scenario = |errors: FileErrors| -> FileErrors {
        // A name that leads nowhere is the experiment's mistake, so it is shown there.
        let named = errors.errors.iter().all(|e| e.file == "argument");
        match errors.errors.first() {
            Some(first) if named => {
                let mut error = doc.error_at("load.scenario", first.message.clone());
                error.help.clone_from(&first.help);
                error.into()
            }
            _ => errors,
        }
    };
    let mut scenario = read_scenario(&experiment.load.scenario, scenarios).map_err(at_scenario)?;
    let mut errors: Vec<FileError> = Vec::new();
    for entry in doc.get("load.set").map_or(&[][..], Node::entries) {
        if let Err(more) = scenario.set(&entry.key, entry.value.clone()) {
            errors.extend(more.errors);
        }
    }
    if let Some(system) = doc.get("system") {
        let mut below = scenario.root.take("system");
        if let Some(below) = &mut below {
            // Either way to name service nodes replaces the other.
            if system.get("nodes").is_some() {
                below.take("services");
            } else if system.get("services").is_some() {
                below.take("nodes");
            }
        }
        let merged = match below {
            Some(below) => system.clone().over(below),
            None => system.clone(),
        };
        scenario.set("system", merged)?;
    }
    for set in sets {
        scenario.set_argument(set)?;
    }
    FileErrors::check(errors)?;
    Ok(scenario)
}

/// A delay of a port's calls under the short timers: the same part of what a call may take, or it would be another fault.
fn shorter_call(port: Port, delay: Time) -> Time {
    let nanos = |timers: &Timers| u64::try_from(port.limit(timers).as_nanos()).unwrap_or(u64::MAX);
    let times = nanos(&Timers::DEFAULT) / nanos(&Timers::short()).max(1);
    Time(delay.0 / times.max(1))
}

/// The experiment's own counts, durations and bounds, as much smaller as its scenario became.
fn shrunk(mut experiment: Experiment, shrink: Shrink, substrate: Substrate) -> Experiment {
    if shrink == Shrink::NONE {
        return experiment;
    }
    // Leases and log sessions of the short timers are a fifth, everything else a tenth.
    let timer = |metric: Metric, bound: Option<Bound>| match bound {
        // Real brokers elect by a clock of their own, whatever the timers of the system are.
        bound if metric == Metric::MessageAcceptGap && substrate == Substrate::Containers => bound,
        Some(Bound::Time(time)) if time >= TIMER_BOUND_MIN => {
            let shorter = shrink.time(if metric == Metric::MessageAcceptGap {
                Time(time.0.saturating_mul(2))
            } else {
                time
            });
            Some(Bound::Time(shorter.max(TIMER_BOUND_FLOOR).min(time)))
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of connection attempts is small")]
        Some(Bound::Number(count)) if metric == Metric::ConnectAttempts => {
            Some(Bound::Number(count * shrink.users.0 as f64 / 1e6))
        }
        other => other,
    };
    for step in &mut experiment.method {
        step.at = step.at.map(|at| shrink.time(at));
        step.for_ = step.for_.map(|len| shrink.time(len));
        if let Some(after) = &mut step.after {
            after.plus = shrink.time(after.plus);
        }
        for (counter, least) in &mut step.witness {
            if counts_devices(counter) {
                least.min = shrink.devices(least.min);
            }
        }
        if let Some(count) = step.fault.devices_mut().and_then(|devices| devices.count.as_mut()) {
            *count = u32::try_from(shrink.devices(u64::from(*count))).unwrap_or(u32::MAX);
        }
        if let FaultSpec::PortSlow(slow) = &mut step.fault
            && shrink.time_divisor > 1
        {
            (slow.delay, slow.jitter) =
                (shorter_call(slow.port, slow.delay), shorter_call(slow.port, slow.jitter));
        }
        for gate in &mut step.expect {
            shrink.gate(gate);
            (gate.min, gate.max) = (timer(gate.metric, gate.min), timer(gate.metric, gate.max));
        }
    }
    for gate in experiment.steady_state.iter_mut().flatten() {
        shrink.gate(gate);
    }
    let recovery = &mut experiment.recovery;
    recovery.within = shrink.time(recovery.within).max(recovery.within.min(wait_min(shrink)));
    recovery.hold = shrink.window(recovery.hold);
    experiment.final_reads.quiet = shrink
        .time(experiment.final_reads.quiet)
        .max(Time::seconds(1))
        .min(experiment.final_reads.quiet);
    experiment
}
