//! The I/O thread of a shard: sockets, devices, planned coming and going, and the tick of everything measured.
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_client::app::Clock;
use chat_client::{Device, DeviceHandle, Dial, Local, Profile, Shared};
use chat_protocol::digest::mix;
use chat_protocol::frame::DeviceClass;
use chat_protocol::{DeviceId, UserId};
use storm_record::Ledger;
use storm_record::ledger::{LedgerConfig, StreamShape};
use storm_workload::plan::Window;
use storm_workload::{DeviceIx, Schedule};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_util::task::TaskTracker;

use crate::engine::{BlastSet, EngineConfig};
use crate::gaps::Gaps;
use crate::observer::{Observer, Parts, State};
use crate::pacer::Due;
use crate::stats::{DeviceFinal, DeviceView, Stats};

mod presence;
mod provision;

use presence::Joining;

/// Intents taken a turn.
const A_TURN: usize = 256;
/// Everything that is not an intent is looked at this often.
const TICK: Duration = Duration::from_millis(10);
/// Devices get this long to close when the engine stops.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// What a shard is told.
pub(crate) enum Command {
    /// Get tokens.
    Provision,
    /// Connect the planned devices.
    Connect,
    /// A phase of the plan begins at this instant.
    Phase(usize, u64),
    /// Split series.
    Blast(Option<BlastSet>),
    /// End.
    Stop,
}

/// The I/O side of a shard.
pub(crate) struct Shard {
    pub(crate) config: EngineConfig,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) number: u32,
    pub(crate) shards: u32,
    pub(crate) commands: Receiver<Command>,
    pub(crate) due: Receiver<Due>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) dropped: Arc<AtomicU64>,
    pub(crate) gaps: Arc<Gaps>,
    pub(crate) stats: Arc<Mutex<Stats>>,
    pub(crate) views: Arc<Mutex<Vec<DeviceView>>>,
}

/// A planned leave or return on the load clock: (when, device, whether it returns).
type Move = Reverse<(u64, u32, bool)>;

struct Io {
    shard: Shard,
    observer: Rc<Observer>,
    handles: Vec<Option<DeviceHandle>>,
    mine: Vec<DeviceIx>,
    tasks: TaskTracker,
    dial: Rc<dyn Dial>,
    /// Devices that are to be connected, in order, and when the first of them was due.
    joining: Joining,
    /// Planned coming and going that has not happened.
    moves: BinaryHeap<Move>,
    pending: Vec<(usize, u64)>,
    /// The present phase: start on the run's clock and on the load clock.
    load: Option<(u64, u64)>,
    next_second_ns: u64,
    next_refresh_ns: u64,
}

impl Shard {
    /// Runs until told to stop; the evidence, and what every device has.
    pub(crate) fn run(
        self,
        runtime: &tokio::runtime::Runtime,
        record: storm_record::Shard,
    ) -> Option<(Ledger, Vec<DeviceFinal>)> {
        let local = LocalSet::new();
        let (io, finals) = local.block_on(runtime, async move {
            let mut io = Io::new(self, record);
            io.work().await;
            let finals = io.end().await;
            (io, finals)
        });
        // Tasks that did not end in time end here, and with them the last holders of the state.
        drop(local);
        let now = io.now();
        let Io { observer, handles, tasks, .. } = io;
        drop((handles, tasks));
        let state = Rc::try_unwrap(observer).ok()?.0.into_inner();
        let ledger = state.finish(now);
        Some((ledger, finals))
    }
}

