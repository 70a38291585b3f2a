//! The app of every device of a shard: who tells what.
use std::cell::RefCell;

use chat_client::app::{Accepted, Attempt, Closed, Failure, NotSent, Oddity, Opened, Surfaced};
use chat_client::{App, Local, Outgoing};
use chat_protocol::frame::RejectCode;
use chat_protocol::{ConvId, UserId};
use storm_workload::DeviceIx;

use super::{ON_TIME_NS, State, index, number};
use crate::body::Header;
use crate::meters::Measure;

/// What the devices of a shard talk to.
pub(crate) struct Observer(pub(crate) RefCell<State>);

impl App for Observer {
    fn compose(&self, who: Local, message: &Outgoing, at_ns: u64, body: &mut Vec<u8>) {
        let mut state = self.0.borrow_mut();
        let n = number(message.ticket);
        let Some(flight) = state.flight(n) else { return };
        let held_us =
            u32::try_from(at_ns.saturating_sub(flight.due_ns) / 1_000).unwrap_or(u32::MAX);
        flight.held_us = held_us;
        let (due_ns, size) = (flight.due_ns, index(flight.size));
        let header = Header { number: n, sender: who.0, due_ns, held_us };
        header.write(&state.canary, body);
        state.schedule.payload_into(n, size.saturating_sub(crate::body::HEADER), body);
    }

    fn conversations(&self, who: Local) -> Vec<ConvId> {
        let state = self.0.borrow();
        // Nobody has written to anybody yet.
        if state.totals.offered == 0 {
            return Vec::new();
        }
        let user = state.population.user_of(DeviceIx(who.0));
        // Whoever writes to this user is of its community.
        let near = state.population.users_of(state.population.community_of(user));
        let writes = |other: &u32| {
            state.population.contacts_of(*other).contains(&user)
                || state.population.contacts_of(user).contains(other)
        };
        let others = near.filter(|other| *other != user).filter(writes);
        others
            .filter_map(|other| ConvId::direct(UserId(u64::from(user)), UserId(u64::from(other))))
            .collect()
    }

    fn written(&self, who: Local, message: &Outgoing, attempt: u32, at_ns: u64) {
        self.0.borrow_mut().written(who.0, message, attempt, at_ns);
    }

    fn accepted(&self, who: Local, accepted: &Accepted, at_ns: u64) {
        self.0.borrow_mut().accept(who.0, accepted, at_ns);
    }

    fn rejected(&self, who: Local, ticket: u64, code: RejectCode, at_ns: u64) {
        self.0.borrow_mut().reject(who.0, ticket, code, at_ns);
    }

    fn unknown(&self, who: Local, ticket: u64, at_ns: u64) {
        self.0.borrow_mut().unknown(who.0, ticket, at_ns);
    }

    fn not_sent(&self, _who: Local, ticket: u64, _why: NotSent, _at_ns: u64) {
        self.0.borrow_mut().not_sent(ticket);
    }

    fn refused(&self, _who: Local, ticket: u64, _code: RejectCode, hinted: bool, _at_ns: u64) {
        let mut state = self.0.borrow_mut();
        if !hinted && let Some(flight) = state.flight(number(ticket)) {
            flight.state.bare = true;
        }
    }

    fn surfaced(&self, who: Local, surfaced: &Surfaced<'_>, at_ns: u64) {
        self.0.borrow_mut().surface(who.0, surfaced, true, at_ns);
    }

    fn unreadable(&self, who: Local, surfaced: &Surfaced<'_>, at_ns: u64) {
        self.0.borrow_mut().surface(who.0, surfaced, false, at_ns);
    }

