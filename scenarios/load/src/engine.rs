//! Start, steer, watch and stop.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use chat_client::Policies;
use chat_protocol::limits::Timers;
use storm_record::facts::AcceptGap;
use storm_record::{Ledger, ShardFeed};
use storm_workload::{Plan, Schedule};
use tokio::sync::Notify;

use crate::clock::RunClock;
use crate::entry::Entries;
use crate::gaps::Gaps;
use crate::pacer::{Begin, Scheduler, WAITING_MAX};
use crate::shard::{Command, Shard, ledger_config};
use crate::stats::{DeviceFinal, DeviceView, Stats};

/// Commands that may wait for a shard.
const COMMANDS_MAX: usize = 256;

/// What an engine needs.
#[derive(Clone)]
pub struct EngineConfig {
    /// Who sends what and when.
    pub plan: Arc<Plan>,
    /// Shards; communities are never cut.
    pub shards: u32,
    /// Where devices connect.
    pub entries: Entries,
    /// Timers of the system.
    pub timers: Timers,
    /// Choices of the clients.
    pub policies: Policies,
    /// Names the run in every body.
    pub run_id: String,
    /// Clock of the run.
    pub clock: RunClock,
    /// Called by each thread of the generator as it begins, for a caller who gives them precedence on the host.
    pub on_thread: Option<OnThread>,
}

/// What a thread does as it begins.
pub type OnThread = Arc<dyn Fn() + Send + Sync>;

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A thread or its runtime cannot be made.
    #[error("cannot start a thread of the load generator")]
    Thread(#[source] std::io::Error),
    /// No address to connect to.
    #[error("there is no entry address")]
    NoEntry,
}

/// Units that an active fault affects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlastSet {
    /// Names of gateways; devices connected to them now or later are affected.
    pub nodes: BTreeSet<String>,
    /// Dense numbers of devices.
    pub devices: BTreeSet<u32>,
}

/// What a stopped engine hands over.
pub struct Evidence {
    /// What devices saw, merged over shards.
    pub ledger: Ledger,
    /// What every device has, in order of its number.
    pub devices: Vec<DeviceFinal>,
    /// Final figures.
    pub stats: Stats,
}

struct Running {
    commands: SyncSender<Command>,
    begins: SyncSender<Begin>,
    wake: Arc<Notify>,
    stats: Arc<Mutex<Stats>>,
    views: Arc<Mutex<Vec<DeviceView>>>,
    io: JoinHandle<Option<(Ledger, Vec<DeviceFinal>)>>,
    scheduler: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

/// A running load generator.
pub struct Engine {
    shards: Vec<Running>,
    feeds: Vec<ShardFeed>,
    schedule: Arc<Schedule>,
    gaps: Arc<Gaps>,
    clock: RunClock,
}

impl Engine {
    /// Starts the threads; no socket is opened yet.
    pub fn start(config: &EngineConfig) -> Result<Self, EngineError> {
        if config.entries.addresses.is_empty() {
            return Err(EngineError::NoEntry);
        }
        let schedule = Arc::new(Schedule::new(Arc::clone(&config.plan)));
        let gaps = Arc::new(Gaps::new(config.plan.system.log.partitions));
        let (shards, feeds, clock) = (Vec::new(), Vec::new(), config.clock);
        let mut engine = Self { shards, feeds, schedule, gaps, clock };
        for shard in 0..config.shards.max(1) {
            match engine.start_shard(config, shard) {
                Ok(()) => {}
                Err(error) => {
                    drop(engine.stop());
                    return Err(EngineError::Thread(error));
                }
            }
        }
        Ok(engine)
    }

