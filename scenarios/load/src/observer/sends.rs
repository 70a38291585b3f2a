//! Sends: from the intent to the answer and the receipt, or the deadline.
use chat_client::Outgoing;
use chat_client::app::Accepted;
use chat_protocol::frame::RejectCode;
use chat_protocol::{Cid, ConvId, UserId};
use storm_record::{Number, ledger};
use storm_workload::DeviceIx;

use super::{
    Accepting, LEAVING_NS, ON_TIME_NS, PARKED_MAX, State, TICKS_MAX, Waiting, count, index, number,
    ticket,
};
use crate::flight::Flight;
use crate::meters::Measure;
use crate::pacer::Due;

impl State {
    /// An intent came from the scheduler: what the device is to send.
    pub(crate) fn fire(&mut self, due: &Due) -> Outgoing {
        let intent = &due.intent;
        let n = intent.number;
        let owed = self.owed_slots(intent.sender, intent.to_user, due.load_ns);
        let flight = Flight::new(due.due_ns, intent.sender, intent.to_user, intent.size, owed);
        self.record.recorder.due(due.due_ns);
        self.record.recorder.counts.fired += 1;
        self.totals.offered += 1;
        self.totals.fired += 1;
        let lag = due.fired_ns.saturating_sub(due.due_ns);
        self.sample(Measure::Lag, None, None, due.due_ns, lag);
        self.lag.add(lag);
        if let Some(left) =
            self.rings.get_mut(usize::from(n.stream)).and_then(|ring| ring.put(n.k, flight))
        {
            // Its number is lost with its place, so it cannot be parked.
            self.censor(n.stream, &left);
        }
        let from = self.population.user_of(intent.sender);
        let conv = ConvId::direct(UserId(u64::from(from)), UserId(u64::from(intent.to_user)));
        Outgoing {
            ticket: ticket(n),
            cid: Cid::from_bytes(&self.schedule.cid(n)).expect("sixteen bytes"),
            conv: conv.expect("a contact is another user"),
            kind: 0,
        }
    }

    /// Intents that found the queue full: censored without ever having had a place.
    pub(crate) fn dropped(&mut self, count: u64, now: u64) {
        for _ in 0..count {
            self.record.recorder.due(now);
            let deadline = self.deadlines.first().copied().unwrap_or(0);
            for measure in [Measure::Accepted, Measure::Delivered] {
                self.censored(measure, None, None, now, deadline);
            }
        }
        self.record.recorder.counts.dropped += count;
        self.totals.offered += count;
        self.totals.dropped += count;
    }

    pub(super) fn owed_slots(&self, sender: DeviceIx, to_user: u32, load_ns: u64) -> u16 {
        let population = &self.population;
        let there = |ix: u32| {
            let device = DeviceIx(ix);
            population.planned_online(device, load_ns)
                && population.planned_online(device, load_ns.saturating_add(LEAVING_NS))
        };
        let recipients = population.devices_of(to_user);
        let many = count(&recipients);
        let mut slots = 0;
        for (ix, place) in recipients.zip(0..) {
            slots |= u16::from(there(ix)) << ledger::slot(true, many, place, 0);
        }
        let (user, own) = population.split(sender);
        for (ix, place) in population.devices_of(user).zip(0..) {
            if place != own {
                slots |= u16::from(there(ix)) << ledger::slot(false, many, place, own);
            }
        }
        slots
    }

    /// Messages whose deadline has passed leave; what is owed at that moment is censored.
    pub(crate) fn expire(&mut self, now: u64) {
        for stream in 0..self.rings.len() {
            let Some(until) = now.checked_sub(self.deadlines[stream]) else { continue };
            let mut ring = std::mem::take(&mut self.rings[stream]);
            let stream = u16::try_from(stream).unwrap_or(u16::MAX);
            ring.expire(until, |k, flight| {
                self.censor(stream, &flight);
                let state = flight.state;
                if !state.accepted
                    && !state.rejected
                    && !state.unsent
                    && self.parked.len() < PARKED_MAX
                {
                    self.parked.insert(ticket(Number { stream, k }), flight);
                }
            });
            self.rings[usize::from(stream)] = ring;
        }
    }

