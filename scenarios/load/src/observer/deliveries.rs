//! What surfaces: whose message it is, whether it is whole, and how long it took.
use chat_client::app::{Origin, Surfaced};
use chat_protocol::{ConvId, UserId};
use storm_record::Number;
use storm_record::ledger::{self, Outcome};
use storm_workload::DeviceIx;
use storm_workload::gate::Path;

use super::{ON_TIME_NS, State, count, index};
use crate::body::Header;
use crate::meters::Measure;

impl State {
    fn path(&self, sender: u32, recipient: u32, due_ns: u64) -> Path {
        let (from, to) = (&self.devices[index(sender)], &self.devices[index(recipient)]);
        if to.opened_ns > due_ns {
            Path::Relay
        } else if from.node_ix == to.node_ix {
            Path::SameNode
        } else {
            Path::CrossNode
        }
    }

    pub(super) fn surface(&mut self, who: u32, seen: &Surfaced<'_>, opened: bool, now: u64) {
        self.moved_ns = now;
        let (user, place) = self.population.split(DeviceIx(who));
        let peer =
            seen.conv.peer(UserId(u64::from(user))).and_then(|peer| u32::try_from(peer.0).ok());
        let read = if opened { Header::read(&self.canary, seen.plaintext) } else { None };
        let known = read.filter(|(header, _)| usize::from(header.number.stream) < self.rings.len());
        let announced = match seen.origin {
            Origin::Relay => false,
            Origin::Hole => self.devices[index(who)].skipped,
            Origin::Sync => true,
            Origin::First => false,
        };
        let mut fact = ledger::Surfaced {
            n: None,
            intact: false,
            device: who,
            slot: None,
            peer: peer.unwrap_or(u32::MAX),
            conv: seen.conv,
            cseq: seen.cseq,
            mid: seen.mid,
            backfilled: seen.origin != Origin::Relay,
            announced,
            conn_epoch: seen.conn_epoch,
            at_ns: now,
        };
        let Some((header, filler)) = known else {
            self.record.ledger.surfaced(&fact);
            return;
        };
        let n = header.number;
        let (sender, to_user, size) = match self.flight(n) {
            Some(flight) => (flight.sender, flight.to_user, flight.size),
            None => match self.load_ns(header.due_ns) {
                Some(load_ns) => {
                    let intent = self.schedule.intent(n, header.due_ns, load_ns);
                    (intent.sender, intent.to_user, intent.size)
                }
                None => (DeviceIx(u32::MAX), u32::MAX, 0),
            },
        };
        let many = count(&if to_user < self.population.users() {
            self.population.devices_of(to_user)
        } else {
            0..0
        });
        let sender_user =
            (sender.0 < self.population.devices()).then(|| self.population.split(sender));
        let claims = header.sender == sender.0 && self.ix_of(seen.from) == Some(sender);
        let conv = sender_user.and_then(|(from, _)| {
            ConvId::direct(UserId(u64::from(from)), UserId(u64::from(to_user)))
        });
        let length = filler.len() + crate::body::HEADER == index(size);
        fact.n = Some(n);
        fact.intact =
            claims && conv == Some(seen.conv) && length && self.schedule.payload_matches(n, filler);
        fact.slot = match sender_user {
            Some(_) if user == to_user => Some(ledger::slot(true, many, place, 0)),
            Some((from, own)) if user == from && place != own => {
                Some(ledger::slot(false, many, place, own))
            }
            _ => None,
        };
        let fresh =
            fact.slot.is_some_and(|slot| self.record.ledger.delivered(n) & (1 << slot) == 0);
        self.record.ledger.surfaced(&fact);
        let Some(slot) = fact.slot.filter(|_| fresh) else { return };
        self.record.recorder.counts.delivered += 1;
        self.totals.delivered += 1;
        self.deliver(n, &header, slot, (sender.0, who), now);
    }

    /// Times of one delivery.
    fn deliver(
        &mut self,
        n: Number,
        header: &Header,
        slot: u8,
        (sender, who): (u32, u32),
        now: u64,
    ) {
        let deadline = self.deadlines[usize::from(n.stream)];
        let returned_ns = self.devices[index(who)].return_ns;
        let bit = 1_u16 << slot;
        let path = Some(self.path(sender, who, header.due_ns));
        let side = self.side([sender, who]);
        let under_way = self.rings[usize::from(n.stream)].get(n.k).is_some();
        let owed = if let Some(flight) = self.flight(n) {
            flight.got |= bit;
            (flight.owed & bit != 0, flight.state.accepted)
        } else {
            let load_ns = self.load_ns(header.due_ns).unwrap_or(0);
            let (sender, to_user) = self.recipients(n, header.due_ns, load_ns);
            let owed = self.owed_slots(sender, to_user, load_ns) & bit != 0;
            (owed, self.record.ledger.outcome(n) == Outcome::Accepted)
        };
        if owed == (true, true) {
            self.totals.owed = self.totals.owed.saturating_sub(1);
        }
        // A planned absence starts the clock at the return, an outage does not.
        let start_ns = if owed.0 { header.due_ns } else { header.due_ns.max(returned_ns) };
        let took = self.since(start_ns, now);
        if owed.0 && !under_way || took > deadline {
            self.sample(Measure::Late, path, side, header.due_ns, took);
            if !owed.0 {
                self.censored(Measure::Delivered, path, side, start_ns, deadline);
            }
            return;
        }
        self.sample(Measure::Delivered, path, side, start_ns, took);
        self.delivery.add(took);
        let written_ns = header.due_ns + u64::from(header.held_us) * 1_000;
        let service = now.saturating_sub(written_ns.max(start_ns));
        self.sample(Measure::DeliveredService, path, side, start_ns, service);
        if owed.0 {
            if took > ON_TIME_NS
                && let Some(flight) = self.flight(n)
            {
                flight.state.slow = true;
            }
            self.good(n, now);
        }
    }

    fn recipients(&self, n: Number, due_ns: u64, load_ns: u64) -> (DeviceIx, u32) {
        let intent = self.schedule.intent(n, due_ns, load_ns);
        (intent.sender, intent.to_user)
    }
}
