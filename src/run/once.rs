//! One system, one load, one run: started, run through its phases, stopped, whatever happens in between.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_control::Control;
use chat_protocol::DeviceId;
use chat_testbed::Testbed;
use storm_experiment::file::ResolvedExperiment;
use storm_experiment::load::Load as _;
use storm_experiment::notes::{Notes as _, StopSwitch};
use storm_experiment::runner::{Progress, Run, RunError};
use storm_experiment::watch::WallClock;
use storm_faults::{Bed, BedParts, Journal, Remainder};
use storm_judge::Report;
use storm_load::entry::Ahead;
use storm_load::{Engine, EngineConfig, Entries, RunClock};
use storm_proxy::{Preamble, ProxyConfig, ProxySet, Rules};
use storm_record::facts::{Fact, FaultMark, FaultNote, ObserverLost, Stopped};
use storm_record::store::{Collector, RunFolder};
use storm_workload::Plan;

use super::drive::Drive;
use super::notes::Scribe;
use super::record::{self, Identity};
use super::stops::{Health, Stops};
use super::{Line, system, unwritable};
use crate::exit::Edge;
use crate::output::Output;
use crate::progress::{NodeMark, Status};
use crate::signals::Signals;
use crate::substrate;

/// First port of the proxies in front of the entry addresses.
const PROXY_PORT: u16 = 7_501;
/// What faults left is cleared up within this.
const CLEAR_UP: Duration = Duration::from_secs(10);

/// What one run is made of.
pub(super) struct Setup<'a> {
    pub(super) plan: &'a Plan,
    pub(super) experiment: Option<&'a ResolvedExperiment>,
    /// Whether the method is carried out; a control run does without.
    pub(super) faults: bool,
    pub(super) identity: &'a Identity,
    pub(super) shards: Option<u32>,
}

/// The progress line over all runs of a command.
pub(super) struct Live {
    line: Mutex<Line>,
    section: String,
    began: tokio::time::Instant,
}

impl Live {
    pub(super) fn start(output: &Output, identity: &Identity, plan: &Plan) -> Self {
        let line = Line::start(output, &super::head(plan, identity));
        Self { line: Mutex::new(line), section: String::new(), began: tokio::time::Instant::now() }
    }

    /// From now on another run.
    pub(super) fn section(&mut self, name: &str) {
        self.line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .event("run", &[("begins", name.to_owned())]);
        name.clone_into(&mut self.section);
    }

    pub(super) fn finish(self, report: &Report, folder: &Path) {
        let line = self.line.into_inner().unwrap_or_else(PoisonError::into_inner);
        line.finish(&[
            ("verdict", report.verdict.name().to_owned()),
            ("exit", report.exit_code.to_string()),
            ("report", folder.join(crate::runs::REPORT).display().to_string()),
            ("repeat", report.commands.repeat.clone()),
        ]);
    }

    fn line(&self) -> &Mutex<Line> {
        &self.line
    }

    fn status(&self, progress: &Progress<'_>, last: &mut Counts, nodes: &[NodeMark]) {
        let (pulse, phase) = (progress.pulse, progress.phase);
        let second =
            |now: u64, before: &mut u64| now.saturating_sub(std::mem::replace(before, now));
        let time = |ns: u64| (ns > 0).then(|| Duration::from_nanos(ns));
        let status = Status {
            run: self.began.elapsed(),
            phase: format!(
                "{}{}{}",
                self.section,
                if self.section.is_empty() { "" } else { "/" },
                phase.name
            ),
            elapsed: progress.passed,
            length: Some(Duration::from_nanos(phase.end.longest().0)),
            offered: second(pulse.offered, &mut last.offered),
            written: second(pulse.written, &mut last.written),
            delivered: second(pulse.delivered, &mut last.delivered),
            p99: time(pulse.delivered_p99_ns),
            lag: time(pulse.lag_p99_ns),
            owed: pulse.owed,
            nodes: nodes.to_vec(),
            gates: None,
        };
        self.line.lock().unwrap_or_else(PoisonError::into_inner).status(&status);
    }
}

#[derive(Default)]
struct Counts {
    offered: u64,
    written: u64,
    delivered: u64,
}

/// Runs one plan against a fresh system. The record lies in `folder` afterwards, also when the run ended early.
pub(super) fn run(
    setup: &Setup<'_>,
    folder: &RunFolder,
    live: &Live,
    signals: &Signals,
) -> Result<(), Edge> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Edge::no_start("no runtime for the run").caused_by(error))?;
    let data = folder.path().join("system");
    std::fs::create_dir_all(&data)
        .map_err(|error| Edge::no_start("no folder for the system's files").caused_by(error))?;
    let outcome = runtime.block_on(on_runtime(setup, folder, &data, live, signals));
    runtime.shutdown_background();
    // The system's own files are of no use to a judge.
    if let Err(error) = std::fs::remove_dir_all(&data) {
        tracing::warn!(%error, folder = %data.display(), "The files of the system could not be removed.");
    }
    outcome
}

