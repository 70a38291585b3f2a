//! Stories of the outbox, without clock or socket.
use super::*;
use chat_protocol::UserId;

const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Wire(Vec<(u64, u32, u64)>);

impl Writer for Wire {
    fn body(&mut self, message: &Outgoing, _now: u64) -> Bytes {
        Bytes::from(vec![0; usize::try_from(message.kind).unwrap()])
    }

    fn write(&mut self, message: &Outgoing, send: Send, _now: u64) {
        self.0.push((message.ticket, send.attempt, send.client_ms));
    }
}

struct Story {
    outbox: Outbox,
    wire: Wire,
    told: Vec<Outcome>,
}

impl Story {
    fn new() -> Self {
        Self { outbox: Outbox::new(&Timers::DEFAULT), wire: Wire::default(), told: Vec::new() }
    }

    fn push(&mut self, ticket: u64, peer: u64, now: u64) -> Result<(), NotSent> {
        self.outbox.push(message(ticket, peer), now)
    }

    fn go(&mut self, now: u64) -> Vec<(u64, u32)> {
        self.wire.0.clear();
        let told = &mut self.told;
        self.outbox.tick(now, true, &mut self.wire, &mut |outcome| told.push(outcome));
        self.outbox.write(now, now / 1_000_000, &mut self.wire, &mut |outcome| told.push(outcome));
        self.wire.0.iter().map(|(ticket, attempt, _)| (*ticket, *attempt)).collect()
    }

    fn sent(&mut self, ticket: u64, now: u64) -> Outcome {
        self.outbox.sent(&sent(ticket), now)
    }

    fn reject(&mut self, ticket: u64, attempt: u32, retryable: bool, effect: Effect) -> Outcome {
        let reject = Reject {
            cid: cid(ticket),
            attempt,
            code: RejectCode::Busy,
            retryable,
            effect,
            retry_after_ms: Some(2_000),
        };
        self.outbox.reject(&reject, SECOND)
    }
}

fn cid(ticket: u64) -> Cid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&ticket.to_be_bytes());
    Cid::from_bytes(&bytes).unwrap()
}

fn message(ticket: u64, peer: u64) -> Outgoing {
    Outgoing {
        ticket,
        cid: cid(ticket),
        conv: ConvId::direct(UserId(0), UserId(peer)).unwrap(),
        kind: 10,
    }
}

fn sent(ticket: u64) -> Sent {
    let mid = chat_protocol::fold::mid_from_bits(u128::from(ticket));
    Sent { cid: cid(ticket), mid, cseq: ticket, server_ms: 0, dup: false }
}

#[test]
fn a_conversation_has_one_unanswered_send_and_others_do_not_wait_for_it() {
    let mut story = Story::new();
    for (ticket, peer) in [(1, 7), (2, 7), (3, 8)] {
        story.push(ticket, peer, 0).unwrap();
    }
    assert_eq!(story.go(0), [(1, 1), (3, 1)]);
    assert_eq!(story.go(SECOND), []);
    assert!(
        matches!(story.sent(1, SECOND), Outcome::Accepted(a) if a.ticket == 1 && a.attempts == 1 && !a.late)
    );
    assert_eq!(story.go(SECOND), [(2, 1)]);
    assert_eq!(story.outbox.len(), 2);
}

#[test]
fn a_retry_repeats_cid_and_stamp_of_the_first_attempt() {
    let mut story = Story::new();
    story.push(1, 7, 0).unwrap();
    story.go(SECOND);
    assert_eq!(story.go(6 * SECOND), [(1, 2)]);
    assert_eq!(story.wire.0, [(1, 2, 1_000)]);
    assert!(matches!(story.sent(1, 6 * SECOND), Outcome::Accepted(a) if a.attempts == 2));
    assert!(
        matches!(story.sent(1, 6 * SECOND), Outcome::Accepted(a) if a.again),
        "the other copy's answer"
    );
    assert_eq!(story.sent(9, 0), Outcome::Stray);
}

