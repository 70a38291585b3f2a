//! A path or a catalog name becomes a scenario or an experiment, resolved and checked.
use storm_experiment::file::{EXPERIMENTS, ExperimentOverrides, ResolvedExperiment};
use storm_workload::catalog::{Catalog, SCENARIOS, is_path};
use storm_workload::document::{Document, FileErrors, hint};
use storm_workload::scale::Scale;
use storm_workload::units::Time;
use storm_workload::{Overrides, Plan};

use crate::args::FileArgs;
use crate::exit::Edge;
use crate::output::Output;
use crate::{substrate, variants};

/// What a file asks for, with every value known.
#[derive(Debug)]
pub enum Resolved {
    /// A scenario: load without faults.
    Scenario(Box<Plan>),
    /// An experiment: load, faults and their healing.
    Experiment(Box<ResolvedExperiment>),
}

impl Resolved {
    /// The load, with all windows.
    pub fn plan(&self) -> &Plan {
        match self {
            Self::Scenario(plan) => plan,
            Self::Experiment(experiment) => &experiment.plan,
        }
    }

    /// File descriptors that faults need besides those of the load.
    pub fn descriptors_of_faults(&self) -> u64 {
        match self {
            Self::Scenario(_) => 0,
            Self::Experiment(experiment) => experiment.descriptors(),
        }
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        match self {
            Self::Scenario(plan) => &plan.name,
            Self::Experiment(experiment) => &experiment.name,
        }
    }
}

/// Names and purposes of the shipped scenarios.
pub fn scenarios() -> Result<Vec<(String, String)>, Edge> {
    described(&SCENARIOS, "about")
}

/// Names, hypotheses and arms of the shipped experiments.
pub fn experiments() -> Result<Vec<(String, String, Vec<String>)>, Edge> {
    let with_arms = |(name, hypothesis): (String, String)| {
        let arms = storm_experiment::file::arms_of(&name, &EXPERIMENTS);
        Ok((name, hypothesis, arms.map_err(|error| Edge::internal(error.to_string()))?))
    };
    described(&EXPERIMENTS, "hypothesis")?.into_iter().map(with_arms).collect()
}

fn described(catalog: &Catalog, key: &str) -> Result<Vec<(String, String)>, Edge> {
    let about = |name: &str| -> Result<String, FileErrors> {
        let document = Document::read(&catalog.source(name)?)?;
        Ok(document.get(key).and_then(|node| node.text()).unwrap_or_default().to_owned())
    };
    let line = |name: &str| {
        Ok((name.to_owned(), about(name).map_err(|error| Edge::internal(error.to_string()))?))
    };
    catalog.names().into_iter().map(line).collect()
}

/// Resolves what was typed. All errors of the files come at once, drawn with their lines.
pub fn resolve(args: &FileArgs, output: &Output) -> Result<Resolved, Edge> {
    let drawn = |errors: FileErrors| Edge::diagnostic(errors.render(output.color));
    let scale = args.scale.as_deref().map(str::parse::<Scale>).transpose().map_err(Edge::usage)?;
    let steady_for = args.steady.as_deref().map(Time::parse).transpose().map_err(|error| {
        Edge::usage(format!("`--for`: {error}"))
            .hint("write a time with its unit, for example `--for 20s`")
    })?;
    let names = variants::names();
    let substrate = args.substrate.into();
    if is_experiment(&args.file).map_err(drawn)? {
        let overrides = ExperimentOverrides {
            sets: args.sets.clone(),
            scale,
            seed: args.seed,
            steady_for,
            arm: args.arm.clone(),
            substrate,
            partitions: substrate::partitions(substrate),
            ci: substrate::ci(substrate),
        };
        let experiment =
            ResolvedExperiment::resolve(&args.file, (&EXPERIMENTS, &SCENARIOS), &overrides, &names);
        return Ok(Resolved::Experiment(Box::new(experiment.map_err(drawn)?)));
    }
    if args.arm.is_some() {
        return Err(Edge::usage(format!(
            "`{}` is a scenario, and scenarios have no arms",
            args.file
        ))
        .hint("leave out `--arm`, or name an experiment"));
    }
    let overrides = Overrides {
        sets: args.sets.clone(),
        scale,
        seed: args.seed,
        steady_for,
        partitions: substrate::partitions(substrate),
        ci: substrate::ci(substrate),
        ..Overrides::default()
    };
    let plan = Plan::resolve(&args.file, &SCENARIOS, &overrides, &names).map_err(drawn)?;
    Ok(Resolved::Scenario(Box::new(plan)))
}

/// Whether an argument means an experiment. A file is one when it has a method.
fn is_experiment(file: &str) -> Result<bool, FileErrors> {
    if is_path(file) {
        return Ok(Document::read(&SCENARIOS.source(file)?)?.get("method").is_some());
    }
    let (scenario, experiment) = (SCENARIOS.get(file).is_some(), EXPERIMENTS.get(file).is_some());
    if scenario || experiment {
        return Ok(experiment);
    }
    let known = [EXPERIMENTS.names(), SCENARIOS.names()].concat();
    Err(FileErrors::of_name(
        file,
        format!("no scenario and no experiment is called `{file}`"),
        Some(hint(file, &known)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;

    fn typed(arguments: &[&str]) -> Result<Resolved, Edge> {
        let args = Args::try_parse_from([&["chatstorm", "plan"], arguments].concat()).unwrap();
        let output = Output::new(&args.global);
        let Command::Plan(plan) = args.command else { unreachable!("`plan` was typed") };
        resolve(&plan.file, &output)
    }

    #[test]
    fn name_that_nobody_knows_gets_the_nearest_one() {
        let edge = typed(&["gateway-kil"]).unwrap_err();
        assert_eq!(edge.exit.code(), 2);
        assert!(edge.to_string().contains("did you mean `gateway-kill`?"), "{edge}");
    }

    #[test]
    fn scenario_has_no_arms() {
        assert!(typed(&["smoke", "--arm", "silent"]).unwrap_err().to_string().contains("no arms"));
    }

    #[test]
    fn wrong_unit_and_unknown_key_are_shown_together() {
        let edge = typed(&["smoke", "--set", "streams.chat.rate=5", "--set", "system.gatewys=2"])
            .unwrap_err();
        let text = edge.to_string();
        assert_eq!(edge.exit.code(), 2);
        assert!(text.contains("gatewys") && text.contains("rate"), "{text}");
    }

    #[test]
    fn length_of_steady_needs_a_unit() {
        assert!(typed(&["smoke", "--for", "20"]).unwrap_err().to_string().contains("--for 20s"));
    }
}
