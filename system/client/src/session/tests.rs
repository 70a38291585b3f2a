//! Stories of a device between and during its connections, without I/O.
use std::cell::RefCell;

use bytes::Bytes;
use chat_protocol::frame::{CaughtUp, DeviceClass, Drain, Error, Reset, ResumeOutcome, Sent};
use chat_protocol::limits::Timers;
use chat_protocol::rest::{MessagePage, PageMessage};
use chat_protocol::{Cid, DeviceId, Mid, UserId, fold};
use tokio_util::task::TaskTracker;

use super::*;
use crate::app::{Accepted, App, Cause, Clock, Failure, Local, NotSent, Origin, Surfaced};
use crate::dial::Plain;
use crate::policy::Policies;

const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Diary(RefCell<Vec<String>>);

impl Diary {
    fn note(&self, line: String) {
        self.0.borrow_mut().push(line);
    }
}

impl App for Diary {
    fn compose(&self, _: Local, message: &Outgoing, _: u64, body: &mut Vec<u8>) {
        body.push(u8::try_from(message.ticket).unwrap());
    }
    fn written(&self, _: Local, message: &Outgoing, attempt: u32, _: u64) {
        self.note(format!("written {} {attempt}", message.ticket));
    }
    fn accepted(&self, _: Local, accepted: &Accepted, _: u64) {
        self.note(format!("accepted {} {}", accepted.ticket, accepted.cseq));
    }
    fn rejected(&self, _: Local, ticket: u64, _: chat_protocol::frame::RejectCode, _: u64) {
        self.note(format!("rejected {ticket}"));
    }
    fn unknown(&self, _: Local, ticket: u64, _: u64) {
        self.note(format!("unknown {ticket}"));
    }
    fn not_sent(&self, _: Local, ticket: u64, _: NotSent, _: u64) {
        self.note(format!("not sent {ticket}"));
    }
    fn refused(&self, _: Local, ticket: u64, _: chat_protocol::frame::RejectCode, _: bool, _: u64) {
        self.note(format!("refused {ticket}"));
    }
    fn surfaced(&self, _: Local, surfaced: &Surfaced<'_>, _: u64) {
        self.note(format!("surfaced {} {:?}", surfaced.cseq, surfaced.origin));
    }
    fn unreadable(&self, _: Local, surfaced: &Surfaced<'_>, _: u64) {
        self.note(format!("unreadable {}", surfaced.cseq));
    }
    fn wire_duplicate(&self, _: Local, _: ConvId, cseq: u64, _: u64) {
        self.note(format!("again {cseq}"));
    }
    fn dseq_hole(&self, _: Local, expected: u64, got: u64, _: u64) {
        self.note(format!("hole {expected} {got}"));
    }
    fn receipt(&self, _: Local, _: ConvId, _: UserId, delivered: u64, _: u64) {
        self.note(format!("receipt {delivered}"));
    }
    fn attempt(&self, _: Local, _: &Attempt, _: u64) {}
    fn attempt_failed(&self, _: Local, _: Failure, _: Option<u64>, _: u64) {}
    fn opened(&self, _: Local, opened: &Opened<'_>, _: u64) {
        self.note(format!("opened {:?}", opened.resume));
    }
    fn caught_up(&self, _: Local, _: u64) {}
    fn renumbered(&self, _: Local, lost: bool, _: u64) {
        self.note(format!("renumbered {lost}"));
    }
    fn drain(&self, _: Local, _: u64, _: u64) {}
    fn closed(&self, _: Local, closed: &Closed, _: u64) {
        self.note(format!("closed {:?} {:?}", closed.code, closed.by));
    }
    fn terminal(&self, _: Local, _: u16, _: u64) {}
    fn heartbeat(&self, _: Local, rtt_ns: u64, _: u64) {
        self.note(format!("rtt {rtt_ns}"));
    }
    fn synced(&self, _: Local, _: u64) {
        self.note("synced".to_owned());
    }
    fn odd(&self, _: Local, oddity: Oddity, _: u64) {
        self.note(format!("{oddity:?}"));
    }
}

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
}

struct Story {
    session: Session,
    diary: Rc<Diary>,
    out: Vec<ClientFrame>,
    epoch: u64,
}

impl Story {
    fn new(hints: Hints) -> Self {
        let diary = Rc::new(Diary::default());
        let app: Rc<dyn App> = Rc::<Diary>::clone(&diary);
        let policies = Policies { hints, ..Policies::default() };
        let dial = Rc::new(Plain(Vec::new()));
        let shared =
            Shared::new(app, Rc::new(Still), dial, Timers::DEFAULT, policies, TaskTracker::new());
        let (who, device) = (Local(0), UserId(1).device(0));
        let profile =
            Profile { who, device, class: DeviceClass::Mobile, token: Some("t".into()), seed: 1 };
        Self { session: Session::new(Rc::new(shared), profile), diary, out: Vec::new(), epoch: 0 }
    }

