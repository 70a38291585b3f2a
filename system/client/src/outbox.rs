//! Sends of one device: in order, one unanswered send a conversation, retried under one `cid` until a deadline.
//!
//! At most [`OUTBOX_MAX`] messages wait or are unanswered. A send without answer is written again after the answer timer,
//! within a retry budget of a tenth of the successes plus one each answer timer; the resend after a reconnect is free. At
//! its deadline a written send is *unknown*, and its conversation rests until no copy can be accepted any more.
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use chat_protocol::frame::{Effect, Reject, RejectCode, Send, Sent};
use chat_protocol::limits::{BODY_MAX, OUTBOX_MAX, Timers};
use chat_protocol::{Cid, ConvId};

use crate::app::{Accepted, NotSent, Outgoing};
use crate::backoff::nanos;

/// Answered sends that were written more than once, and unknown ones, whose later answers are still understood.
const REMEMBERED: usize = 16;
/// Retries that may be saved up, in tenths.
const BUDGET_MAX: u64 = 100;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable and ordered.
    Accepted(Accepted),
    /// Refused for good: (ticket, code).
    Rejected(u64, RejectCode),
    /// One attempt was refused, the message goes on: (ticket, code, the server named a time).
    Refused(u64, RejectCode, bool),
    /// It may or may not surface.
    Unknown(u64),
    /// No byte left.
    NotSent(u64, NotSent),
    /// An answer to nothing that is known.
    Stray,
}

/// Encodes bodies and hears about writes.
pub trait Writer {
    /// The sealed body of a message that is written first; `None` when it is too large.
    fn body(&mut self, message: &Outgoing, now: u64) -> Bytes;
    /// Puts a frame on the socket.
    fn write(&mut self, message: &Outgoing, send: Send, now: u64);
}

#[derive(Debug)]
struct Unanswered {
    message: Outgoing,
    body: Bytes,
    client_ms: u64,
    attempts: u32,
    /// Bit n: attempt n + 1 was refused without effect.
    refused: u64,
    code: Option<RejectCode>,
    retry_ns: u64,
    deadline_ns: u64,
    /// The next resend is paid by a reconnect.
    free: bool,
}

impl Unanswered {
    fn gone(&self) -> bool {
        self.attempts < 64 && self.refused.count_ones() == self.attempts
    }
}

