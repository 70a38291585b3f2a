//! Stories of measurement: devices without sockets, a server of one function, and a clock turned by hand.
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use chat_client::app::{Clock, EndedBy};
use chat_client::dial::Plain;
use chat_client::session::Session;
use chat_client::{App, Local, Policies, Profile, Shared};
use chat_protocol::frame::{
    CaughtUp, ClientFrame, Deliver, DeviceClass, Effect, Reject, RejectCode, ResumeOutcome, Send,
    Sent, ServerFrame, Welcome,
};
use chat_protocol::limits::Timers;
use chat_protocol::{Cid, ConvId, DeviceId, Mid, UserId, fold};
use storm_workload::document::{Document, SourceText};
use storm_workload::{DeviceIx, Overrides, Plan, Schedule};
use tokio_util::task::TaskTracker;

use crate::gaps::Gaps;
use crate::meters::Measure;
use crate::observer::{Observer, Parts, State};
use crate::pacer::{Begin, Pacer};
use crate::shard::ledger_config;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    Mute,
    Refuses,
}

struct Server {
    manner: Manner,
    cseqs: HashMap<ConvId, u64>,
    seen: HashMap<Cid, Sent>,
    dseqs: Vec<u64>,
}

struct Sim {
    schedule: Arc<Schedule>,
    gaps: Arc<Gaps>,
    observer: Rc<Observer>,
    sessions: Vec<Session>,
    server: Server,
    waiting: Vec<(u32, Send)>,
}

fn plan(rate: u32, seconds: u32, deadline: &str) -> Schedule {
    let text = format!(
        "format: 1\nname: t\nseed: 3\n\
         population: {{users: 10, community: 10, online: 1.0, devices: {{1: 0.5, 2: 0.5}}}}\n\
         streams: {{chat: {{rate: {rate}/s, arrival: uniform, deadline: {deadline}, payload: {{const: 64B}}}}}}\n\
         phases: [{{name: steady, role: steady, for: {seconds}s, load: {{hold: 1.0}}}}, \
         {{name: drain, role: drain, until: settled, limit: 10s}}]\n"
    );
    let doc = Document::read(&SourceText::new("t.yaml", &text))
        .unwrap_or_else(|errors| panic!("{errors}"));
    let plan = Plan::resolve_document(&doc, &Overrides::default(), &[])
        .unwrap_or_else(|errors| panic!("{errors}"))
        .0;
    Schedule::new(Arc::new(plan))
}

impl Sim {
    fn new(schedule: Schedule, manner: Manner) -> Self {
        let schedule = Arc::new(schedule);
        let population = Arc::clone(schedule.population());
        let gaps = Arc::new(Gaps::new(schedule.plan().system.log.partitions));
        gaps.begin(0);
        let (record, _feed) = storm_record::Shard::new(ledger_config(&schedule, 0, 1));
        let devices: Vec<DeviceIx> = (0..population.devices()).map(DeviceIx).collect();
        let state = State::new(Parts {
            schedule: Arc::clone(&schedule),
            run_id: "t".to_owned(),
            timers: Timers::DEFAULT,
            record,
            gaps: Arc::clone(&gaps),
            views: Arc::default(),
            devices: devices.clone(),
        });
        let observer = Rc::new(Observer(RefCell::new(state)));
        let app: Rc<dyn App> = Rc::<Observer>::clone(&observer);
        let shared = Shared::new(
            app,
            Rc::new(Still),
            Rc::new(Plain(Vec::new())),
            Timers::DEFAULT,
            Policies::default(),
            TaskTracker::new(),
        );
        let shared = Rc::new(shared);
        observer.0.borrow_mut().begin(0, 0);
        let session = |ix: &DeviceIx| {
            let (user, place) = population.split(*ix);
            let device = UserId(u64::from(user)).device(place);
            let (who, class) = (Local(ix.0), DeviceClass::Mobile);
            let profile = Profile { who, device, class, token: Some("t".into()), seed: 1 };
            let mut session = Session::new(Rc::clone(&shared), profile);
            observer.0.borrow_mut().returns(*ix, 0, true);
            let attempt = session.join(0);
            assert!(session.welcome(&welcome(1, ix.0 % 2 + 1), &attempt, 0, 0));
            session.frame(ServerFrame::CaughtUp(CaughtUp { dseq: 0 }), 0, &mut Vec::new());
            session
        };
        let sessions: Vec<Session> = devices.iter().map(session).collect();
        let dseqs = vec![0; sessions.len()];
        let server = Server { manner, cseqs: HashMap::new(), seen: HashMap::new(), dseqs };
        Self { schedule, gaps, observer, sessions, server, waiting: Vec::new() }
    }