async fn on_runtime(
    setup: &Setup<'_>,
    folder: &RunFolder,
    data: &Path,
    live: &Live,
    signals: &Signals,
) -> Result<(), Edge> {
    let plan = setup.plan;
    let started_ms = record::wall_ms();
    let clock = RunClock::start();
    let timers = system::timers(plan);
    let mut manifest = record::manifest(setup, started_ms);
    let promises = record::promises(setup);
    folder.begin(&manifest, plan, &promises).map_err(unwritable)?;

    let mut config = system::config(plan, data, started_ms)?;
    let (identity, path) = (setup.identity, folder.path());
    config.backends =
        substrate::backends(identity.substrate, &identity.run, path, setup.experiment);
    let mut entries = config.entries();
    let nodes = config.node_names();
    let testbed = Testbed::start(config).await.map_err(|error| {
        let lacks =
            "`chatstorm doctor` shows what this machine lacks; a port may be taken by another run";
        let cure = error.cure().unwrap_or_else(|| lacks.to_owned());
        Edge::no_start("the system did not start").caused_by(error).hint(cure)
    })?;
    manifest.servers = testbed.servers();
    folder.put_manifest(&manifest).map_err(unwritable)?;
    let proxies = match setup.experiment {
        Some(experiment) if experiment.needs_proxy() => Some(proxies(plan, &mut entries).await?),
        _ => None,
    };
    let ahead: Option<Ahead> = proxies
        .is_some()
        .then(|| Arc::new(|device: DeviceId| Preamble { device: device.0 }.encode()) as Ahead);
    let engine_config = EngineConfig {
        plan: Arc::new(plan.clone()),
        shards: setup.shards.unwrap_or_else(super::shards_of_host),
        entries: Entries { addresses: entries, ahead },
        timers,
        policies: system::client(plan)?,
        run_id: setup.identity.run.clone(),
        clock,
        on_thread: substrate::on_generator_thread(setup.identity.substrate),
    };
    let mut engine = Engine::start(&engine_config)
        .map_err(|error| Edge::no_start("the load generator did not start").caused_by(error))?;
    let collector = Collector::start(folder, engine.take_feeds()).map_err(unwritable)?;
    let drive = Arc::new(Drive::new(engine, clock, plan));
    let journal = Journal::create(&folder.path().join("undo.jsonl"), clock.zero())
        .map_err(|error| Edge::no_start("the undo journal cannot be made").caused_by(error))?;
    let control = testbed.control();
    let bed = Bed::start(BedParts {
        control: Arc::clone(&control),
        proxies: proxies.as_ref().map(ProxySet::handle),
        devices: Arc::clone(&drive) as Arc<dyn storm_faults::Devices>,
        journal,
        seed: plan.seed,
        timers,
    })
    .map_err(|error| Edge::no_start("the janitor of faults did not start").caused_by(error))?;

    let scribe = Scribe::new(folder.facts().map_err(unwritable)?, live.line());
    let parts = Parts {
        setup,
        folder: folder.path(),
        control: &*control,
        bed: &bed,
        drive: &drive,
        scribe: &scribe,
        collector: &collector,
    };
    let ran = parts.through(live, signals, started_ms).await;

    // Everything is taken down in every case, and what could not be is said.
    let remainder = bed.finish(CLEAR_UP).await;
    note_remainder(&scribe, &remainder, &drive);
    let drive_alive = drive.alive();
    let stopped = tokio::task::spawn_blocking({
        let drive = Arc::clone(&drive);
        move || drive.stop()
    })
    .await;
    if !drive_alive || !matches!(stopped, Ok(Some(_))) {
        let why = "a thread of the load generator died".to_owned();
        scribe.note(Fact::ObserverLost(ObserverLost {
            observer: ObserverLost::LOAD.to_owned(),
            why,
            at_ns: clock.now_ns(),
        }));
    }
    let written = tokio::task::spawn_blocking(move || collector.finish()).await;
    testbed.stop().await;
    substrate::remember_panics(identity.substrate, path, &nodes);
    note_panics(&scribe, clock);
    if let Some(proxies) = proxies {
        proxies.handle().shutdown().await;
        if tokio::task::spawn_blocking(move || proxies.shutdown()).await.is_err() {
            tracing::error!("The thread of the proxies panicked.");
        }
    }
    scribe.finish().map_err(unwritable)?;
    match written {
        Ok(done) => done.map_err(unwritable)?,
        Err(error) => {
            return Err(Edge::internal("the collector of the record panicked").caused_by(error));
        }
    }
    ran.map_err(no_load)
}