#[derive(Debug, Default)]
struct Conv {
    waiting: VecDeque<(Outgoing, u64)>,
    unanswered: Option<Unanswered>,
    rest_until: u64,
}

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    convs: BTreeMap<ConvId, Conv>,
    ready: VecDeque<ConvId>,
    held: usize,
    remembered: VecDeque<(Outgoing, u32, bool)>,
    /// Earliest time anything can be due; never later than the true one.
    due_ns: u64,
    budget: u64,
    budget_at_ns: u64,
    answer_ns: u64,
    deadline_ns: u64,
    rest_ns: u64,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(timers: &Timers) -> Self {
        Self {
            convs: BTreeMap::new(),
            ready: VecDeque::new(),
            held: 0,
            remembered: VecDeque::new(),
            due_ns: u64::MAX,
            budget: 10,
            budget_at_ns: 0,
            answer_ns: nanos(timers.send_ack),
            deadline_ns: nanos(timers.send_deadline),
            rest_ns: nanos(timers.send_rest),
        }
    }

    /// Messages waiting or unanswered.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing waits and nothing is unanswered.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Earliest time at which [`Self::tick`] has something to do.
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Takes a message; its clock runs from now.
    pub fn push(&mut self, message: Outgoing, now: u64) -> Result<(), NotSent> {
        if self.held >= OUTBOX_MAX {
            return Err(NotSent::OutboxFull);
        }
        self.held += 1;
        let deadline = now + self.deadline_ns;
        self.due_ns = self.due_ns.min(deadline);
        let conv = self.convs.entry(message.conv).or_default();
        conv.waiting.push_back((message, deadline));
        if conv.waiting.len() == 1 && conv.unanswered.is_none() && conv.rest_until == 0 {
            self.ready.push_back(message.conv);
        }
        Ok(())
    }

    /// A connection is up: everything unanswered is written again, in a moment by [`Self::write`].
    pub fn connected(&mut self, now: u64) {
        for conv in self.convs.values_mut() {
            if let Some(unanswered) = &mut conv.unanswered {
                unanswered.free = true;
                unanswered.retry_ns = now;
            }
        }
        self.due_ns = now;
    }

    /// The connection is gone; nothing is due until the next one, except deadlines.
    pub fn disconnected(&mut self) {
        for conv in self.convs.values_mut() {
            if let Some(unanswered) = &mut conv.unanswered {
                unanswered.retry_ns = u64::MAX;
            }
        }
    }

    /// Whether a first send can be written.
    pub fn ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Writes the first send of every conversation that has none unanswered. `server_ms` is the server's clock.
    pub fn write(
        &mut self,
        now: u64,
        server_ms: u64,
        writer: &mut impl Writer,
        told: &mut impl FnMut(Outcome),
    ) {
        while let Some(id) = self.ready.pop_front() {
            let Some(conv) = self.convs.get_mut(&id) else { continue };
            if conv.unanswered.is_some() || conv.rest_until != 0 {
                continue;
            }
            while let Some((message, deadline_ns)) = conv.waiting.pop_front() {
                let body = writer.body(&message, now);
                if body.len() > BODY_MAX {
                    self.held -= 1;
                    told(Outcome::NotSent(message.ticket, NotSent::TooLarge));
                    continue;
                }
                let mut unanswered = Unanswered {
                    message,
                    body,
                    client_ms: server_ms,
                    attempts: 0,
                    refused: 0,
                    code: None,
                    retry_ns: 0,
                    deadline_ns,
                    free: false,
                };
                write_one(&mut unanswered, now, self.answer_ns, writer);
                self.due_ns = self.due_ns.min(unanswered.retry_ns);
                conv.unanswered = Some(unanswered);
                break;
            }
            if conv.waiting.is_empty() && conv.unanswered.is_none() && conv.rest_until == 0 {
                self.convs.remove(&id);
            }
        }
    }

    /// Retries, deadlines and the end of rests. `online`: retries can be written.
    pub fn tick(
        &mut self,
        now: u64,
        online: bool,
        writer: &mut impl Writer,
        told: &mut impl FnMut(Outcome),
    ) {
        if now < self.due_ns {
            return;
        }
        self.earn(now);
        let mut due = u64::MAX;
        let (answer_ns, rest_ns, ready) = (self.answer_ns, self.rest_ns, &mut self.ready);
        let (budget, held, remembered) = (&mut self.budget, &mut self.held, &mut self.remembered);
        self.convs.retain(|id, conv| {
            let mut freed = false;
            if let Some(unanswered) = &mut conv.unanswered {
                if now >= unanswered.deadline_ns {
                    *held -= 1;
                    let message = unanswered.message;
                    match unanswered.code {
                        Some(code) if unanswered.gone() => {
                            told(Outcome::Rejected(message.ticket, code));
                            freed = true;
                        }
                        _ => {
                            told(Outcome::Unknown(message.ticket));
                            conv.rest_until = now + rest_ns;
                            remember(remembered, message, unanswered.attempts, true);
                        }
                    }
                    conv.unanswered = None;
                } else if online && now >= unanswered.retry_ns {
                    if unanswered.free {
                        unanswered.free = false;
                        write_one(unanswered, now, answer_ns, writer);
                    } else if *budget >= 10 {
                        *budget -= 10;
                        write_one(unanswered, now, answer_ns, writer);
                    } else {
                        unanswered.retry_ns = now + answer_ns / 4;
                    }
                }
            } else if conv.rest_until != 0 && now >= conv.rest_until {
                conv.rest_until = 0;
                freed = true;
            }
            while let Some((message, deadline_ns)) = conv.waiting.front() {
                if now < *deadline_ns {
                    break;
                }
                told(Outcome::NotSent(message.ticket, NotSent::Deadline));
                *held -= 1;
                conv.waiting.pop_front();
            }
            if freed && !conv.waiting.is_empty() {
                ready.push_back(*id);
            }
            if let Some(unanswered) = &conv.unanswered {
                due = due.min(unanswered.deadline_ns).min(if online {
                    unanswered.retry_ns
                } else {
                    u64::MAX
                });
            }
            if let Some((_, deadline_ns)) = conv.waiting.front() {
                due = due.min(*deadline_ns);
            }
            if conv.rest_until != 0 {
                due = due.min(conv.rest_until);
            }
            conv.unanswered.is_some() || conv.rest_until != 0 || !conv.waiting.is_empty()
        });
        self.due_ns = due;
    }

    /// The message is durable.
    pub fn sent(&mut self, sent: &Sent, now: u64) -> Outcome {
        self.earn(now);
        let numbers = |message: &Outgoing, attempts, late, again| {
            Outcome::Accepted(Accepted {
                ticket: message.ticket,
                cid: message.cid,
                conv: message.conv,
                mid: sent.mid,
                cseq: sent.cseq,
                dup: sent.dup,
                attempts,
                late,
                again,
            })
        };
        if let Some((id, unanswered)) = self.take(sent.cid) {
            self.held -= 1;
            self.budget = (self.budget + 1).min(BUDGET_MAX);
            let message = unanswered.message;
            if unanswered.attempts > 1 {
                remember(&mut self.remembered, message, unanswered.attempts, false);
            }
            self.free(id);
            return numbers(&message, unanswered.attempts, false, false);
        }
        let Some(at) = self.remembered.iter().position(|(message, ..)| message.cid == sent.cid)
        else {
            return Outcome::Stray;
        };
        let (message, attempts, unknown) = self.remembered[at];
        if unknown {
            self.remembered[at].2 = false;
            let resting =
                self.convs.get_mut(&message.conv).filter(|conv| conv.unanswered.is_none());
            if let Some(conv) = resting {
                conv.rest_until = 0;
                self.free(message.conv);
            }
        }
        numbers(&message, attempts, unknown, !unknown)
    }

    /// An attempt was refused.
    pub fn reject(&mut self, reject: &Reject, now: u64) -> Outcome {
        let found = self.find(reject.cid);
        let Some(unanswered) =
            found.and_then(|id| self.convs.get_mut(&id)).and_then(|c| c.unanswered.as_mut())
        else {
            let known = self.remembered.iter().find(|(message, ..)| message.cid == reject.cid);
            // A refusal of an earlier attempt may come after another attempt was accepted.
            return known
                .map_or(Outcome::Stray, |(m, ..)| Outcome::Refused(m.ticket, reject.code, false));
        };
        if reject.effect == Effect::None
            && (1..64).contains(&reject.attempt)
            && reject.attempt <= unanswered.attempts
        {
            unanswered.refused |= 1 << (reject.attempt - 1);
        }
        unanswered.code = Some(reject.code);
        let ticket = unanswered.message.ticket;
        if reject.retryable {
            if reject.attempt == unanswered.attempts {
                let wait = reject
                    .retry_after_ms
                    .map_or(self.answer_ns / 4, |ms| ms.saturating_mul(1_000_000));
                unanswered.retry_ns = now.saturating_add(wait);
                self.due_ns = self.due_ns.min(unanswered.retry_ns);
            }
            return Outcome::Refused(ticket, reject.code, reject.retry_after_ms.is_some());
        }
        let (id, unanswered) = self.take(reject.cid).expect("it was found a moment ago");
        self.held -= 1;
        if unanswered.gone() {
            self.free(id);
            return Outcome::Rejected(ticket, reject.code);
        }
        remember(&mut self.remembered, unanswered.message, unanswered.attempts, true);
        if let Some(conv) = self.convs.get_mut(&id) {
            conv.rest_until = now + self.rest_ns;
            self.due_ns = self.due_ns.min(conv.rest_until);
        }
        Outcome::Unknown(ticket)
    }

    /// Ends the outbox: what was written is unknown, or refused if every attempt was; what waits was not sent.
    pub fn stop(&mut self, told: &mut impl FnMut(Outcome)) {
        for conv in std::mem::take(&mut self.convs).into_values() {
            if let Some(unanswered) = conv.unanswered {
                let ticket = unanswered.message.ticket;
                told(match unanswered.code {
                    Some(code) if unanswered.gone() => Outcome::Rejected(ticket, code),
                    _ => Outcome::Unknown(ticket),
                });
            }
            for (message, _) in conv.waiting {
                told(Outcome::NotSent(message.ticket, NotSent::Stopped));
            }
        }
        self.ready.clear();
        self.held = 0;
        self.due_ns = u64::MAX;
    }

    fn earn(&mut self, now: u64) {
        let earned = now.saturating_sub(self.budget_at_ns) / (self.answer_ns / 10).max(1);
        if earned > 0 {
            self.budget = (self.budget + earned).min(BUDGET_MAX);
            self.budget_at_ns = now;
        }
    }

    fn find(&self, cid: Cid) -> Option<ConvId> {
        let of = |conv: &Conv| conv.unanswered.as_ref().is_some_and(|u| u.message.cid == cid);
        self.convs.iter().find(|(_, conv)| of(conv)).map(|(id, _)| *id)
    }

    fn take(&mut self, cid: Cid) -> Option<(ConvId, Unanswered)> {
        let id = self.find(cid)?;
        let unanswered = self.convs.get_mut(&id)?.unanswered.take()?;
        Some((id, unanswered))
    }

    /// A conversation may go on, or is forgotten.
    fn free(&mut self, id: ConvId) {
        if let Some(conv) = self.convs.get(&id) {
            if conv.waiting.is_empty() {
                self.convs.remove(&id);
            } else {
                self.ready.push_back(id);
            }
        }
        if self.held == 0 && self.convs.is_empty() {
            self.due_ns = u64::MAX;
        }
    }
}

fn remember(
    remembered: &mut VecDeque<(Outgoing, u32, bool)>,
    message: Outgoing,
    attempts: u32,
    unknown: bool,
) {
    if remembered.len() >= REMEMBERED {
        remembered.pop_front();
    }
    remembered.push_back((message, attempts, unknown));
}

fn write_one(unanswered: &mut Unanswered, now: u64, answer_ns: u64, writer: &mut impl Writer) {
    unanswered.attempts += 1;
    unanswered.retry_ns = now + answer_ns;
    let message = unanswered.message;
    let send = Send {
        cid: message.cid,
        attempt: unanswered.attempts,
        conv: message.conv,
        kind: message.kind,
        body: unanswered.body.clone(),
        client_ms: unanswered.client_ms,
    };
    writer.write(&message, send, now);
}

#[cfg(test)]
mod tests;