#[test]
fn reconnect_resends_what_is_unanswered_whatever_the_budget() {
    let mut story = Story::new();
    for ticket in 0..50 {
        story.push(ticket, ticket + 1, 0).unwrap();
    }
    assert_eq!(story.go(0).len(), 50);
    story.outbox.disconnected();
    assert_eq!(
        story.outbox.due_ns(),
        5 * SECOND,
        "a lower bound; the tick finds nothing to write offline"
    );
    story.outbox.connected(3 * SECOND);
    assert_eq!(story.go(3 * SECOND).len(), 50);
}

#[test]
fn the_retry_budget_bounds_copies() {
    let mut story = Story::new();
    for ticket in 0..50 {
        story.push(ticket, ticket + 1, 0).unwrap();
    }
    story.go(0);
    let copies: usize = (50..90).map(|tenth| story.go(tenth * SECOND / 10).len()).sum();
    assert!((1..=12).contains(&copies), "{copies}");
}

#[test]
fn deadline_makes_unknown_and_the_conversation_rests() {
    let mut story = Story::new();
    story.push(1, 7, 0).unwrap();
    story.go(0);
    story.push(2, 7, 100 * SECOND).unwrap();
    story.go(120 * SECOND);
    assert_eq!(story.told, [Outcome::Unknown(1)]);
    assert_eq!(story.go(194 * SECOND), []);
    assert_eq!(story.go(195 * SECOND), [(2, 1)]);
    assert!(matches!(story.sent(1, 196 * SECOND), Outcome::Accepted(a) if a.late && !a.again));
}

#[test]
fn a_late_answer_ends_the_rest() {
    let mut story = Story::new();
    story.push(1, 7, 0).unwrap();
    story.go(0);
    story.push(2, 7, 100 * SECOND).unwrap();
    story.go(120 * SECOND);
    assert!(matches!(story.sent(1, 121 * SECOND), Outcome::Accepted(a) if a.late));
    assert_eq!(story.go(121 * SECOND), [(2, 1)]);
}

#[test]
fn refused_for_good_only_when_every_attempt_was_refused_without_effect() {
    let mut story = Story::new();
    story.push(1, 7, 0).unwrap();
    story.go(0);
    assert_eq!(story.reject(1, 1, true, Effect::None), Outcome::Refused(1, RejectCode::Busy, true));
    assert_eq!(story.go(2 * SECOND), []);
    assert_eq!(story.go(3 * SECOND), [(1, 2)]);
    assert_eq!(story.reject(1, 2, false, Effect::None), Outcome::Rejected(1, RejectCode::Busy));

    story.push(2, 7, 0).unwrap();
    story.go(0);
    story.go(6 * SECOND);
    assert_eq!(
        story.reject(2, 2, false, Effect::None),
        Outcome::Unknown(2),
        "attempt 1 was never answered"
    );
    story.push(3, 8, 0).unwrap();
    story.go(0);
    assert_eq!(story.reject(3, 1, false, Effect::Unknown), Outcome::Unknown(3));
}

#[test]
fn full_outbox_and_passed_deadline_are_not_sent() {
    let mut story = Story::new();
    for ticket in 0..1_000 {
        story.push(ticket, 7, 0).unwrap();
    }
    assert_eq!(story.push(1_000, 7, 0), Err(NotSent::OutboxFull));
    let told = &mut story.told;
    story.outbox.tick(120 * SECOND, false, &mut story.wire, &mut |outcome| told.push(outcome));
    assert_eq!(story.told.len(), 1_000);
    assert_eq!(story.told[0], Outcome::NotSent(0, NotSent::Deadline));
    assert!(story.outbox.is_empty());
    story.push(1, 7, 0).unwrap();
    assert_eq!(story.go(0), [(1, 1)]);
    assert_eq!(story.go(0), []);
}

#[test]
fn stop_tells_every_message_once() {
    let mut story = Story::new();
    story.push(1, 7, 0).unwrap();
    story.push(2, 7, 0).unwrap();
    story.go(0);
    let told = &mut story.told;
    story.outbox.stop(&mut |outcome| told.push(outcome));
    assert_eq!(story.told, [Outcome::Unknown(1), Outcome::NotSent(2, NotSent::Stopped)]);
}