struct Parts<'a> {
    setup: &'a Setup<'a>,
    folder: &'a Path,
    control: &'a dyn Control,
    bed: &'a Bed,
    drive: &'a Arc<Drive>,
    scribe: &'a Scribe<'a>,
    collector: &'a Collector,
}

impl Parts<'_> {
    /// All phases, while signals and stop conditions are looked at.
    async fn through(&self, live: &Live, signals: &Signals, start_ms: u64) -> Result<(), RunError> {
        let experiment = self.setup.experiment;
        let quiet = experiment
            .map_or(Duration::from_secs(1), |e| Duration::from_nanos(e.final_reads.quiet.0));
        let stop = StopSwitch::default();
        let nodes = Mutex::new(Vec::new());
        let last = Mutex::new(Counts::default());
        let stops = Stops::new(&stop, self.folder);
        let progress = |progress: Progress<'_>| {
            let record = !self.scribe.failed() && !self.collector.ended();
            stops.look(&progress, Health { generator: self.drive.alive(), record });
            let nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
            live.status(
                &progress,
                &mut last.lock().unwrap_or_else(PoisonError::into_inner),
                &nodes,
            );
        };
        let run = Run {
            plan: self.setup.plan,
            steps: experiment.filter(|_| self.setup.faults).map_or(&[], |e| &e.steps),
            recovery: experiment.map(|e| &e.recovery),
            quiet,
            load: &**self.drive,
            control: self.control,
            bed: self.bed,
            notes: self.scribe,
            stop: &stop,
            steady_holds: &|| super::steady::holds(self.setup.plan, self.collector),
            progress: &progress,
            wall: WallClock { start_ms },
        };
        let watch_signals = async {
            signals.stop.cancelled().await;
            stop.stop("signal");
            signals.leave.cancelled().await;
        };
        let watch_nodes = async {
            loop {
                let marks = self
                    .control
                    .nodes()
                    .await
                    .map(|nodes| nodes.iter().map(mark).collect::<Vec<_>>());
                *nodes.lock().unwrap_or_else(PoisonError::into_inner) = marks.unwrap_or_default();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            ran = run.run() => ran,
            () = watch_signals => {
                // The second signal leaves without drain; the record has no end.
                let at_ns = self.drive.now_ns();
                self.scribe.note(Fact::Stopped(Stopped { why: "second signal".to_owned(), at_ns }));
                Ok(())
            }
            () = watch_nodes => Ok(()),
        }
    }
}

fn mark(node: &chat_control::inspect::NodeInfo) -> NodeMark {
    use chat_control::inspect::NodeState;
    match node.state {
        NodeState::Running => NodeMark::Running,
        NodeState::Paused | NodeState::Draining => NodeMark::Waiting,
        NodeState::Vanished | NodeState::Stopped => NodeMark::Down,
    }
}

/// A listener in front of every entry address, on one thread; devices name themselves to it.
async fn proxies(plan: &Plan, entries: &mut [SocketAddr]) -> Result<ProxySet, Edge> {
    let no_start = |error: storm_proxy::StartError| {
        Edge::no_start("the fault proxies did not start").caused_by(error)
    };
    let set = ProxySet::start().map_err(no_start)?;
    for (port, entry) in (PROXY_PORT..).zip(entries) {
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        let config = ProxyConfig {
            name: format!("entry-{}", entry.port()),
            listen,
            upstream: *entry,
            rules: Rules::neutral(),
            seed: plan.seed,
            preamble: true,
        };
        set.handle().add(config).await.map_err(no_start)?;
        *entry = listen;
    }
    Ok(set)
}

/// A thread that panicked, here or in a node of its own process, was a part of the system or of those who watch it, and both are needed
/// for a pass.
fn note_panics(scribe: &Scribe<'_>, clock: RunClock) {
    for why in crate::panics::seen() {
        let observer = ObserverLost::PROCESS.to_owned();
        scribe.note(Fact::ObserverLost(ObserverLost { observer, why, at_ns: clock.now_ns() }));
    }
}

/// What faults left behind makes a pass impossible.
fn note_remainder(scribe: &Scribe<'_>, remainder: &Remainder, drive: &Drive) {
    if remainder.is_clean() {
        return;
    }
    let mut why: Vec<String> =
        remainder.failed.iter().map(|(id, why)| format!("undo {id}: {why}")).collect();
    why.extend(remainder.open.iter().map(|line| format!("undo {} is open", line.id)));
    if remainder.tasks_left {
        why.push("a task of a fault did not end".to_owned());
    }
    let mark = FaultMark::NotHealed(why.join("; "));
    let note =
        FaultNote { step: "clear-up".to_owned(), fault: u32::MAX, mark, at_ns: drive.now_ns() };
    scribe.note(Fact::Fault(note));
}

fn no_load(error: RunError) -> Edge {
    Edge::no_start("the run did not begin")
        .caused_by(error)
        .hint("`chatstorm doctor` shows what this machine lacks")
}