impl Io {
    fn new(shard: Shard, record: storm_record::Shard) -> Self {
        let plan = Arc::clone(shard.schedule.plan());
        let population = Arc::clone(shard.schedule.population());
        let (number, shards) = (shard.number, shard.shards);
        let mine: Vec<DeviceIx> = (0..population.devices())
            .map(DeviceIx)
            .filter(|ix| {
                shards == 1 || population.shard_of(population.user_of(*ix), shards) == number
            })
            .collect();
        let state = State::new(Parts {
            schedule: Arc::clone(&shard.schedule),
            run_id: shard.config.run_id.clone(),
            timers: shard.config.timers,
            record,
            gaps: Arc::clone(&shard.gaps),
            views: Arc::clone(&shard.views),
            devices: mine.clone(),
        });
        let observer = Rc::new(Observer(RefCell::new(state)));
        let tasks = TaskTracker::new();
        let clock: Rc<dyn Clock> = Rc::new(shard.config.clock);
        let dial: Rc<dyn Dial> = Rc::new(shard.config.entries.clone());
        let app: Rc<dyn chat_client::App> = Rc::<Observer>::clone(&observer);
        let shared = Rc::new(Shared::new(
            app,
            clock,
            Rc::clone(&dial),
            shard.config.timers,
            shard.config.policies.clone(),
            tasks.clone(),
        ));
        let mut handles = vec![None; usize::try_from(population.devices()).unwrap_or(0)];
        for ix in &mine {
            let (device, class) = identity(&population, *ix);
            let seed = mix(&[plan.seed, 0xd_e71ce, u64::from(ix.0)]);
            let profile = Profile { who: Local(ix.0), device, class, token: None, seed };
            handles[place(*ix)] = Some(Device::spawn(&shared, profile));
        }
        let now = shard.config.clock.now_ns();
        Self {
            shard,
            observer,
            handles,
            mine,
            tasks,
            dial,
            joining: Joining::default(),
            moves: BinaryHeap::new(),
            pending: Vec::new(),
            load: None,
            next_second_ns: now,
            next_refresh_ns: now,
        }
    }

    fn now(&self) -> u64 {
        self.shard.config.clock.now_ns()
    }

    async fn work(&mut self) {
        let wake = Arc::clone(&self.shard.wake);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut more = false;
        loop {
            if more {
                tokio::task::yield_now().await;
            } else {
                tokio::select! {
                    biased;
                    _ = tick.tick() => {
                        let now = self.now();
                        if !self.commands(now) {
                            return;
                        }
                        self.tick(now);
                    }
                    () = wake.notified() => {}
                }
            }
            more = self.fire();
            if more {
                let now = self.now();
                if now >= self.next_refresh_ns {
                    if !self.commands(now) {
                        return;
                    }
                    self.tick(now);
                }
            }
        }
    }

    /// Hands due intents to their devices; true when there may be more.
    fn fire(&mut self) -> bool {
        for _ in 0..A_TURN {
            let Ok(due) = self.shard.due.try_recv() else { return false };
            let outgoing = self.observer.0.borrow_mut().fire(&due);
            if let Some(Some(handle)) = self.handles.get(place(due.intent.sender)) {
                handle.send(outgoing);
            }
        }
        true
    }