    /// Runs to `until`, a millisecond a step. `stall` stops the server, `hold` the scheduler.
    fn run(&mut self, until: u64, stall: std::ops::Range<u64>, hold: std::ops::Range<u64>) {
        let schedule = Arc::clone(&self.schedule);
        let mut pacer = Pacer::new(&schedule, Begin { phase: 0, at_ns: 0 }, 0, 1);
        let mut out = Vec::new();
        for now in (0..until).step_by(usize::try_from(MS).unwrap()) {
            if !hold.contains(&now) {
                pacer.fire(now, u64::MAX, |due| {
                    let outgoing = self.observer.0.borrow_mut().fire(&due);
                    self.sessions[usize::try_from(due.intent.sender.0).unwrap()]
                        .push(outgoing, now);
                });
            }
            for (session, ix) in self.sessions.iter_mut().zip(0..) {
                session.turn(now, &mut out);
                for frame in out.drain(..) {
                    if let ClientFrame::Send(send) = frame {
                        self.waiting.push((ix, send));
                    }
                }
            }
            if !stall.contains(&now) {
                for (ix, send) in std::mem::take(&mut self.waiting) {
                    self.serve(ix, &send, now);
                }
            }
            let mut state = self.observer.0.borrow_mut();
            state.expire(now);
            state.record.tick(now);
        }
    }

    fn serve(&mut self, ix: u32, send: &Send, now: u64) {
        let at = usize::try_from(ix).unwrap();
        let mut out = Vec::new();
        match self.server.manner {
            Manner::Mute => return,
            Manner::Refuses => {
                let (code, effect) = (RejectCode::Forbidden, Effect::None);
                let reject = Reject {
                    cid: send.cid,
                    attempt: send.attempt,
                    code,
                    retryable: false,
                    effect,
                    retry_after_ms: None,
                };
                self.sessions[at].frame(ServerFrame::Reject(reject), now, &mut out);
                return;
            }
            Manner::Answers => {}
        }
        assert!(
            !self.server.seen.contains_key(&send.cid),
            "nothing is lost, so nothing is retried"
        );
        let cseq = self.server.cseqs.entry(send.conv).or_insert(0);
        *cseq += 1;
        let mid = fold::mid_from_bits(u128::from(*cseq));
        let sent = Sent { cid: send.cid, mid, cseq: *cseq, server_ms: 0, dup: false };
        self.server.seen.insert(send.cid, sent.clone());
        let from_device = self.sessions[at].profile().device;
        let (low, high) = send.conv.users();
        self.sessions[at].frame(ServerFrame::Sent(sent), now, &mut out);
        for to in 0..self.sessions.len() {
            let device = self.sessions[to].profile().device;
            if to != at && (device.user() == low || device.user() == high) {
                self.server.dseqs[to] += 1;
                let deliver = deliver(
                    self.server.dseqs[to],
                    mid,
                    send.conv,
                    self.server.cseqs[&send.conv],
                    from_device,
                    send,
                );
                self.sessions[to].frame(ServerFrame::Deliver(deliver), now, &mut out);
            }
        }
    }

    fn values(&self, measure: Measure) -> Vec<(u64, u64, bool)> {
        let state = self.observer.0.borrow();
        let of = state.tap.iter().filter(|(what, ..)| *what == measure);
        of.map(|(_, due, value, censored)| (*due, *value, *censored)).collect()
    }

    fn p99(&self, measure: Measure) -> u64 {
        let mut values: Vec<u64> =
            self.values(measure).iter().map(|(_, value, _)| *value).collect();
        values.sort_unstable();
        values[values.len() * 99 / 100]
    }
}

