//! The steps of an experiment: inject at the planned time, ask for evidence each second, heal, and note all of it.
//!
//! Every injected fault is owned here until it is healed. A stop heals at once; whatever is left is healed in reverse
//! order by [`Method::heal_all`], and a guard that is dropped hands its undo to the janitor of the bed.
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use storm_faults::spec::{FaultSpec, KillHow, Told};
use storm_faults::{
    Bed, Blast, DeviceBlast, Fault as _, HEAL_WAIT, HealGuard, Step, Targets, Witness,
};
use storm_record::facts::{self, Fact, FaultKind, FaultMark, FaultNote};
use storm_workload::population::{DeviceIx, Population};
use tokio::time::Instant;

use crate::file::ResolvedStep;
use crate::load::{BlastRadius, Load};
use crate::notes::{Notes, StopSwitch};

/// How often a fault is asked whether it still bites.
const ASK: Duration = Duration::from_secs(1);

/// The method of one run.
pub struct Method<'a> {
    steps: &'a [ResolvedStep],
    bed: &'a Bed,
    load: &'a dyn Load,
    people: &'a Population,
    notes: &'a dyn Notes,
    stop: &'a StopSwitch,
    /// Injected and not yet healed, in the order of injection.
    active: Mutex<Vec<Active>>,
}

struct Active {
    ordinal: u32,
    step: String,
    blast: Blast,
    /// Taken out while it is being asked or healed.
    guard: Option<HealGuard>,
}

impl<'a> Method<'a> {
    /// The steps, none of them begun.
    pub fn new(
        steps: &'a [ResolvedStep],
        bed: &'a Bed,
        (load, people): (&'a dyn Load, &'a Population),
        notes: &'a dyn Notes,
        stop: &'a StopSwitch,
    ) -> Self {
        Self { steps, bed, load, people, notes, stop, active: Mutex::default() }
    }

    /// Runs every step from the start of the fault window to its end. A stop ends it early; nothing is healed then that
    /// has no end of its own, because the heal window does that.
    pub async fn run(&self, started: Instant, ends: Instant) {
        join_all(
            (0_u32..)
                .zip(self.steps)
                .map(|(ordinal, step)| self.step(ordinal, step, started, ends)),
        )
        .await;
        tokio::select! {
            () = tokio::time::sleep_until(ends) => {}
            () = self.stop.stopped() => {}
        }
    }