    /// Takes commands; false when it is time to end.
    fn commands(&mut self, now: u64) -> bool {
        loop {
            match self.shard.commands.try_recv() {
                Ok(Command::Provision) => self.provision(),
                Ok(Command::Connect) => {
                    let population = Arc::clone(self.shard.schedule.population());
                    let planned =
                        |ix: &DeviceIx| !population.planned_offline(population.user_of(*ix));
                    self.join_all(self.mine.iter().copied().filter(planned).collect(), now);
                }
                Ok(Command::Phase(phase, at_ns)) => self.pending.push((phase, at_ns)),
                Ok(Command::Blast(blast)) => self.observer.0.borrow_mut().set_blast(blast),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn tick(&mut self, now: u64) {
        while let Some(at) = self.pending.iter().position(|(_, at_ns)| *at_ns <= now) {
            let (phase, at_ns) = self.pending.remove(at);
            self.begin(phase, at_ns, now);
        }
        self.join_due(now);
        self.move_due(now);
        let dropped = self.shard.dropped.swap(0, Relaxed);
        let mut state = self.observer.0.borrow_mut();
        if dropped > 0 {
            state.dropped(dropped, now);
        }
        state.expire(now);
        if now >= self.next_second_ns {
            self.next_second_ns = now - now % 1_000_000_000 + 1_000_000_000;
            state.second();
        }
        if now >= self.next_refresh_ns {
            self.next_refresh_ns = now + 100_000_000;
            let handles = self.handles.iter().flatten();
            let (outbox, syncing) = handles.fold((0, 0), |(outbox, syncing), handle| {
                (outbox + handle.outbox() as u64, syncing + u64::from(handle.syncing()))
            });
            state.totals.outbox = outbox;
            state.totals.syncing = syncing;
            let stats = state.refresh(now);
            *self.shard.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        }
        state.record.tick(now);
    }

    fn begin(&mut self, phase: usize, at_ns: u64, now: u64) {
        self.observer.0.borrow_mut().begin(phase, at_ns);
        let plan = Arc::clone(self.shard.schedule.plan());
        let Some(plan) = plan.phases.get(phase) else { return };
        if let Some(from_ns) = plan.from_ns {
            if self.load.is_none() {
                let population = self.shard.schedule.population();
                for ix in &self.mine {
                    for (leave, back) in population.absences(*ix) {
                        self.moves.push(Reverse((*leave, ix.0, false)));
                        self.moves.push(Reverse((*back, ix.0, true)));
                    }
                }
            }
            self.load = Some((at_ns, from_ns));
        }
        if plan.window == Window::Drain {
            self.moves.clear();
            let all = self.mine.clone();
            self.join_all(all, now);
        }
    }

    async fn end(&self) -> Vec<DeviceFinal> {
        let now = self.now();
        let finals = self.mine.iter().filter_map(|ix| {
            let handle = self.handles[place(*ix)].as_ref()?;
            Some(DeviceFinal {
                ix: ix.0,
                connected: handle.connected(),
                cursor: handle.cursor().map(|cursor| (cursor.epoch, cursor.dseq)),
                conversations: handle.conversations(),
                outbox: handle.outbox() as u64,
                terminal: handle.terminal(),
            })
        });
        let finals = finals.collect();
        let stats = {
            let mut state = self.observer.0.borrow_mut();
            state.ending = true;
            state.refresh(now)
        };
        *self.shard.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        self.handles.iter().flatten().for_each(DeviceHandle::stop);
        self.tasks.close();
        // A device that does not end in time ends with the runtime.
        drop(tokio::time::timeout(STOP_WAIT, self.tasks.wait()).await);
        finals
    }
}

/// Sizes of a shard's evidence.
pub(crate) fn ledger_config(schedule: &Schedule, shard: u32, shards: u32) -> LedgerConfig {
    let (plan, population) = (schedule.plan(), schedule.population());
    let numbers = |stream: u16| {
        let of = |phase: &storm_workload::plan::Phase| {
            phase
                .streams
                .iter()
                .filter(|s| s.stream == stream)
                .map(|s| s.first_k + s.count)
                .max()
                .unwrap_or(0)
        };
        plan.phases.iter().map(of).max().unwrap_or(0)
    };
    let most =
        (0..population.users()).map(|user| population.devices_of(user).len()).max().unwrap_or(1);
    let slots = u8::try_from((2 * most).saturating_sub(1).clamp(1, 16)).expect("at most 16");
    let streams = (0..u16::try_from(plan.streams.len()).unwrap_or(u16::MAX))
        .map(|stream| StreamShape { numbers: numbers(stream), slots })
        .collect();
    let mine = (0..population.devices()).map(|ix| population.user_of(DeviceIx(ix)));
    let mine = mine.filter(|user| shards == 1 || population.shard_of(*user, shards) == shard);
    let pairs = mine.map(|user| population.contacts_of(user).len() * 2).sum();
    LedgerConfig {
        shard: u16::try_from(shard).unwrap_or(u16::MAX),
        streams,
        devices: population.devices(),
        pairs,
    }
}

fn place(ix: DeviceIx) -> usize {
    usize::try_from(ix.0).expect("a usize has at least 32 bits")
}

/// A user's first device is a phone, the others are second screens.
fn identity(population: &storm_workload::Population, ix: DeviceIx) -> (DeviceId, DeviceClass) {
    let (user, place) = population.split(ix);
    let class = if place == 0 { DeviceClass::Mobile } else { DeviceClass::Desktop };
    (UserId(u64::from(user)).device(place), class)
}