fn welcome(conn_epoch: u64, node: u32) -> Welcome {
    Welcome {
        conn_epoch,
        node: format!("gateway-{node}"),
        resume: if conn_epoch == 1 { ResumeOutcome::New } else { ResumeOutcome::Ok },
        epoch: 1,
        next_dseq: 1,
        hb_ms: 25_000,
        max_unacked: 256,
        reconnect_window_ms: 1_000,
        server_ms: 1_700_000_000_000,
    }
}

fn deliver(
    dseq: u64,
    mid: Mid,
    conv: ConvId,
    cseq: u64,
    from_device: DeviceId,
    send: &Send,
) -> Deliver {
    let from = from_device.user();
    Deliver { dseq, mid, conv, cseq, from, from_device, kind: 0, body: send.body.clone() }
}

#[test]
fn one_second_stall_in_ten_moves_p99_to_900_ms() {
    let mut sim = Sim::new(plan(2_000, 10, "30s"), Manner::Answers);
    sim.run(12 * SECOND, 5 * SECOND..6 * SECOND, 0..0);
    for measure in [Measure::Accepted, Measure::Delivered] {
        let p99 = sim.p99(measure) / MS;
        assert!((855..=945).contains(&p99), "{measure:?}: {p99} ms");
    }
    let service = sim.p99(Measure::AcceptedService) / MS;
    assert!(service <= 2, "the time from the write hides the stall: {service} ms");
    let state = sim.observer.0.borrow();
    assert_eq!(state.totals.accepted, 20_000);
    assert_eq!(state.totals.owed, 0);
    assert!(state.record.ledger.rows.is_empty(), "{:?}", state.record.ledger.rows.first());
}

#[test]
fn late_scheduler_shows_in_response_time() {
    let mut sim = Sim::new(plan(1_000, 2, "30s"), Manner::Answers);
    sim.run(3 * SECOND, 0..0, SECOND..SECOND + 200 * MS);
    for (due, value, _) in sim.values(Measure::Delivered) {
        let held = (SECOND..SECOND + 199 * MS).contains(&due);
        let least = if held { SECOND + 200 * MS - due } else { 0 };
        assert!((least..=least + 20 * MS).contains(&value), "due {due}, took {value}");
    }
    assert!(sim.p99(Measure::Lag) > 150 * MS);
    assert!(sim.p99(Measure::DeliveredService) <= 2 * MS);
}

#[test]
fn unanswered_message_is_censored_at_its_deadline() {
    let mut sim = Sim::new(plan(10, 2, "3s"), Manner::Mute);
    sim.run(10 * SECOND, 0..0, 0..0);
    let accepted = sim.values(Measure::Accepted);
    assert_eq!(accepted.len(), 20);
    assert!(accepted.iter().all(|(_, value, censored)| *value == 3 * SECOND && *censored));
    let delivered = sim.values(Measure::Delivered);
    assert!(
        delivered.len() >= 20
            && delivered.iter().all(|(_, value, censored)| *value == 3 * SECOND && *censored)
    );
    assert_eq!(sim.observer.0.borrow().totals.accepted, 0);
}

#[test]
fn rejected_sends_do_not_enter_percentiles() {
    let mut sim = Sim::new(plan(10, 2, "3s"), Manner::Refuses);
    sim.run(10 * SECOND, 0..0, 0..0);
    assert_eq!(sim.observer.0.borrow().totals.rejected, 20);
    for measure in [Measure::Accepted, Measure::AcceptedService, Measure::Delivered, Measure::Late]
    {
        assert_eq!(sim.values(measure), [], "{measure:?}");
    }
}

#[test]
fn stalled_system_is_a_gap_of_every_partition_that_has_sends() {
    let mut sim = Sim::new(plan(2_000, 10, "30s"), Manner::Answers);
    sim.run(12 * SECOND, 5 * SECOND..6 * SECOND, 0..0);
    let gaps = sim.gaps.take(12 * SECOND);
    assert!(!gaps.is_empty());
    for gap in gaps {
        assert!((900..=1_000).contains(&(gap.gap_ns / MS)), "{gap:?}");
    }
}

