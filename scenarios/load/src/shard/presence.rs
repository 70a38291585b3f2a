//! Who is online: devices join at the plan's rate, and leave and come back as planned.
use std::cmp::Reverse;
use std::collections::BTreeMap;

use storm_workload::DeviceIx;

use super::{Io, place};

/// Devices that are to join.
#[derive(Default)]
pub(super) struct Joining {
    /// In order of their turns.
    pub(super) list: Vec<DeviceIx>,
    /// How many had their turn.
    pub(super) done: usize,
    /// When the first was due.
    pub(super) from_ns: u64,
}

impl Io {
    /// All of them join from now on.
    pub(super) fn join_all(&mut self, list: Vec<DeviceIx>, now: u64) {
        self.finish_joining(now);
        self.joining = Joining { list, done: 0, from_ns: now };
    }

    /// Everybody still waiting for its turn joins now.
    fn finish_joining(&mut self, now: u64) {
        while let Some(ix) = self.joining.list.get(self.joining.done).copied() {
            self.joining.done += 1;
            self.join(ix, now);
        }
    }

    fn join(&self, ix: DeviceIx, now: u64) {
        {
            let mut state = self.observer.0.borrow_mut();
            if state.devices[place(ix)].planned {
                return;
            }
            let first = self.load.is_none();
            state.returns(ix, now, first);
        }
        if let Some(handle) = &self.handles[place(ix)] {
            handle.join();
        }
    }

    fn leave(&self, ix: DeviceIx) {
        self.observer.0.borrow_mut().leaves(ix);
        if let Some(handle) = &self.handles[place(ix)] {
            handle.leave();
        }
    }

    /// Devices join evenly spread, at the plan's rate.
    pub(super) fn join_due(&mut self, now: u64) {
        if self.joining.done >= self.joining.list.len() {
            return;
        }
        // The rate is in millionths a second, and each shard has its share of it.
        let rate = u128::from(self.shard.schedule.plan().sessions.connect.0);
        let passed = u128::from(now.saturating_sub(self.joining.from_ns));
        let due = rate * passed / 1_000_000 / 1_000_000_000 / u128::from(self.shard.shards);
        while (self.joining.done as u128) < due.saturating_add(1) {
            let Some(ix) = self.joining.list.get(self.joining.done).copied() else { return };
            self.joining.done += 1;
            let online = self.observer.0.borrow().devices[place(ix)].planned;
            if !online {
                self.join(ix, now);
            }
        }
    }

    /// Planned coming and going up to now on the load clock.
    pub(super) fn move_due(&mut self, now: u64) {
        let Some((at_ns, from_ns)) = self.load else { return };
        let load_ns = from_ns + now.saturating_sub(at_ns);
        // A phase that ended early moves the load clock on: of what it skipped only where each device ends up counts, or an
        // absence inside the skipped time would be a leave and a join in one instant.
        let mut ends = BTreeMap::new();
        while let Some(Reverse((_, ix, back))) =
            self.moves.peek().copied().filter(|Reverse((at, ..))| *at <= load_ns)
        {
            self.moves.pop();
            ends.insert(ix, back);
        }
        for (ix, back) in ends {
            let online = self.observer.0.borrow().devices[place(DeviceIx(ix))].planned;
            match (online, back) {
                (false, true) => self.join(DeviceIx(ix), now),
                (true, false) => self.leave(DeviceIx(ix)),
                _ => {}
            }
        }
    }
}