    fn connected(hints: Hints) -> Self {
        let mut story = Self::new(hints);
        assert!(story.welcome(ResumeOutcome::New, 1, 0));
        story.told();
        story
    }

    fn welcome(&mut self, resume: ResumeOutcome, next_dseq: u64, now: u64) -> bool {
        self.epoch += 1;
        let welcome = Welcome {
            conn_epoch: self.epoch,
            node: "gateway-1".to_owned(),
            resume,
            epoch: 1,
            next_dseq,
            hb_ms: 25_000,
            max_unacked: 256,
            reconnect_window_ms: 8_000,
            server_ms: 1_000_000,
        };
        let attempt = self.session.join(now);
        self.session.welcome(&welcome, &attempt, now, now)
    }

    fn frame(&mut self, frame: ServerFrame, now: u64) -> Step {
        self.session.frame(frame, now, &mut self.out)
    }

    fn deliver(&mut self, dseq: u64, cseq: u64, now: u64) {
        let (mid, from_device) = (mid(cseq), UserId(2).device(0));
        let from = UserId(2);
        let deliver = Deliver {
            dseq,
            mid,
            conv: conv(),
            cseq,
            from,
            from_device,
            kind: 0,
            body: Bytes::new(),
        };
        self.frame(ServerFrame::Deliver(deliver), now);
    }

    fn turn(&mut self, now: u64) -> (Step, Vec<ClientFrame>) {
        let step = self.session.turn(now, &mut self.out);
        (step, std::mem::take(&mut self.out))
    }

    fn told(&self) -> Vec<String> {
        self.diary.0.take()
    }
}

fn conv() -> ConvId {
    ConvId::direct(UserId(1), UserId(2)).unwrap()
}

fn mid(n: u64) -> Mid {
    fold::mid_from_bits(u128::from(n))
}

fn cid(n: u8) -> Cid {
    Cid::from_bytes(&[n; 16]).unwrap()
}

fn row(cseq: u64, from_device: DeviceId) -> PageMessage {
    let (mid, cid, from) = (mid(cseq), cid(1), from_device.user());
    PageMessage {
        cseq,
        mid,
        cid,
        from,
        from_device,
        kind: 0,
        body: Bytes::new(),
        client_ms: 0,
        server_ms: 0,
    }
}

#[test]
fn stamp_of_a_send_is_the_servers_clock() {
    let mut story = Story::connected(Hints::Obey);
    story.session.push(Outgoing { ticket: 5, cid: cid(5), conv: conv(), kind: 0 }, 3 * SECOND);
    let (_, out) = story.turn(3 * SECOND);
    let [ClientFrame::Send(send)] = &out[..] else { panic!("{out:?}") };
    assert_eq!((send.client_ms, send.attempt, &send.body[..]), (1_003_000, 1, &[5_u8][..]));
    let sent = Sent { cid: cid(5), mid: mid(1), cseq: 1, server_ms: 0, dup: false };
    story.frame(ServerFrame::Sent(sent), 4 * SECOND);
    assert_eq!(story.told(), ["written 5 1", "accepted 5 1"]);
}

#[test]
fn a_silent_connection_is_given_up_after_the_patience() {
    let mut story = Story::connected(Hints::Obey);
    assert_eq!(story.turn(40 * SECOND - 1).0, Step::Go);
    assert_eq!(story.turn(40 * SECOND).0, Step::Close(close::AWAY, EndedBy::Patience));
    let end = story.session.closed(None, EndedBy::Patience, 40 * SECOND).unwrap();
    assert_eq!(end.reaction, Reaction::Window);
    assert!(story.session.due_ns() > 40 * SECOND);
}

#[test]
fn a_heartbeat_is_answered_and_an_own_one_is_timed() {
    let mut story = Story::connected(Hints::Obey);
    story.frame(ServerFrame::Ping(Beat { t_ms: 77 }), SECOND);
    let (_, out) = story.turn(SECOND);
    assert_eq!(out, [ClientFrame::Pong(Beat { t_ms: 77 })]);
    let (_, out) = story.turn(31 * SECOND);
    let [ClientFrame::Ping(beat)] = out[..] else { panic!("{out:?}") };
    story.frame(ServerFrame::Pong(beat), 31 * SECOND + 5_000);
    assert_eq!(story.told(), ["rtt 5000"]);
}