    fn start_shard(&mut self, config: &EngineConfig, shard: u32) -> std::io::Result<()> {
        let shards = config.shards.max(1);
        let (record, feed) = storm_record::Shard::new(ledger_config(&self.schedule, shard, shards));
        let (commands, command_queue) = sync_channel(COMMANDS_MAX);
        let (begins, begin_queue) = sync_channel(COMMANDS_MAX);
        let (out, due) = sync_channel(WAITING_MAX);
        let (wake, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let dropped = Arc::new(AtomicU64::new(0));
        let (stats, views) =
            (Arc::new(Mutex::new(Stats::default())), Arc::new(Mutex::new(Vec::new())));
        let scheduler = Scheduler {
            schedule: Arc::clone(&self.schedule),
            shard,
            shards,
            clock: config.clock,
            begins: begin_queue,
            out,
            wake: Arc::clone(&wake),
            dropped: Arc::clone(&dropped),
            stop: Arc::clone(&stop),
        };
        let io = Shard {
            config: config.clone(),
            schedule: Arc::clone(&self.schedule),
            number: shard,
            shards,
            commands: command_queue,
            due,
            wake: Arc::clone(&wake),
            dropped,
            gaps: Arc::clone(&self.gaps),
            stats: Arc::clone(&stats),
            views: Arc::clone(&views),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let io = std::thread::Builder::new()
            .name(format!("storm-io-{shard}"))
            .spawn(begins_with(config.on_thread.clone(), move || io.run(&runtime, record)))?;
        let scheduler = std::thread::Builder::new()
            .name(format!("storm-sched-{shard}"))
            .spawn(begins_with(config.on_thread.clone(), move || scheduler.run()))?;
        self.shards.push(Running { commands, begins, wake, stats, views, io, scheduler, stop });
        self.feeds.push(feed);
        Ok(())
    }

    /// The schedule, for those that recompute messages.
    pub fn schedule(&self) -> &Arc<Schedule> {
        &self.schedule
    }

    /// What the shards record, once, for the collector. Take it before [`Self::stop`] and let the collector run until then:
    /// a shard hands over its last slice only when there is room.
    pub fn take_feeds(&mut self) -> Vec<ShardFeed> {
        std::mem::take(&mut self.feeds)
    }

    /// Gets a token for every device, over a few connections that are kept; see [`Stats::provisioned`].
    pub fn provision(&self) {
        self.tell(|_| Command::Provision);
    }

    /// Connects the devices that the plan has online, at its rate; see [`Stats::all_connected`].
    pub fn connect(&self) {
        self.tell(|_| Command::Connect);
    }

    /// Begins a phase of the plan at `at_ns` on the run's clock: its intents are fired, those of the phase before that are not
    /// due by then never will be. The first call gives window 0 its name, every further one begins the next window of the
    /// record. In the drain phase everybody connects, at the plan's rate.
    pub fn begin_phase(&self, phase: usize, at_ns: u64) {
        self.gaps.begin(at_ns);
        for shard in &self.shards {
            // A shard that is gone has nothing to fire.
            let Ok(()) = shard.begins.send(Begin { phase, at_ns }) else { continue };
        }
        self.tell(|_| Command::Phase(phase, at_ns));
    }

    /// Splits series by who is affected; `None` while no fault is active.
    pub fn set_blast(&self, blast: Option<&BlastSet>) {
        self.tell(|_| Command::Blast(blast.cloned()));
    }

    /// Figures of the present.
    pub fn stats(&self) -> Stats {
        let mut all = Stats { quiet_ns: u64::MAX, ..Stats::default() };
        for shard in &self.shards {
            all.add(&shard.stats.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    /// The longest time each partition of the log had sends of connected devices waiting and answered none, by window of the
    /// record, since the last call. A silence under way counts with what has passed of it; a partition for which nothing
    /// waited in a window has none there.
    pub fn accept_gaps(&self) -> Vec<AcceptGap> {
        self.gaps.take(self.clock.now_ns())
    }

    /// Every device with the node it is connected to, in order of its number.
    pub fn devices(&self) -> Vec<DeviceView> {
        let mut all: Vec<DeviceView> = Vec::new();
        for shard in &self.shards {
            all.extend(shard.views.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        }
        all.sort_by_key(|view| view.ix);
        all
    }

    /// Whether every thread of the engine runs.
    pub fn alive(&self) -> bool {
        self.shards.iter().all(|shard| !shard.io.is_finished())
    }

    /// Ends the load, closes every connection and hands over the evidence. `None` when a thread of the engine died.
    pub fn stop(mut self) -> Option<Evidence> {
        // Nobody reads feeds that were not taken.
        self.feeds.clear();
        for shard in &self.shards {
            shard.stop.store(true, Relaxed);
        }
        self.tell(|_| Command::Stop);
        let mut stats = Stats { quiet_ns: u64::MAX, ..Stats::default() };
        let (mut ledger, mut devices, mut whole) = (None::<Ledger>, Vec::new(), true);
        for shard in self.shards {
            drop((shard.commands, shard.begins));
            whole &= shard.scheduler.join().is_ok();
            let Ok(Some((part, finals))) = shard.io.join() else {
                whole = false;
                continue;
            };
            stats.add(&shard.stats.lock().unwrap_or_else(PoisonError::into_inner));
            devices.extend(finals);
            match &mut ledger {
                Some(all) => all.merge(part),
                none => *none = Some(part),
            }
        }
        devices.sort_by_key(|device: &DeviceFinal| device.ix);
        ledger.filter(|_| whole).map(|ledger| Evidence { ledger, devices, stats })
    }

    fn tell(&self, command: impl Fn(u32) -> Command) {
        for (shard, ix) in self.shards.iter().zip(0..) {
            // A shard that is gone is noticed by `alive`.
            drop(shard.commands.send(command(ix)));
            shard.wake.notify_one();
        }
    }
}

/// What a thread runs: what the caller asks of each, then its work.
fn begins_with<T>(first: Option<OnThread>, work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        if let Some(first) = first {
            first();
        }
        work()
    }
}
