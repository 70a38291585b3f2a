//! What the plan says should have happened: every message and its recipients, recomputed from the stored plan.
use std::sync::Arc;

use chat_protocol::{ConvId, UserId};
use storm_record::facts::Facts;
use storm_record::ledger::slot;
use storm_record::{Device, Number};
use storm_workload::{DeviceIx, Plan, Population, Schedule};

/// One planned message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub n: Number,
    /// Intended start, nanoseconds since the run's start.
    pub due_ns: u64,
    /// Sending device.
    pub sender: Device,
    /// User it goes to.
    pub to_user: u32,
}

/// The expected world.
#[derive(Debug)]
pub struct World {
    schedule: Schedule,
}

/// A stored plan that is none.
#[derive(Debug, thiserror::Error)]
#[error("the stored plan cannot be read")]
pub struct PlanError(#[from] serde_json::Error);

impl World {
    /// The world of a stored plan.
    pub fn read(plan: &serde_json::Value) -> Result<Self, PlanError> {
        Ok(Self::of(serde_json::from_value(plan.clone())?))
    }

    /// The world of a plan.
    pub fn of(plan: Plan) -> Self {
        Self { schedule: Schedule::new(Arc::new(plan)) }
    }

    /// Its plan.
    pub fn plan(&self) -> &Plan {
        self.schedule.plan()
    }

    /// Its people.
    pub fn people(&self) -> &Population {
        self.schedule.population()
    }

    /// Every planned message of the windows that began, in order of windows and intended starts.
    pub fn planned<'a>(&'a self, facts: &'a Facts) -> impl Iterator<Item = Planned> + 'a {
        facts.windows.iter().flat_map(move |span| {
            self.schedule.enumerate(usize::from(span.phase)).map(move |intent| Planned {
                n: intent.number,
                due_ns: span.from_ns + intent.due_ns,
                sender: intent.sender.0,
                to_user: intent.to_user,
            })
        })
    }

    /// One planned message, found again by its number. Costs a walk over its window.
    pub fn find(&self, facts: &Facts, n: Number) -> Option<Planned> {
        self.planned(facts).find(|planned| planned.n == n)
    }

    /// User of a device.
    pub fn user_of(&self, device: Device) -> u32 {
        self.people().user_of(DeviceIx(device))
    }

    /// The slots that must be filled when the message was accepted, as a mask.
    pub fn must(&self, planned: &Planned) -> u32 {
        let people = self.people();
        let own = people.devices_of(self.user_of(planned.sender)).len();
        let slots = people.devices_of(planned.to_user).len() + own - 1;
        u32::try_from((1_u64 << slots.min(32)) - 1).unwrap_or(u32::MAX)
    }

    /// The device of a slot.
    pub fn device_in(&self, planned: &Planned, wanted: u8) -> Option<Device> {
        let people = self.people();
        let (user, sender_place) = people.split(DeviceIx(planned.sender));
        let theirs = people.devices_of(planned.to_user);
        let count = u8::try_from(theirs.len()).ok()?;
        let own = people.devices_of(user).filter(|device| *device != planned.sender);
        theirs.chain(own).find(|device| {
            let (of, place) = people.split(DeviceIx(*device));
            slot(of == planned.to_user, count, place, sender_place) == wanted
        })
    }

    /// The conversation of two users.
    pub fn conv(a: u32, b: u32) -> Option<ConvId> {
        ConvId::direct(UserId(u64::from(a)), UserId(u64::from(b)))
    }

    /// A device in words.
    pub fn name(&self, device: Device) -> String {
        if device >= self.people().devices() {
            return format!("device {device}");
        }
        let (user, place) = self.people().split(DeviceIx(device));
        format!("u{user}.{place}")
    }
}
