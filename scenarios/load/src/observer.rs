//! What devices tell, reduced to samples, counters and evidence. One a shard, on its I/O thread.
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use chat_protocol::limits::Timers;
use chat_protocol::{ConvId, DeviceId, UserId};
use storm_record::ledger::row::DelayRule;
use storm_record::{Ledger, Number, Shard};
use storm_workload::gate::{Blast, Path};
use storm_workload::{DeviceIx, Population, Schedule};

use crate::engine::BlastSet;
use crate::flight::{Flight, Ring};
use crate::gaps::Gaps;
use crate::meters::{Measure, Meters, Second};
use crate::stats::{DeviceView, Stats};

mod app;
mod connections;
mod deliveries;
mod sends;

pub(crate) use app::Observer;

/// Messages past their deadline whose fate their sender has not told; further ones lose their intended start.
const PARKED_MAX: usize = 262_144;
/// Accepted messages of a device and conversation that wait for a receipt; the oldest lose their sample.
const TICKS_MAX: usize = 256;
/// A delivery is on time within this.
const ON_TIME_NS: u64 = 1_000_000_000;
/// A device that the plan has leave within this long is not owed a message in time.
const LEAVING_NS: u64 = 2_000_000_000;

/// State of one device.
#[derive(Clone, Default)]
pub(crate) struct DeviceState {
    node: Option<Arc<str>>,
    node_ix: u16,
    opened_ns: u64,
    conn_epoch: u64,
    connected: bool,
    caught_up: bool,
    /// The plan has it online.
    pub(crate) planned: bool,
    /// Last planned return.
    return_ns: u64,
    /// Its backlog since the planned return is under way.
    returning: bool,
    cut_ns: Option<u64>,
    affected: bool,
    /// The queue skipped positions on this connection.
    skipped: bool,
    window_ns: u64,
    /// What the next attempt must obey: the rule, and the instant it counts from where that is not the client's.
    rule: Option<(DelayRule, Option<u64>)>,
    drain: Option<(u64, u64)>,
    /// Sends written on this connection without an answer; the outbox holds at most `OUTBOX_MAX`.
    waiting: Vec<Waiting>,
}

/// A send of a connected device without an answer.
#[derive(Clone, Copy)]
struct Waiting {
    ticket: u64,
    partition: u32,
}

/// A phase that began.
#[derive(Clone, Copy)]
struct Begun {
    at_ns: u64,
    from_ns: u64,
}

/// Everything a shard knows.
pub(crate) struct State {
    schedule: Arc<Schedule>,
    population: Arc<Population>,
    deadlines: Vec<u64>,
    canary: [u8; 16],
    timers: Timers,
    pub(crate) record: Shard,
    meters: Meters,
    gaps: Arc<Gaps>,
    lag: Second,
    delivery: Second,
    rings: Vec<Ring>,
    parked: HashMap<u64, Flight>,
    ticks: HashMap<(u32, ConvId), VecDeque<Accepting>>,
    pub(crate) devices: Vec<DeviceState>,
    nodes: Vec<Arc<str>>,
    begun: Vec<Begun>,
    blast: Option<BlastSet>,
    pub(crate) totals: Stats,
    moved_ns: u64,
    views: Arc<Mutex<Vec<DeviceView>>>,
    view_at: HashMap<u32, usize>,
    pub(crate) ending: bool,
    /// Every sample, for tests: what, intended start, value, censored.
    #[cfg(test)]
    pub(crate) tap: Vec<(Measure, u64, u64, bool)>,
}

/// What a state is made of.
pub(crate) struct Parts {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) run_id: String,
    pub(crate) timers: Timers,
    pub(crate) record: Shard,
    /// Shared by all shards.
    pub(crate) gaps: Arc<Gaps>,
    pub(crate) views: Arc<Mutex<Vec<DeviceView>>>,
    /// Devices of this shard.
    pub(crate) devices: Vec<DeviceIx>,
}

#[derive(Clone, Copy)]
struct Accepting {
    cseq: u64,
    due_ns: u64,
    held_us: u32,
}

/// The number of a message as the client carries it.
pub(crate) fn ticket(n: Number) -> u64 {
    u64::from(n.stream) << 48 | (n.k & 0xffff_ffff_ffff)
}

fn number(ticket: u64) -> Number {
    Number {
        stream: u16::try_from(ticket >> 48).expect("sixteen bits"),
        k: ticket & 0xffff_ffff_ffff,
    }
}

fn index(n: u32) -> usize {
    usize::try_from(n).expect("a usize has at least 32 bits")
}

