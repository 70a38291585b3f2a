//! `plan FILE`: what a run would do; starts nothing.
use std::fmt::Write as _;

use serde::Serialize;
use storm_experiment::file::ResolvedExperiment;
use storm_workload::Plan;
use storm_workload::gate::Gate;
use storm_workload::summary::Estimates;

use crate::args::{Format, PlanArgs, SubstrateName};
use crate::exit::{Edge, Exit};
use crate::files::{self, Resolved};
use crate::footprint::Footprint;
use crate::output::Output;
use crate::preflight;
use crate::words::faults::FAULTS;

/// The plan for programs.
#[derive(Serialize)]
struct PlanData<'a> {
    hash: String,
    estimates: Estimates,
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<&'a ResolvedExperiment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Footprint>,
}

/// Prints the plan. A plan that this machine cannot carry is printed too, and ends with 3.
pub(crate) fn plan(args: &PlanArgs, output: &Output) -> Result<Exit, Edge> {
    let resolved = files::resolve(&args.file, output)?;
    let plan = resolved.plan();
    let experiment = match &resolved {
        Resolved::Experiment(experiment) => Some(experiment.as_ref()),
        Resolved::Scenario(_) => None,
    };
    let containers =
        (args.file.substrate == SubstrateName::Containers).then(|| Footprint::of(plan, experiment));
    match output.format {
        Format::Json => output.json(&PlanData {
            hash: plan.hash(),
            estimates: plan.estimates(),
            plan,
            experiment,
            containers,
        })?,
        Format::Text => {
            let method = experiment.map(method).unwrap_or_default();
            let containers = containers.map(|footprint| footprint.text()).unwrap_or_default();
            output.data(&format!("{}{method}{containers}", plan.summary()))?;
        }
    }
    preflight::descriptors(&resolved)?;
    Ok(Exit::Pass)
}

/// The experiment around the load: hypothesis, method with its undo, recovery.
fn method(experiment: &ResolvedExperiment) -> String {
    let mut text = String::new();
    write_method(&mut text, experiment).expect("writing to a string cannot fail");
    text
}

fn write_method(text: &mut String, experiment: &ResolvedExperiment) -> std::fmt::Result {
    writeln!(text, "experiment {}", experiment.name)?;
    writeln!(text, "  hypothesis   {}", experiment.hypothesis)?;
    if let Some(arm) = &experiment.arm {
        writeln!(text, "  arm          {arm}")?;
    }
    writeln!(text, "method, from the start of the fault window")?;
    for step in &experiment.steps {
        let ends = step
            .hold
            .map_or_else(|| "until the heal phase".to_owned(), |hold| format!("for {hold}"));
        writeln!(text, "  {:<12} at {}, {ends}: {}", step.id, step.at, fault(step))?;
        if let Some(word) = FAULTS.iter().find(|word| word.name == step.fault.name()) {
            writeln!(text, "  {:<12}   witness: {}", "", word.witness)?;
            writeln!(text, "  {:<12}   undo: {}", "", word.undo)?;
        }
        for gate in &step.expect {
            writeln!(text, "  {:<12}   expect: {}", "", rule(gate))?;
        }
    }
    let recovery = &experiment.recovery;
    writeln!(text, "recovery")?;
    writeln!(text, "  within       {}, held for {}", recovery.within, recovery.hold)
}

fn fault(step: &storm_experiment::file::ResolvedStep) -> String {
    // The attributes as they are written in files.
    serde_json::to_string(&step.fault).expect("a fault is plain data")
}

fn rule(gate: &Gate) -> String {
    let bound = match (gate.min, gate.max, gate.max_factor, &gate.baseline) {
        (Some(min), ..) => format!(">= {min}"),
        (_, Some(max), ..) => format!("<= {max}"),
        (_, _, Some(factor), Some(baseline)) => format!("<= {factor} x {baseline}"),
        _ => "has no bound".to_owned(),
    };
    format!("{} {} {bound} over {}", gate.metric, gate.stat.name(), gate.over())
}