#[test]
fn a_drain_is_obeyed_at_its_time_or_taken_for_a_goodbye() {
    for (hints, at) in [(Hints::Obey, 3 * SECOND), (Hints::Ignore, SECOND)] {
        let mut story = Story::connected(hints);
        assert_eq!(story.turn(at - 1).0, Step::Go);
        story.frame(
            ServerFrame::Drain(Drain { reconnect_in_ms: 2_000, deadline_ms: 9_000 }),
            SECOND,
        );
        assert_eq!(story.turn(at).0, Step::Close(close::NORMAL, EndedBy::Device));
        let end = story.session.closed(Some(close::NORMAL), EndedBy::Device, at).unwrap();
        let attempt = story.session.again(at, &end).unwrap();
        assert_eq!(attempt.cause == Cause::Drain, hints == Hints::Obey);
    }
}

#[test]
fn hint_of_a_closing_server_reaches_the_backoff() {
    let mut story = Story::connected(Hints::Obey);
    let error = Error { code: close::SHED, text: String::new(), retry_after_ms: Some(4_000) };
    story.frame(ServerFrame::Error(error), SECOND);
    let end = story.session.closed(Some(close::SHED), EndedBy::Server, SECOND).unwrap();
    let attempt = story.session.again(SECOND, &end).unwrap();
    assert_eq!(attempt.cause, Cause::RetryAfter);
    assert!(attempt.delay_ns >= 4 * SECOND);
}

#[test]
fn an_older_connection_epoch_is_not_used() {
    let mut story = Story::connected(Hints::Obey);
    story.session.closed(None, EndedBy::Socket, SECOND);
    story.epoch = 0;
    assert!(!story.welcome(ResumeOutcome::Ok, 1, 2 * SECOND));
    assert_eq!(story.told().last().unwrap(), "OldEpoch");
}

#[test]
fn a_second_welcome_breaks_the_protocol_and_a_foreign_answer_is_counted() {
    let mut story = Story::connected(Hints::Obey);
    let sent = Sent { cid: cid(9), mid: mid(1), cseq: 1, server_ms: 0, dup: false };
    story.frame(ServerFrame::Sent(sent), SECOND);
    story.frame(ServerFrame::Pong(Beat { t_ms: 3 }), SECOND);
    assert_eq!(story.told(), ["UnknownAnswer", "UnexpectedFrame"]);
}

#[test]
fn a_hole_is_filled_from_history_and_flagged() {
    let mut story = Story::connected(Hints::Obey);
    story.deliver(1, 1, 0);
    story.deliver(2, 4, 0);
    story.turn(2 * SECOND);
    let fetch = story.session.next_fetch(2 * SECOND).unwrap();
    assert_eq!((fetch.after, fetch.min_cseq, fetch.origin), (1, Some(2), Origin::Hole));
    let (own, other) = (UserId(1).device(0), UserId(2).device(0));
    let messages = vec![row(2, own), row(3, other), row(4, other)];
    story.session.fetched(fetch, Some(MessagePage { conv: conv(), messages }), 3 * SECOND);
    assert_eq!(story.told(), ["surfaced 1 Relay", "surfaced 4 Relay", "surfaced 3 Hole"]);
    assert_eq!(story.session.next_fetch(9 * SECOND), None);
}

#[test]
fn history_that_refuses_is_asked_less_and_less_often_and_then_at_once_again() {
    let mut story = Story::connected(Hints::Obey);
    story.deliver(1, 1, 0);
    story.deliver(2, 4, 0);
    let mut now = 2 * SECOND;
    story.turn(now);
    let mut fetch = story.session.next_fetch(now).unwrap();
    for wait in [1, 2, 4, 8, 8] {
        story.session.fetched(fetch, None, now);
        let soonest = now + wait * SECOND / 2;
        assert_eq!(story.session.next_fetch(soonest - 1), None);
        now += wait * SECOND;
        fetch = story.session.next_fetch(now).unwrap();
    }
    let messages = vec![row(2, UserId(2).device(0))];
    story.session.fetched(fetch, Some(MessagePage { conv: conv(), messages }), now);
    story.deliver(3, 7, now);
    now += 2 * SECOND;
    story.turn(now);
    let fetch = story.session.next_fetch(now).unwrap();
    story.session.fetched(fetch, None, now);
    assert!(story.session.next_fetch(now + SECOND).is_some());
}

#[test]
fn a_page_under_way_wakes_nobody_and_is_asked_for_again_after_a_reconnect() {
    let mut story = Story::connected(Hints::Obey);
    story.deliver(1, 1, 0);
    story.deliver(2, 4, 0);
    let now = 2 * SECOND;
    story.turn(now);
    let fetch = story.session.next_fetch(now).unwrap();
    assert!(story.session.due_ns() > now, "nothing is to be done before the page is here");
    assert_eq!(story.session.next_fetch(now), None);
    story.session.closed(None, EndedBy::Socket, now);
    story.welcome(ResumeOutcome::Ok, 2, now);
    assert_eq!(story.session.next_fetch(now), Some(fetch));
}

