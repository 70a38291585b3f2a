//! A record with its world, and what several invariants need of both.
use storm_record::facts::WindowSpan;
use storm_record::{Device, Number, Record};
use storm_workload::plan::Window;

use crate::bounds::Bounds;
use crate::finding::Violation;
use crate::sessions::Sessions;
use crate::survey::Survey;
use crate::world::{Planned, World};

/// A message number as it is written: stream and place in it.
pub(crate) fn words(n: Number) -> String {
    format!("{}.{}", n.stream, n.k)
}

/// Everything a check may look at.
pub struct Case<'a> {
    /// The record.
    pub record: &'a Record,
    /// What should have happened.
    pub world: World,
    /// The pass over all messages.
    pub survey: Survey,
    /// Connections and routes.
    pub sessions: Sessions,
    /// Derived limits.
    pub bounds: Bounds,
}

impl<'a> Case<'a> {
    /// Prepares a record whose plan is already read.
    pub fn new(record: &'a Record, world: World) -> Self {
        let bounds = Bounds::new(record.manifest.timers);
        let survey = Survey::of(&world, &record.facts, &record.ledger);
        let sessions = Sessions::of(&record.ledger, &record.facts, &bounds);
        Self { record, world, survey, sessions, bounds }
    }

    /// Whether the drain completed, so that what is owed is lost.
    pub fn drained(&self) -> bool {
        self.record.facts.last.as_ref().is_some_and(|last| last.drained)
    }

    /// Whether the final reads completed too.
    pub fn read(&self) -> bool {
        self.drained() && self.record.facts.last.as_ref().is_some_and(|last| last.read)
    }

    /// Windows of a kind, with their ordinals.
    pub fn windows(&self, kind: Window) -> impl Iterator<Item = (u16, &WindowSpan)> {
        self.spans().filter(move |(_, span)| span.window == kind)
    }

    /// All windows, with their ordinals.
    pub fn spans(&self) -> impl Iterator<Item = (u16, &WindowSpan)> {
        (0_u16..).zip(&self.record.facts.windows)
    }

    /// A bound that the file may override.
    pub fn bound(&self, name: &str, default: f64) -> f64 {
        self.record.promises.bounds.get(name).copied().unwrap_or(default)
    }

    /// Begins a slice: when, in which window, with which faults active, on which node.
    pub fn violation(
        &self,
        what: impl Into<String>,
        device: Option<Device>,
        at_ns: Option<u64>,
    ) -> Violation {
        let facts = &self.record.facts;
        let at = at_ns.unwrap_or(0);
        let route = device.and_then(|device| self.sessions.at(device, at));
        Violation {
            what: what.into(),
            number: None,
            sender: None,
            recipient: device.map(|device| self.world.name(device)),
            route: route.map(|route| format!("{} (connection epoch {})", route.node, route.epoch)),
            at_ms: at_ns.map(|at| at / 1_000_000),
            window: at_ns.and_then(|at| facts.window_at(at)).map(|span| span.name.clone()),
            faults: at_ns.map_or_else(Vec::new, |at| {
                let active = facts.faults_at(at);
                active
                    .map(|log| {
                        format!("{} ({})", log.step, log.kind.map_or("unknown", |kind| kind.name()))
                    })
                    .collect()
            }),
            observed: Vec::new(),
        }
    }

    /// A slice of a message: number, sender, recipient, route, and everything observed.
    pub fn slice_of(
        &self,
        what: impl Into<String>,
        planned: &Planned,
        device: Option<Device>,
    ) -> Violation {
        let mut slice = self.violation(what, device, Some(planned.due_ns));
        slice.number = Some(words(planned.n));
        slice.sender = Some(self.world.name(planned.sender));
        slice.observed = self.observed(planned);
        slice
    }

    /// A slice of a message known by its number only.
    pub fn slice_of_number(
        &self,
        what: impl Into<String>,
        n: Number,
        device: Option<Device>,
        at_ns: u64,
    ) -> Violation {
        let mut slice = self.violation(what, device, Some(at_ns));
        slice.number = Some(words(n));
        if let Some(planned) = self.world.find(&self.record.facts, n) {
            slice.sender = Some(self.world.name(planned.sender));
            slice.observed = self.observed(&planned);
        }
        slice
    }

    fn observed(&self, planned: &Planned) -> Vec<String> {
        let ledger = &self.record.ledger;
        let mut seen = vec![format!("due at {} ms", planned.due_ns / 1_000_000)];
        let sender = self.sessions.at(planned.sender, planned.due_ns);
        seen.push(match sender {
            Some(at) => format!(
                "sender {} on {} (connection epoch {})",
                self.world.name(planned.sender),
                at.node,
                at.epoch
            ),
            None => format!("sender {} not connected when due", self.world.name(planned.sender)),
        });
        seen.push(if ledger.was_submitted(planned.n) {
            "submitted".to_owned()
        } else {
            "never submitted".to_owned()
        });
        seen.push(format!("outcome {:?}", ledger.outcome(planned.n)).to_lowercase());
        let (must, delivered) = (self.world.must(planned), ledger.delivered(planned.n));
        for slot in 0..32_u8 {
            if must >> slot & 1 == 0 && delivered >> slot & 1 == 0 {
                continue;
            }
            let device = self.world.device_in(planned, slot);
            let name =
                device.map_or_else(|| format!("slot {slot}"), |device| self.world.name(device));
            let surfaced = if delivered >> slot & 1 == 1 { "surfaced" } else { "never surfaced" };
            let route = device.and_then(|device| self.sessions.at(device, planned.due_ns));
            let on = route.map_or_else(
                || "not connected when due".to_owned(),
                |route| format!("on {} (connection epoch {})", route.node, route.epoch),
            );
            seen.push(format!("{name}: {surfaced}, {on}"));
        }
        seen
    }
}