    fn wire_duplicate(&self, who: Local, conv: ConvId, cseq: u64, at_ns: u64) {
        let mut state = self.0.borrow_mut();
        state.record.recorder.counts.wire_duplicates += 1;
        // What comes soon after a connect may have been under way on the former connection.
        let opened_ns = state.devices[index(who.0)].opened_ns;
        let across = at_ns.saturating_sub(opened_ns) < ON_TIME_NS
            && state.devices[index(who.0)].conn_epoch > 0;
        state.record.ledger.wire_duplicate(who.0, conv, cseq, across, at_ns);
    }

    fn dseq_hole(&self, who: Local, expected: u64, got: u64, at_ns: u64) {
        let mut state = self.0.borrow_mut();
        let device = &mut state.devices[index(who.0)];
        device.skipped = true;
        let epoch = device.conn_epoch;
        state.record.ledger.dseq_hole(who.0, epoch, expected, got, at_ns);
    }

    fn receipt(&self, who: Local, conv: ConvId, _user: UserId, delivered: u64, at_ns: u64) {
        self.0.borrow_mut().tick(who.0, conv, delivered, at_ns);
    }

    fn attempt(&self, who: Local, attempt: &Attempt, at_ns: u64) {
        self.0.borrow_mut().attempt(who.0, attempt, at_ns);
    }

    fn attempt_failed(
        &self,
        who: Local,
        failure: Failure,
        retry_after_ns: Option<u64>,
        at_ns: u64,
    ) {
        self.0.borrow_mut().attempt_failed(who.0, failure, retry_after_ns, at_ns);
    }

    fn opened(&self, who: Local, opened: &Opened<'_>, at_ns: u64) {
        self.0.borrow_mut().open(who.0, opened, at_ns);
    }

    fn caught_up(&self, who: Local, at_ns: u64) {
        let mut state = self.0.borrow_mut();
        let device = &mut state.devices[index(who.0)];
        let first = !std::mem::replace(&mut device.caught_up, true);
        let cut_ns = device.cut_ns.take();
        let return_ns = std::mem::take(&mut device.returning).then_some(device.return_ns);
        state.totals.caught_up += u64::from(first);
        let side = state.side([who.0, who.0]);
        if let Some(cut_ns) = cut_ns {
            let took = state.since(cut_ns, at_ns);
            state.sample(Measure::Recovered, None, side, cut_ns, took);
        }
        if let Some(return_ns) = return_ns {
            let took = state.since(return_ns, at_ns);
            state.sample(Measure::Drain, None, side, return_ns, took);
        }
    }

    fn renumbered(&self, who: Local, lost: bool, _at_ns: u64) {
        if lost {
            self.0.borrow_mut().devices[index(who.0)].skipped = true;
        }
    }

    fn drain(&self, who: Local, reconnect_in_ns: u64, at_ns: u64) {
        self.0.borrow_mut().devices[index(who.0)].drain.get_or_insert((at_ns, reconnect_in_ns));
    }

    fn closed(&self, who: Local, closed: &Closed, at_ns: u64) {
        self.0.borrow_mut().close(who.0, closed, at_ns);
    }

    fn terminal(&self, _who: Local, _code: u16, _at_ns: u64) {}

    fn heartbeat(&self, who: Local, rtt_ns: u64, at_ns: u64) {
        let mut state = self.0.borrow_mut();
        let side = state.side([who.0, who.0]);
        state.sample(Measure::Beat, None, side, at_ns.saturating_sub(rtt_ns), rtt_ns);
    }

    fn synced(&self, _who: Local, _at_ns: u64) {}

    fn odd(&self, _who: Local, oddity: Oddity, _at_ns: u64) {
        let mut state = self.0.borrow_mut();
        match oddity {
            Oddity::OldEpoch => state.record.ledger.old_epoch_discarded(),
            // The engine tries pages again; regressed marks are legal on the wire.
            Oddity::HistoryFailed | Oddity::ReceiptRegressed => {}
            Oddity::UnexpectedFrame | Oddity::Undecodable | Oddity::UnknownAnswer => {
                state.record.recorder.counts.frames_unexpected += 1;
            }
        }
    }
}