    async fn step(&self, ordinal: u32, step: &ResolvedStep, started: Instant, ends: Instant) {
        let at = started + Duration::from_nanos(step.at.0);
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = self.stop.stopped() => return,
        }
        let asked = Step { id: step.id.clone(), at_least: step.at_least.clone() };
        let guard = match step.fault.inject(self.bed, &asked).await {
            Ok(guard) => guard,
            Err(error) => return self.mark(ordinal, &step.id, FaultMark::Refused(words(&error))),
        };
        self.took_hold(ordinal, step, &guard);
        let patience = guard.injected_at() + guard.patience();
        self.active.lock().unwrap_or_else(PoisonError::into_inner).push(Active {
            ordinal,
            step: step.id.clone(),
            blast: guard.blast().clone(),
            guard: Some(guard),
        });
        self.spread();
        let heal_at = step.hold.map(|hold| at + Duration::from_nanos(hold.0));
        self.ask_until(ordinal, &step.id, patience, heal_at.unwrap_or(ends)).await;
        if heal_at.is_some() && !self.stop.is_stopped() {
            self.heal(ordinal, Instant::now() + HEAL_WAIT).await;
        }
    }

    fn took_hold(&self, ordinal: u32, step: &ResolvedStep, guard: &HealGuard) {
        let targets = self.targets(guard);
        let began_ns = self.ns_of(guard.began_at());
        let undo = format!("{} of {}", guard.fault(), guard.targets());
        self.mark(
            ordinal,
            &step.id,
            FaultMark::Injected { kind: kind(&step.fault), targets, undo, began_ns },
        );
    }

    /// Asks a fault each second whether it bites, until its time is over or the run is stopped.
    async fn ask_until(&self, ordinal: u32, step: &str, patience: Instant, until: Instant) {
        let mut bites = None;
        let mut by = patience.min(until);
        loop {
            let Some(mut guard) = self.take(ordinal) else { return };
            let asked = Instant::now();
            let witness = tokio::select! {
                witness = guard.witness(by) => Some(witness),
                () = self.stop.stopped() => None,
            };
            self.put_back(ordinal, guard);
            let Some(witness) = witness else { return };
            let now = witness.bites();
            // Only changes are noted; a fault that never bit is noted once, when its time is over.
            if bites != Some(now) && (now || bites.is_some()) {
                self.note_witness(ordinal, step, &witness);
            }
            if now || bites.is_some() {
                bites = Some(now);
            }
            let next = (asked + ASK).max(Instant::now());
            if next >= until {
                if bites.is_none() {
                    self.note_witness(ordinal, step, &witness);
                }
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = self.stop.stopped() => {}
                }
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.stop.stopped() => return,
            }
            by = Instant::now();
        }
    }

    fn note_witness(&self, ordinal: u32, step: &str, witness: &Witness) {
        let mark = match witness {
            Witness::Bites(list) => FaultMark::Witnessed(evidence(list)),
            Witness::Missed(list) => FaultMark::Missed(evidence(list)),
            Witness::Lapsed { since, .. } => FaultMark::Lapsed(self.ns_of(*since)),
        };
        self.mark(ordinal, step, mark);
    }

    /// Heals whatever is still injected, in reverse order.
    pub async fn heal_all(&self, by: Instant) {
        loop {
            let last = self
                .active
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .last()
                .map(|active| active.ordinal);
            let Some(ordinal) = last else { break };
            self.heal(ordinal, by.max(Instant::now() + ASK)).await;
        }
        self.load.blast(None);
    }

    async fn heal(&self, ordinal: u32, by: Instant) {
        let mut active = {
            let mut all = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(at) = all.iter().position(|active| active.ordinal == ordinal) else { return };
            all.remove(at)
        };
        let Some(guard) = active.guard.take() else { return };
        self.mark(ordinal, &active.step, FaultMark::Healing);
        let mark = match guard.heal(by).await {
            Ok(healed) => FaultMark::Healed(evidence(&healed.evidence)),
            Err(error) => FaultMark::NotHealed(words(&error)),
        };
        self.mark(ordinal, &active.step, mark);
    }

    fn take(&self, ordinal: u32) -> Option<HealGuard> {
        let mut all = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut()
            .find(|active| active.ordinal == ordinal)
            .and_then(|active| active.guard.take())
    }

    fn put_back(&self, ordinal: u32, guard: HealGuard) {
        let mut all = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = all.iter_mut().find(|active| active.ordinal == ordinal) {
            active.guard = Some(guard);
        }
    }

    /// Tells the load which side of the active faults everything is on. A healed fault stays in the radius until the heal
    /// window, because what it did to a message is seen later.
    fn spread(&self) {
        let mut radius = BlastRadius::default();
        let mut everyone = false;
        for active in self.active.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            radius.nodes.extend(active.blast.nodes.iter().cloned());
            match &active.blast.devices {
                DeviceBlast::These(devices) => radius.devices.extend(devices),
                DeviceBlast::Everyone => everyone = true,
                DeviceBlast::OfNodes => {}
            }
        }
        if everyone {
            radius.devices =
                (0..self.people.devices()).map(|ix| self.device_id(DeviceIx(ix))).collect();
        }
        self.load.blast(Some(radius));
    }

    fn device_id(&self, device: DeviceIx) -> u64 {
        let (user, index) = self.people.split(device);
        chat_protocol::UserId(u64::from(user)).device(index).0
    }

    fn targets(&self, guard: &HealGuard) -> facts::Targets {
        let mut targets = facts::Targets::default();
        match guard.targets() {
            Targets::Nodes(nodes) => targets.nodes.clone_from(nodes),
            Targets::Devices(_) | Targets::BrokersLater(_) => {}
            Targets::Brokers(brokers) => targets.brokers.clone_from(brokers),
            Targets::Group(group) => targets.groups.push(group.clone()),
            Targets::Ports { ports, node } => {
                targets.ports.clone_from(ports);
                targets.nodes.extend(node.clone());
            }
        }
        if let DeviceBlast::These(devices) = &guard.blast().devices {
            let dense = |device: &u64| {
                let device = chat_protocol::DeviceId(*device);
                let user = u32::try_from(device.user().0).ok()?;
                self.people.device(user, device.index()).map(|ix| ix.0)
            };
            targets.devices = devices.iter().filter_map(dense).collect();
        }
        targets
    }

    /// An instant that is over, in nanoseconds since the run's start.
    fn ns_of(&self, instant: Instant) -> u64 {
        let ago = u64::try_from(instant.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.load.now_ns().saturating_sub(ago)
    }

    fn mark(&self, ordinal: u32, step: &str, mark: FaultMark) {
        let note =
            FaultNote { step: step.to_owned(), fault: ordinal, mark, at_ns: self.load.now_ns() };
        self.notes.note(Fact::Fault(note));
    }
}

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[expect(clippy::cast_precision_loss, reason = "counters of a run are far below 2^53")]
fn evidence(list: &[storm_faults::Evidence]) -> Vec<facts::Evidence> {
    let required = |by: u64| if by == 0 { "noted".to_owned() } else { format!("+{by} or more") };
    list.iter()
        .map(|e| facts::Evidence {
            counter: e.counter.clone(),
            before: e.before as f64,
            after: e.after as f64,
            required: required(e.required),
        })
        .collect()
}

/// What the judge calls a fault of a file.
pub fn kind(fault: &FaultSpec) -> FaultKind {
    match fault {
        FaultSpec::Kill(kill) if kill.how == KillHow::Silent => FaultKind::KillSilent,
        FaultSpec::Kill(_) => FaultKind::Kill,
        FaultSpec::Drain(_) => FaultKind::Drain,
        FaultSpec::Pause(_) => FaultKind::Pause,
        FaultSpec::BlackHole(hole) if hole.told == Told::Device => FaultKind::BlackHoleTold,
        FaultSpec::BlackHole(_) => FaultKind::BlackHole,
        FaultSpec::Reset(_) => FaultKind::Reset,
        FaultSpec::CutAll(_) => FaultKind::CutAll,
        FaultSpec::SlowLink(_) => FaultKind::SlowLink,
        FaultSpec::BrokerKill(_) => FaultKind::BrokerKill,
        FaultSpec::BrokerSlow(_) => FaultKind::BrokerSlow,
        FaultSpec::ConsumerPause(_) => FaultKind::ConsumerPause,
        FaultSpec::PortSlow(_) => FaultKind::PortSlow,
        FaultSpec::PortStall(_) => FaultKind::PortStall,
        FaultSpec::PortReset(_) => FaultKind::PortReset,
        FaultSpec::Partition(_) => FaultKind::Partition,
        FaultSpec::RegistryWipe(_) => FaultKind::RegistryWipe,
        FaultSpec::HistoryDown(_) => FaultKind::HistoryDown,
        FaultSpec::Rolling(_) => FaultKind::Rolling,
    }
}