#[test]
fn an_announced_loss_syncs_until_history_brings_nothing_new() {
    let mut story = Story::connected(Hints::Obey);
    story.deliver(1, 1, 0);
    story.session.closed(None, EndedBy::Socket, 0);
    assert!(story.welcome(ResumeOutcome::Gap, 2, 0));
    assert!(story.session.syncing());
    let mut now = 12 * SECOND;
    for pass in 0..2 {
        story.turn(now);
        let fetch = story.session.next_fetch(now).unwrap();
        let rows = if pass == 0 { vec![row(2, UserId(2).device(0))] } else { Vec::new() };
        story.session.fetched(fetch, Some(MessagePage { conv: conv(), messages: rows }), now);
        now += SECOND;
        assert!(story.session.syncing());
    }
    story.turn(now);
    assert!(!story.session.syncing());
    let told = story.told();
    assert_eq!(told[told.len() - 2..], ["surfaced 2 Sync", "synced"]);
}

#[test]
fn a_device_without_cursor_reads_its_queue_and_then_history() {
    let mut story = Story::new(Hints::Obey);
    assert!(story.welcome(ResumeOutcome::New, 3, 0));
    story.deliver(3, 5, 0);
    story.turn(0);
    assert_eq!(story.session.next_fetch(0), None);
    story.frame(ServerFrame::CaughtUp(CaughtUp { dseq: 3 }), 0);
    story.turn(0);
    let fetch = story.session.next_fetch(0).unwrap();
    assert_eq!((fetch.after, fetch.origin), (0, Origin::First), "five was not the first message");
    // Its next connection has a cursor.
    story.session.closed(None, EndedBy::Socket, SECOND);
    assert!(story.welcome(ResumeOutcome::Ok, 4, 2 * SECOND));
    let fetch = story.session.next_fetch(2 * SECOND).unwrap();
    let page = MessagePage { conv: conv(), messages: Vec::new() };
    story.session.fetched(fetch, Some(page), 2 * SECOND);
    story.frame(ServerFrame::CaughtUp(CaughtUp { dseq: 3 }), 9 * SECOND);
    story.turn(9 * SECOND);
    assert!(!story.session.syncing());
}

#[test]
fn devices_whose_queues_were_lost_under_them_do_not_all_sync_at_once() {
    let mut story = Story::connected(Hints::Obey);
    story.deliver(1, 1, 0);
    story.frame(ServerFrame::Reset(Reset { epoch: 2, next_dseq: 1, lost: true }), 0);
    story.turn(SECOND / 2);
    assert!(story.session.syncing());
    assert_eq!(story.session.next_fetch(SECOND / 2), None, "sequencers have to go back first");
    story.turn(12 * SECOND);
    assert!(story.session.next_fetch(12 * SECOND).is_some());
}

#[test]
fn a_page_that_cannot_be_read_is_asked_for_again() {
    let mut story = Story::connected(Hints::Obey);
    story.deliver(1, 1, 0);
    story.deliver(2, 3, 0);
    story.turn(2 * SECOND);
    let fetch = story.session.next_fetch(2 * SECOND).unwrap();
    story.session.fetched(fetch, None, 2 * SECOND);
    assert_eq!(story.session.next_fetch(2 * SECOND), None);
    assert!(story.session.next_fetch(3 * SECOND).is_some());
}

#[test]
fn receipts_never_fall() {
    let mut story = Story::connected(Hints::Obey);
    for (dseq, delivered) in [(1, 3), (2, 2), (3, 5)] {
        let receipt =
            chat_protocol::frame::Receipt { dseq, conv: conv(), who: UserId(2), delivered };
        story.frame(ServerFrame::Receipt(receipt), 0);
    }
    assert_eq!(story.told(), ["receipt 3", "ReceiptRegressed", "receipt 5"]);
}

#[test]
fn a_rebased_queue_is_deduped_and_not_synced() {
    let mut story = Story::connected(Hints::Obey);
    story.deliver(1, 1, 0);
    story.session.closed(None, EndedBy::Socket, SECOND);
    assert!(story.welcome(ResumeOutcome::Rebased, 1, 2 * SECOND));
    assert!(!story.session.syncing());
    story.deliver(1, 1, 2 * SECOND);
    story.deliver(2, 2, 2 * SECOND);
    let told = story.told();
    assert_eq!(told[told.len() - 2..], ["again 1", "surfaced 2 Relay"]);
}