    pub(super) fn censor(&mut self, stream: u16, flight: &Flight) {
        if flight.state.rejected || flight.state.done {
            return;
        }
        let deadline = self.deadlines[usize::from(stream)];
        let side = self.side([flight.sender.0, flight.sender.0]);
        if !flight.state.accepted {
            self.censored(Measure::Accepted, None, side, flight.due_ns, deadline);
        }
        for _ in 0..flight.missing() {
            self.censored(Measure::Delivered, None, side, flight.due_ns, deadline);
        }
    }

    pub(super) fn good(&mut self, n: Number, now: u64) {
        let deadline = self.deadlines.get(usize::from(n.stream)).copied().unwrap_or(0);
        let Some(flight) = self.flight(n) else { return };
        if flight.state.accepted && !flight.state.done && flight.missing() == 0 {
            let late = now.saturating_sub(flight.due_ns);
            flight.state.slow |= flight.owed == 0 && late > ON_TIME_NS;
            flight.state.done = true;
            let (due_ns, slow) = (flight.due_ns, flight.state.slow);
            if late <= deadline {
                self.record.recorder.good(due_ns, !slow);
            }
        }
    }

    /// A frame of the message was encoded.
    pub(super) fn written(&mut self, who: u32, message: &Outgoing, attempt: u32, now: u64) {
        self.record.recorder.counts.attempts += 1;
        self.waits(who, message, attempt, now);
        if attempt > 1 {
            return;
        }
        let n = number(message.ticket);
        self.record.ledger.submitted(n);
        self.record.recorder.counts.written += 1;
        self.totals.written += 1;
        let Some(flight) = self.flight(n) else { return };
        flight.state.written = true;
        let due_ns = flight.due_ns;
        let held = self.since(due_ns, now);
        self.sample(Measure::Outbox, None, None, due_ns, held);
    }

    /// The message was refused for good.
    pub(super) fn reject(&mut self, who: u32, ticket: u64, code: RejectCode, now: u64) {
        self.no_longer_waits(who, ticket, is_answer(code), now);
        let n = number(ticket);
        self.totals.rejected += 1;
        let flight = self.flight(n).map(|flight| {
            flight.state.rejected = true;
            (flight.due_ns, flight.state.bare)
        });
        self.parked.remove(&ticket);
        if let Some((due_ns, _)) = flight {
            self.record.recorder.refused(due_ns);
        }
        let explicit = !flight.is_some_and(|(_, bare)| bare);
        self.record.ledger.rejected(n, code.name(), explicit, now);
    }

    /// The message may or may not surface.
    pub(super) fn unknown(&mut self, who: u32, ticket: u64, now: u64) {
        self.no_longer_waits(who, ticket, false, now);
        let n = number(ticket);
        self.record.recorder.counts.unknown += 1;
        self.totals.unknown += 1;
        if let Some(flight) = self.flight(n) {
            flight.state.unknown = true;
        }
        self.record.ledger.unknown(n);
    }

    /// No byte of the message left.
    pub(super) fn not_sent(&mut self, ticket: u64) {
        let n = number(ticket);
        self.record.recorder.counts.not_sent += 1;
        self.totals.not_sent += 1;
        if let Some(flight) = self.flight(n) {
            flight.state.unsent = true;
        }
        self.parked.remove(&ticket);
        self.record.ledger.not_sent(n);
    }

    /// A send waits for its partition from its first write on a connection.
    fn waits(&mut self, who: u32, message: &Outgoing, attempt: u32, now: u64) {
        let waiting = &mut self.devices[index(who)].waiting;
        let again = attempt > 1 && waiting.iter().any(|send| send.ticket == message.ticket);
        if !again {
            let partition = self.gaps.partition(message.conv);
            waiting.push(Waiting { ticket: message.ticket, partition });
            self.gaps.waits(partition, now);
        }
    }