#[test]
fn partition_that_never_answers_is_silent_to_the_end() {
    let mut sim = Sim::new(plan(100, 2, "3s"), Manner::Mute);
    sim.run(5 * SECOND, 0..0, 0..0);
    let gaps = sim.gaps.take(5 * SECOND);
    assert!(!gaps.is_empty());
    for gap in gaps {
        assert!((3_000..=5_000).contains(&(gap.gap_ns / MS)), "{gap:?}");
    }
}

#[test]
fn definite_refusals_are_answers_of_the_partition() {
    let mut sim = Sim::new(plan(100, 2, "3s"), Manner::Refuses);
    sim.run(5 * SECOND, 0..0, 0..0);
    let gaps = sim.gaps.take(5 * SECOND);
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.gap_ns <= 2 * MS), "{gaps:?}");
}

#[test]
fn sends_of_a_cut_device_wait_again_once_they_are_written_again() {
    let mut sim = Sim::new(plan(100, 2, "30s"), Manner::Mute);
    sim.run(2 * SECOND, 0..0, 0..0);
    for session in &mut sim.sessions {
        session.closed(None, EndedBy::Socket, 2 * SECOND);
    }
    // Nobody is connected, so nothing waits and the silence does not grow.
    let longest = sim.gaps.take(60 * SECOND).iter().map(|gap| gap.gap_ns).max();
    assert!(longest.is_some_and(|gap| gap <= 2 * SECOND), "{longest:?}");
    assert_eq!(sim.gaps.take(60 * SECOND), []);
    for session in &mut sim.sessions {
        let attempt = session.join(3 * SECOND);
        assert!(session.welcome(&welcome(2, 1), &attempt, 3 * SECOND, 3 * SECOND));
        session.turn(3 * SECOND, &mut Vec::new());
    }
    let gaps = sim.gaps.take(5 * SECOND);
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.gap_ns == 2 * SECOND), "{gaps:?}");
}

#[test]
fn what_surfaces_after_its_deadline_is_censored_and_told_as_late() {
    let mut sim = Sim::new(plan(10, 1, "2s"), Manner::Answers);
    sim.run(8 * SECOND, 0..4 * SECOND, 0..0);
    let delivered = sim.values(Measure::Delivered);
    assert!(delivered.iter().all(|(_, value, censored)| *value == 2 * SECOND && *censored));
    let late = sim.values(Measure::Late);
    assert_eq!(late.len(), delivered.len());
    assert!(late.iter().all(|(due, value, _)| *value >= 4 * SECOND - due));
    let state = sim.observer.0.borrow();
    assert_eq!((state.totals.accepted, state.totals.owed), (10, 0));
}

#[test]
fn thousand_unsolicited_frames_are_all_classified() {
    let mut sim = Sim::new(plan(10, 1, "30s"), Manner::Answers);
    sim.run(2 * SECOND, 0..0, 0..0);
    let mut out = Vec::new();
    let (conv, from) = (ConvId::direct(UserId(0), UserId(1)).unwrap(), UserId(1).device(0));
    let cseq = sim.server.cseqs.get(&conv).copied().unwrap_or(0);
    let stray = Send {
        cid: Cid::from_bytes(&[7; 16]).unwrap(),
        attempt: 1,
        conv,
        kind: 0,
        body: b"x"[..].into(),
        client_ms: 0,
    };
    for n in 0..500 {
        let dseq = sim.server.dseqs[0] + n + 1;
        let mid = fold::mid_from_bits(u128::from(n));
        let foreign = deliver(dseq, mid, conv, cseq + n + 1, from, &stray);
        sim.sessions[0].frame(ServerFrame::Deliver(foreign), 3 * SECOND, &mut out);
        let sent = Sent { cid: stray.cid, mid, cseq: n, server_ms: 0, dup: false };
        sim.sessions[0].frame(ServerFrame::Sent(sent), 3 * SECOND, &mut out);
    }
    let state = sim.observer.0.borrow();
    assert_eq!(state.record.ledger.rows.len(), 500, "every foreign body is evidence");
    assert_eq!(
        state.record.recorder.counts.frames_unexpected, 500,
        "every stray answer is counted"
    );
    assert_eq!(
        state.totals.delivered,
        u64::try_from(sim.values(Measure::Delivered).len()).unwrap()
    );
}