impl State {
    pub(crate) fn new(parts: Parts) -> Self {
        let plan = Arc::clone(parts.schedule.plan());
        let population = Arc::clone(parts.schedule.population());
        let deadlines: Vec<u64> = plan.streams.iter().map(|stream| stream.deadline.0).collect();
        let rings = plan
            .streams
            .iter()
            .map(|stream| {
                // Rates are millionths a second; a peak load above 1.0 makes what exceeds the ring leave early.
                let at_once = u128::from(stream.rate.0) * u128::from(stream.deadline.0)
                    / 1_000_000
                    / 1_000_000_000;
                Ring::new(u64::try_from(at_once).unwrap_or(u64::MAX))
            })
            .collect();
        let view = |ix: &DeviceIx| {
            let (user, place) = population.split(*ix);
            DeviceView {
                ix: ix.0,
                device: UserId(u64::from(user)).device(place),
                node: None,
                conn_epoch: 0,
            }
        };
        *parts.views.lock().unwrap_or_else(PoisonError::into_inner) =
            parts.devices.iter().map(view).collect();
        let view_at = parts.devices.iter().zip(0..).map(|(ix, at)| (ix.0, at)).collect();
        let totals = Stats { devices: parts.devices.len() as u64, ..Stats::default() };
        Self {
            devices: vec![DeviceState::default(); index(population.devices())],
            deadlines,
            canary: crate::body::canary(&parts.run_id),
            timers: parts.timers,
            record: parts.record,
            meters: Meters::default(),
            gaps: parts.gaps,
            lag: Second::new(),
            delivery: Second::new(),
            rings,
            parked: HashMap::new(),
            ticks: HashMap::new(),
            nodes: Vec::new(),
            begun: Vec::new(),
            blast: None,
            totals,
            moved_ns: 0,
            views: parts.views,
            view_at,
            ending: false,
            #[cfg(test)]
            tap: Vec::new(),
            schedule: parts.schedule,
            population,
        }
    }

    fn sample(
        &mut self,
        measure: Measure,
        path: Option<Path>,
        blast: Option<Blast>,
        due_ns: u64,
        ns: u64,
    ) {
        let id = self.meters.id(&mut self.record.recorder, measure, path, blast);
        self.record.recorder.record_due(id, due_ns, ns);
        #[cfg(test)]
        self.tap.push((measure, due_ns, ns, false));
    }

    fn censored(
        &mut self,
        measure: Measure,
        path: Option<Path>,
        blast: Option<Blast>,
        due_ns: u64,
        deadline: u64,
    ) {
        let id = self.meters.id(&mut self.record.recorder, measure, path, blast);
        self.record.recorder.record_censored(id, due_ns, deadline);
        #[cfg(test)]
        self.tap.push((measure, due_ns, deadline, true));
    }

    fn since(&mut self, from_ns: u64, now: u64) -> u64 {
        if now < from_ns {
            self.record.recorder.counts.clock_negative += 1;
        }
        now.saturating_sub(from_ns)
    }

    fn side(&self, devices: [u32; 2]) -> Option<Blast> {
        self.blast.as_ref()?;
        let affected = devices
            .iter()
            .any(|ix| self.devices.get(index(*ix)).is_some_and(|device| device.affected));
        Some(if affected { Blast::In } else { Blast::Out })
    }

    fn flight(&mut self, n: Number) -> Option<&mut Flight> {
        let key = ticket(n);
        match self.rings.get_mut(usize::from(n.stream)).and_then(|ring| ring.get(n.k)) {
            Some(flight) => Some(flight),
            None => self.parked.get_mut(&key),
        }
    }

    /// Where an instant of the run lies on the load clock; `None` before the first phase.
    fn load_ns(&self, at_ns: u64) -> Option<u64> {
        let begun = self.begun.iter().rev().find(|begun| begun.at_ns <= at_ns)?;
        Some(begun.from_ns + (at_ns - begun.at_ns))
    }

    /// A phase begins.
    pub(crate) fn begin(&mut self, phase: usize, at_ns: u64) {
        if !self.begun.is_empty() {
            self.record.recorder.begin_window(at_ns);
        }
        let from_ns =
            self.schedule.plan().phases.get(phase).and_then(|phase| phase.from_ns).unwrap_or(0);
        self.begun.push(Begun { at_ns, from_ns });
    }

    /// Once a second.
    pub(crate) fn second(&mut self) {
        self.lag.turn();
        self.delivery.turn();
        self.totals.lag_p99_ns = self.lag.p99_ns();
        self.totals.delivered_p99_ns = self.delivery.p99_ns();
    }

    /// Ten times a second: levels, and the figures of the present.
    pub(crate) fn refresh(&mut self, now: u64) -> Stats {
        self.totals.in_flight =
            self.rings.iter().map(Ring::len).sum::<u64>().min(self.unanswered());
        self.totals.quiet_ns = now.saturating_sub(self.moved_ns);
        self.totals.ledger = *self.record.ledger.counts();
        let levels = &mut self.record.recorder.levels;
        levels.owed = self.totals.owed;
        levels.connected = self.totals.connected;
        levels.planned = self.totals.planned;
        levels.in_flight = self.totals.in_flight;
        self.totals.clone()
    }

    /// Written sends without an outcome.
    fn unanswered(&self) -> u64 {
        let t = &self.totals;
        t.written.saturating_sub(t.accepted + t.rejected + t.unknown)
    }

    fn ix_of(&self, device: DeviceId) -> Option<DeviceIx> {
        let user =
            u32::try_from(device.user().0).ok().filter(|user| *user < self.population.users())?;
        self.population.device(user, device.index())
    }

    /// Hands over the last slice and the evidence.
    pub(crate) fn finish(self, now: u64) -> Ledger {
        self.record.finish(now)
    }
}

fn count(devices: &std::ops::Range<u32>) -> u8 {
    u8::try_from(devices.len()).unwrap_or(16)
}
