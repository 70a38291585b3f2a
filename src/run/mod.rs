//! From a resolved file to a verdict: the control run, the run itself, their folders and reports.
//!
//! - `once` start here: one system, one load, one run.
//! - `system` the system of a plan, with its variants as policies.
//! - `drive` the load engine as the experiment runner sees it.
//! - `record` identity and promises of a run.
//! - `notes` facts go to the run folder, and what people want to see to the progress line.
//! - `steady` whether the steady state held.
//! - `up` a system that stays up.
//! - `stops` conditions that end a run early.
mod drive;
mod notes;
mod once;
mod record;
mod steady;
mod stops;
mod system;
mod up;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use storm_experiment::file::{Control, ResolvedExperiment, Substrate};
use storm_judge::Report;
use storm_record::store::RunFolder;
use storm_workload::Plan;

pub use up::up;

use once::{Live, Setup};
use record::Identity;

use crate::exit::{Edge, Exit};
use crate::files::Resolved;
use crate::output::Output;
use crate::signals::Signals;
use crate::{preflight, progress, runs, substrate};

/// What a run is asked for beside its file.
pub struct Wish<'a> {
    /// Scenario or experiment.
    pub resolved: &'a Resolved,
    /// Where the system stands.
    pub substrate: Substrate,
    /// Generator shards.
    pub shards: Option<u32>,
    /// Folder of the run.
    pub out: Option<PathBuf>,
    /// Command that repeats it.
    pub command: String,
}

/// Runs a file: the control run first where one is wanted, then the run, then the judge. Prints the report and answers its code.
pub fn run(wish: &Wish<'_>, output: &Output, signals: &Signals) -> Result<Exit, Edge> {
    let report = judged(wish, output, signals)?;
    output.data(&storm_render::terminal::text(&report, output.color))?;
    Ok(Exit::from_code(report.exit_code))
}

/// The same, with the report in the hand of the caller.
pub fn judged(wish: &Wish<'_>, output: &Output, signals: &Signals) -> Result<Report, Edge> {
    let plan = wish.resolved.plan();
    preflight::lever()?;
    preflight::descriptors(wish.resolved)?;
    preflight::raise_descriptors()?;
    // Before there is a folder, so that a run that could not start leaves nothing behind.
    substrate::preflight(wish.substrate, wish.resolved)?;
    let config = system::config(plan, Path::new(""), 0)?;
    preflight_ports(&substrate::addresses(wish.substrate, &config))?;
    let identity = Identity::new(wish)?;
    let path = wish.out.clone().unwrap_or_else(|| runs::folder(&identity.run));
    std::fs::create_dir_all(&path).map_err(|error| {
        Edge::no_start(format!("`{}` cannot be made", path.display())).caused_by(error)
    })?;
    preflight::disk(&path)?;
    let experiment = match wish.resolved {
        Resolved::Experiment(experiment) => Some(experiment.as_ref()),
        Resolved::Scenario(_) => None,
    };
    #[cfg(feature = "containers")]
    let _deadman = (wish.substrate == Substrate::Containers)
        .then(|| crate::containers::Deadman::start(&identity.run))
        .transpose()?;
    let mut live = Live::start(output, &identity, plan);
    let folder = create(&path)?;
    if let Some(experiment) = experiment.filter(|experiment| wants_control(experiment)) {
        live.section("control");
        let control = create(&path.join("control"))?;
        let setup = Setup {
            plan,
            experiment: Some(experiment),
            faults: false,
            identity: &identity,
            shards: wish.shards,
        };
        once::run(&setup, &control, &live, signals)?;
        let record = control.read().map_err(unreadable)?;
        let summary = storm_judge::control::summarise(&record);
        folder.put_control(&summary).map_err(unwritable)?;
        live.section(&experiment.name);
    }
    if !signals.stopped() || experiment.is_none() {
        let setup =
            Setup { plan, experiment, faults: true, identity: &identity, shards: wish.shards };
        once::run(&setup, &folder, &live, signals)?;
    } else {
        // Stopped during the control run: the record of the run itself begins and ends with that.
        record::never_ran(
            &Setup { plan, experiment, faults: true, identity: &identity, shards: wish.shards },
            &folder,
        )?;
    }
    let report = reports(&folder)?;
    if wish.out.is_none() {
        runs::point_latest(&path)?;
    }
    live.finish(&report, &path);
    Ok(report)
}

/// Judges a stored run and writes its reports beside it.
pub fn reports(folder: &RunFolder) -> Result<Report, Edge> {
    let record = folder.read().map_err(unreadable)?;
    let report = storm_judge::judge(&record)
        .map_err(|error| Edge::internal("the stored plan cannot be read").caused_by(error))?;
    storm_render::write_all(&report, folder.path())
        .map_err(|error| Edge::internal("the reports cannot be written").caused_by(error))?;
    Ok(report)
}

fn wants_control(experiment: &ResolvedExperiment) -> bool {
    experiment.control == Control::SameSeed
}

fn create(path: &Path) -> Result<RunFolder, Edge> {
    if path.join("manifest.json").exists() {
        return Err(Edge::usage(format!("`{}` holds a run already", path.display()))
            .hint("give another folder with `--out`"));
    }
    RunFolder::create(path)
        .map_err(|error| Edge::no_start("the run folder cannot be made").caused_by(error))
}

fn unreadable(error: storm_record::store::StoreError) -> Edge {
    Edge::internal("the record cannot be read back").caused_by(error)
}

fn unwritable(error: storm_record::store::StoreError) -> Edge {
    Edge::internal("the record cannot be written").caused_by(error).hint(
        "see to the disk, then run again; `chatstorm report RUN` shows what was stored until then",
    )
}

/// How many generator shards a host gets unless somebody says: one for every four cores.
fn shards_of_host() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u32::try_from(cores / 4).unwrap_or(1).max(1)
}

/// The load of a plan, in the words of the progress line.
fn head(plan: &Plan, identity: &Identity) -> Vec<(&'static str, String)> {
    vec![
        ("name", identity.name.clone()),
        ("substrate", identity.substrate.name().to_owned()),
        ("seed", plan.seed.to_string()),
        ("run", identity.run.clone()),
        ("scale", plan.scale.clone()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ]
}

type Line = progress::Progress;

/// Refuses to start where a port of the system is not ours, and names it.
fn preflight_ports(addresses: &[SocketAddr]) -> Result<(), Edge> {
    for addr in addresses {
        chat_testbed::expect_port(*addr)
            .map_err(|trouble| Edge::no_start(trouble.to_string()).hint(trouble.cure()))?;
    }
    Ok(())
}
