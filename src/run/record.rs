//! Identity and promises of a run: what its record begins with.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use storm_experiment::file::{Control, ResolvedExperiment, Substrate};
use storm_experiment::method::kind;
use storm_record::facts::{Fact, Stopped};
use storm_record::manifest::{FORMAT, Manifest};
use storm_record::promises::{ControlWanted, Expectation, Promises, Recovery, Step};
use storm_record::store::RunFolder;

use super::once::Setup;
use super::{Wish, system, unwritable};
use crate::args::quoted;
use crate::exit::Edge;
use crate::files::Resolved;
use crate::runs;

/// What the runs of one command share.
pub(super) struct Identity {
    /// Run id.
    pub(super) run: String,
    /// Name of the file.
    pub(super) name: String,
    /// Where the system stands.
    pub(super) substrate: Substrate,
    /// Command that repeats it.
    command: String,
    /// Command that judges it again.
    again: String,
    /// Hash of this binary.
    binary: String,
    /// Class of the host.
    host: String,
}

impl Identity {
    pub(super) fn new(wish: &Wish<'_>) -> Result<Self, Edge> {
        let binary = binary()?;
        let plan = wish.resolved.plan();
        let wall = wall_ms();
        let salt = chat_protocol::digest::mix(&[wall, plan.seed, u64::from(std::process::id())]);
        let name = match wish.resolved {
            Resolved::Scenario(plan) => plan.name.clone(),
            Resolved::Experiment(experiment) => experiment.name.clone(),
        };
        let salt = u16::try_from(salt & 0xffff).unwrap_or(0);
        let run = runs::id(wall, salt);
        let place = wish.out.as_deref().map_or(run.clone().into(), Path::to_string_lossy);
        let again = format!("chatstorm report {}", quoted(&place));
        let substrate = wish.substrate;
        Ok(Self {
            run,
            name,
            substrate,
            command: wish.command.clone(),
            again,
            binary,
            host: host(),
        })
    }
}

/// What the record says about the run before it begins.
pub(super) fn manifest(setup: &Setup<'_>, started_ms: u64) -> Manifest {
    let (plan, experiment, identity) = (setup.plan, setup.experiment, setup.identity);
    Manifest {
        format: FORMAT,
        run: identity.run.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        binary: identity.binary.clone(),
        host: identity.host.clone(),
        substrate: identity.substrate.name().to_owned(),
        scenario: plan.name.clone(),
        experiment: experiment.map(|experiment| experiment.name.clone()),
        arm: experiment.and_then(|experiment| experiment.arm.clone()),
        hypothesis: experiment.map(|experiment| experiment.hypothesis.clone()),
        plan_hash: plan.hash(),
        seed: plan.seed,
        scale: plan.scale.clone(),
        variants: plan.system.variants.clone(),
        settings: BTreeMap::new(),
        timers: system::timers(plan),
        servers: BTreeMap::new(),
        partitions: plan.system.log.partitions,
        started_ms,
        command: identity.command.clone(),
        again: identity.again.clone(),
        steered: false,
    }
}

/// What the run is asked to show.
pub(super) fn promises(setup: &Setup<'_>) -> Promises {
    let lag_p99_ns = setup.plan.guards.lag_p99.0;
    let Some(experiment) = setup.experiment else {
        return Promises { slo: setup.plan.gates.clone(), lag_p99_ns, ..Promises::default() };
    };
    let rule = &experiment.recovery;
    let recovery = Recovery {
        within_ns: rule.within.0,
        hold_ns: rule.hold.0,
        on_time: f64::from(rule.on_time.0) / 1e6,
        latency_factor: factor(rule.latency_factor),
        imbalance: rule.imbalance.map(factor),
    };
    let faults = setup.faults;
    let steps = experiment.steps.iter().filter(|_| faults);
    Promises {
        slo: Vec::new(),
        steady_state: setup.plan.gates.clone(),
        steps: steps
            .clone()
            .map(|step| Step { id: step.id.clone(), kinds: vec![kind(&step.fault)] })
            .collect(),
        expects: steps.flat_map(expectations).collect(),
        recovery: faults.then_some(recovery),
        control: if faults { control_wanted(experiment) } else { ControlWanted::None },
        sometimes: if faults { experiment.sometimes.clone() } else { Vec::new() },
        bounds: bounds(experiment),
        lag_p99_ns,
    }
}

fn expectations(step: &storm_experiment::file::ResolvedStep) -> impl Iterator<Item = Expectation> {
    step.expect.iter().map(|gate| Expectation { step: step.id.clone(), gate: gate.clone() })
}

fn bounds(experiment: &ResolvedExperiment) -> BTreeMap<String, f64> {
    let of_file = &experiment.bounds;
    let wire_duplicates = of_file.wire_duplicates.map(|share| f64::from(share.0) / 1e6);
    let bounds = [
        ("wire_duplicates", wire_duplicates),
        ("attempts_a_send", of_file.attempts_a_send.map(factor)),
        ("connects_a_cut", of_file.connects_a_cut.map(factor)),
        ("operations_a_delivery", of_file.operations_a_delivery.map(factor)),
        ("operations_peak", of_file.operations_peak.map(factor)),
    ];
    bounds.into_iter().filter_map(|(name, bound)| Some((name.to_owned(), bound?))).collect()
}

fn control_wanted(experiment: &ResolvedExperiment) -> ControlWanted {
    match experiment.control {
        Control::SameSeed => ControlWanted::SameSeed,
        Control::None => ControlWanted::None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a factor of a file is far below 2^53 millionths")]
fn factor(factor: storm_workload::units::Factor) -> f64 {
    factor.0 as f64 / 1e6
}

/// The record of a run that was stopped before it began.
pub(super) fn never_ran(setup: &Setup<'_>, folder: &RunFolder) -> Result<(), Edge> {
    folder.begin(&manifest(setup, wall_ms()), setup.plan, &promises(setup)).map_err(unwritable)?;
    let mut facts = folder.facts().map_err(unwritable)?;
    let stopped =
        Fact::Stopped(Stopped { why: "signal, during the control run".to_owned(), at_ns: 0 });
    facts.append(&stopped).and_then(|()| facts.flush()).map_err(unwritable)
}

/// The wall clock, read once a run: everything after that is monotonic.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(super) fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Hash of the running binary, also when its file has been replaced since: a control run of another build is no control run.
fn binary() -> Result<String, Edge> {
    let unreadable =
        |error: std::io::Error| Edge::internal("this binary cannot be read").caused_by(error);
    let mut file = File::open("/proc/self/exe").map_err(unreadable)?;
    let (mut hash, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
    let mut bytes = 0_u64;
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(format!("{:08x}-{bytes}", hash.finalize()));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Architecture, cores and memory: enough to compare like with like, and no name.
fn host() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let gib = kib.map_or(0, |kib| (kib + (1 << 19)) >> 20);
    format!("{}-{}-{cores}c-{gib}g", std::env::consts::OS, std::env::consts::ARCH)
}
