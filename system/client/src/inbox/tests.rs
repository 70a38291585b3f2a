//! Stories of the inbox, without clock or socket.
use super::*;
use chat_protocol::UserId;

const WAIT: u64 = 2_000;
const DELAY: u64 = 100;

struct Story {
    inbox: Inbox,
    shown: Vec<u64>,
}

impl Story {
    fn new() -> Self {
        let mut inbox = Inbox::new(WAIT, DELAY);
        assert!(
            !inbox.welcome(ResumeOutcome::New, 1, 1),
            "a device without cursor has nothing to sync"
        );
        Self { inbox, shown: Vec::new() }
    }

    fn take(&mut self, cseq: u64, dseq: u64, now: u64) -> bool {
        self.from(cseq, dseq, now, Origin::Relay)
    }

    fn from(&mut self, cseq: u64, dseq: u64, now: u64, origin: Origin) -> bool {
        let shown = &mut self.shown;
        if origin == Origin::Relay {
            self.inbox.position(dseq, now);
        }
        self.inbox.take(item(cseq, origin), dseq, now, &mut |item| shown.push(item.cseq))
    }

    fn own(&mut self, cseq: u64) {
        let shown = &mut self.shown;
        self.inbox.own(conv(), cseq, 0, &mut |item| shown.push(item.cseq));
    }

    fn tick(&mut self, now: u64) -> Vec<u64> {
        let (shown, mut fills) = (&mut self.shown, Vec::new());
        self.inbox.tick(now, &mut |item| shown.push(item.cseq), &mut |_, after| fills.push(after));
        fills
    }
}

fn conv() -> ConvId {
    ConvId::direct(UserId(1), UserId(2)).unwrap()
}

fn item(cseq: u64, origin: Origin) -> Item {
    let mid = chat_protocol::fold::mid_from_bits(u128::from(cseq));
    Item { conv: conv(), cseq, mid, from: UserId(1).device(0), kind: 0, body: Bytes::new(), origin }
}

#[test]
fn a_copy_is_dropped_wherever_it_comes_from() {
    let mut story = Story::new();
    assert!(story.take(1, 1, 0));
    assert!(!story.take(1, 2, 0));
    assert!(!story.from(1, u64::MAX, 0, Origin::Sync));
    assert_eq!(story.shown, [1]);
}

#[test]
fn a_hole_holds_back_and_a_late_message_releases_in_order() {
    let mut story = Story::new();
    for (cseq, dseq) in [(1, 1), (3, 2), (4, 3)] {
        assert!(story.take(cseq, dseq, 0));
    }
    assert_eq!(story.shown, [1]);
    assert_eq!(story.inbox.ack(1_000, true), Some(1), "what is held back is not acknowledged");
    assert!(!story.take(3, 4, 5), "a copy of what is held back");
    assert!(story.take(2, 5, 5));
    assert_eq!(story.shown, [1, 2, 3, 4]);
    assert_eq!(story.inbox.ack(1_000, true), Some(5));
    assert!(story.tick(10_000).is_empty());
}

#[test]
fn an_open_hole_surfaces_after_its_wait_and_history_fills_it() {
    let mut story = Story::new();
    story.take(1, 1, 0);
    story.take(4, 2, 10);
    assert!(story.tick(2_009).is_empty());
    assert_eq!(story.tick(2_010), [1]);
    assert_eq!(story.shown, [1, 4]);
    assert_eq!(story.inbox.conversations().next(), Some((conv(), 1)));
    for cseq in 2..=4 {
        assert_eq!(story.from(cseq, u64::MAX, 2_020, Origin::Hole), cseq < 4);
    }
    assert_eq!(story.shown, [1, 4, 2, 3]);
    assert_eq!(story.inbox.conversations().next(), Some((conv(), 4)));
    assert_eq!(story.inbox.ack(3_000, true), Some(2));
}

#[test]
fn own_messages_count_as_surfaced() {
    let mut story = Story::new();
    story.own(1);
    assert!(story.take(2, 1, 0));
    story.own(4);
    assert!(story.take(5, 2, 0));
    assert_eq!(story.shown, [2], "3 is under way");
    assert!(story.take(3, 3, 0));
    assert_eq!(story.shown, [2, 3, 5]);
}

#[test]
fn a_message_below_the_first_one_seen_is_not_lost() {
    let mut story = Story::new();
    story.take(3, 1, 0);
    assert!(story.take(1, 2, 0));
    assert!(story.take(2, 3, 0));
    assert!(!story.take(1, 4, 0));
    assert_eq!(story.shown, [3, 1, 2]);
}

#[test]
fn acks_are_cumulative_and_come_after_eight_or_after_the_delay() {
    let mut story = Story::new();
    for n in 1..=7 {
        story.take(n, n, n);
    }
    assert_eq!(story.inbox.ack(50, false), None);
    story.take(8, 8, 50);
    assert_eq!(story.inbox.ack(50, false), Some(8));
    story.take(9, 9, 60);
    assert_eq!(story.inbox.due_ns(), 160);
    assert_eq!(story.inbox.ack(159, false), None);
    assert_eq!(story.inbox.ack(160, false), Some(9));
    assert_eq!(story.inbox.ack(1_000, true), None);
    assert_eq!(story.inbox.due_ns(), u64::MAX);
}

#[test]
fn positions_tell_holes_and_repeats() {
    let mut story = Story::new();
    assert_eq!(story.inbox.position(1, 0), Position::Next);
    assert_eq!(story.inbox.position(4, 0), Position::Hole(2));
    assert_eq!(story.inbox.position(4, 0), Position::Old);
    assert_eq!(story.inbox.cursor(), Some(Cursor { epoch: 1, dseq: 4 }));
}

#[test]
fn only_announced_losses_of_a_known_cursor_ask_for_a_sync() {
    let mut story = Story::new();
    for (outcome, syncs) in [
        (ResumeOutcome::Ok, false),
        (ResumeOutcome::Rebased, false),
        (ResumeOutcome::Gap, true),
        (ResumeOutcome::New, true),
    ] {
        assert_eq!(story.inbox.welcome(outcome, 2, 10), syncs, "{outcome:?}");
        assert_eq!(story.inbox.cursor(), Some(Cursor { epoch: 2, dseq: 9 }));
    }
}

#[test]
fn messages_held_back_are_bounded() {
    let mut story = Story::new();
    story.take(1, 1, 0);
    for n in 0..=HELD_MAX as u64 {
        story.take(n + 3, n + 2, 0);
    }
    assert_eq!(story.inbox.due_ns(), 0);
    assert_eq!(story.tick(1), [1]);
    assert_eq!(story.shown.len(), HELD_MAX + 2);
    assert_eq!(story.inbox.missing(), 1);
}