    /// A send has its answer, or is given up. Without a connection it did not wait.
    fn no_longer_waits(&mut self, who: u32, ticket: u64, answered: bool, now: u64) -> bool {
        let waiting = &mut self.devices[index(who)].waiting;
        let Some(at) = waiting.iter().position(|send| send.ticket == ticket) else { return false };
        let send = waiting.swap_remove(at);
        if answered {
            self.gaps.answered(send.partition, true, now);
        } else {
            self.gaps.left(send.partition, now);
        }
        true
    }

    /// The message is durable.
    pub(super) fn accept(&mut self, who: u32, accepted: &Accepted, now: u64) {
        if !self.no_longer_waits(who, accepted.ticket, true, now) {
            // An answer to what was answered or given up before still is one of the partition.
            self.gaps.answered(self.gaps.partition(accepted.conv), false, now);
        }
        let n = number(accepted.ticket);
        self.moved_ns = now;
        let user = self.population.user_of(DeviceIx(who));
        let peer =
            accepted.conv.peer(UserId(u64::from(user))).and_then(|peer| u32::try_from(peer.0).ok());
        let flight = self.flight(n).map(|flight| *flight);
        self.record.ledger.accepted(&ledger::Accepted {
            n,
            sender: who,
            peer: peer.unwrap_or(u32::MAX),
            conv: accepted.conv,
            cseq: accepted.cseq,
            mid: accepted.mid,
            order_ns: flight.map_or(now, |flight| flight.due_ns),
            at_ns: now,
        });
        if accepted.again {
            return;
        }
        self.record.recorder.counts.accepted += 1;
        self.totals.accepted += 1;
        if accepted.late {
            self.totals.unknown = self.totals.unknown.saturating_sub(1);
        }
        let Some(flight) = flight else { return };
        self.totals.owed += u64::from(flight.missing());
        if self.parked.remove(&accepted.ticket).is_some() {
            // It was censored at its deadline.
            return;
        }
        if let Some(flight) = self.flight(n) {
            flight.state.accepted = true;
        }
        let side = self.side([who, who]);
        let took = self.since(flight.due_ns, now);
        self.sample(Measure::Accepted, None, side, flight.due_ns, took);
        let held_ns = u64::from(flight.held_us) * 1_000;
        self.sample(
            Measure::AcceptedService,
            None,
            side,
            flight.due_ns,
            took.saturating_sub(held_ns),
        );
        let waiting = self.ticks.entry((who, accepted.conv)).or_default();
        if waiting.len() >= TICKS_MAX {
            waiting.pop_front();
        }
        waiting.push_back(Accepting {
            cseq: accepted.cseq,
            due_ns: flight.due_ns,
            held_us: flight.held_us,
        });
        self.good(n, now);
    }

    /// Receipts came up to `delivered`.
    pub(super) fn tick(&mut self, who: u32, conv: ConvId, delivered: u64, now: u64) {
        self.record.ledger.receipt();
        let Some(mut waiting) = self.ticks.remove(&(who, conv)) else { return };
        let side = self.side([who, who]);
        while let Some(accepting) = waiting.pop_front_if(|accepting| accepting.cseq <= delivered) {
            let took = self.since(accepting.due_ns, now);
            self.sample(Measure::Tick, None, side, accepting.due_ns, took);
            let service = took.saturating_sub(u64::from(accepting.held_us) * 1_000);
            self.sample(Measure::TickService, None, side, accepting.due_ns, service);
        }
        if !waiting.is_empty() {
            self.ticks.insert((who, conv), waiting);
        }
    }
}

/// The other codes are refusals for now: the client makes one final at the deadline, when no attempt came through.
fn is_answer(code: RejectCode) -> bool {
    !matches!(code, RejectCode::Busy | RejectCode::Unavailable)
}
