//! A clean synthetic run and what tests do to it: one mutation must flip exactly one finding.
use std::collections::BTreeMap;

use chat_protocol::digest::message_hash;
use chat_protocol::limits::Timers;
use chat_protocol::{ConvId, Mid};
use storm_record::control::ControlSummary;
use storm_record::facts::{
    CounterList, DigestSeen, Fact, Facts, FaultKind, FaultLog, FinalPhase, GaugeList, GaugeSeen,
    LagList, LeaseList, LeaseSeen, Mark, NodeList, NodeSeen, QueueList, RouteFact, RouteSeen,
    Targets, WindowBegan,
};
use storm_record::ledger::row::{Attempt, Closed, ClosedBy, DelayRule, Opened, ResumeOutcome};
use storm_record::ledger::{Accepted, LedgerConfig, StreamShape, Surfaced};
use storm_record::manifest::{FORMAT, Manifest};
use storm_record::promises::{ControlWanted, Promises, Recovery};
use storm_record::series::{Samples, SeriesKey};
use storm_record::slices::{DueSecond, Slice, SliceSeries};
use storm_record::{Device, Ledger, Number, Record};
use storm_workload::document::{Document, SourceText};
use storm_workload::gate::Path;
use storm_workload::metrics::Metric;
use storm_workload::plan::{Overrides, Plan, Window};

use crate::finding::{Finding, Outcome};
use crate::report::Report;
use crate::verdict::{Reason, Verdict};
use crate::world::{Planned, World};

const S: u64 = 1_000_000_000;
/// Steady from 2 s to 12 s, drain until 15 s.
const STEADY: u64 = 2 * S;
const DRAIN: u64 = 12 * S;
const END: u64 = 15 * S;

const SCENARIO: &str = "\
format: 1
name: t
seed: 3
population: {users: 30, community: 30, devices: {1: 0.5, 2: 0.5}}
streams: {chat: {rate: 200/s, deadline: 5s}}
phases:
  - {name: connect, role: warm-up, until: connected, limit: 2s}
  - {name: steady, role: steady, for: 10s, load: {hold: 1.0}}
  - {name: drain, role: drain, until: settled, limit: 10s}
";

/// A run with its expected world.
pub(crate) struct Kit {
    pub(crate) record: Record,
    planned: Vec<Planned>,
}

/// A report with what tests ask of it.
pub(crate) struct Judged(pub(crate) Report);

impl Judged {
    pub(crate) fn finding(&self, id: &str) -> &Finding {
        self.0.findings.iter().find(|finding| finding.id == id).unwrap()
    }

    /// Exactly one finding is Fail.
    pub(crate) fn only_fails(&self, id: &str) {
        self.only_fail(&[id]);
    }

    pub(crate) fn only_fail(&self, wanted: &[&str]) {
        let failed: Vec<_> =
            self.0.findings.iter().filter(|finding| finding.outcome == Outcome::Fail).collect();
        let ids: Vec<&str> = failed.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, wanted, "{failed:#?}");
        assert_eq!((self.0.verdict, self.0.exit_code), (Verdict::Fail, 11));
    }

    /// Nothing failed, and exactly one finding cannot tell, for this reason, which is the only one of the run.
    pub(crate) fn is_unsettled_by(&self, id: &str, reason: Reason) {
        let open: Vec<(&str, Option<Reason>)> = self
            .0
            .findings
            .iter()
            .filter(|finding| matches!(finding.outcome, Outcome::Fail | Outcome::Inconclusive))
            .map(|finding| (finding.id.as_str(), finding.reason))
            .collect();
        assert_eq!(open, [(id, Some(reason))]);
        assert_eq!(self.0.reasons, [reason]);
        assert_eq!(self.0.verdict, Verdict::Inconclusive);
    }

    pub(crate) fn passes(&self) {
        let not: Vec<_> = self
            .0
            .findings
            .iter()
            .filter(|finding| matches!(finding.outcome, Outcome::Fail | Outcome::Inconclusive))
            .collect();
        assert!(not.is_empty(), "{not:#?}");
        assert_eq!((self.0.verdict, self.0.exit_code), (Verdict::Pass, 0));
    }
}

pub(crate) fn judged(kit: &Kit) -> Judged {
    Judged(crate::judge(&kit.record).unwrap())
}

pub(crate) fn attempt(
    device: Device,
    index: u32,
    decided_ns: u64,
    delay_ns: u64,
    rule: DelayRule,
) -> Attempt {
    Attempt { device, index, decided_ns, delay_ns, started_ns: decided_ns + delay_ns, rule }
}

fn mid(cseq: u64) -> Mid {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&cseq.to_be_bytes());
    Mid::from_bytes(&bytes).unwrap()
}

fn node_of(device: Device) -> String {
    format!("gateway-{}", device % 3 + 1)
}

fn plan() -> Plan {
    let doc = Document::read(&SourceText::new("t.yaml", SCENARIO))
        .unwrap_or_else(|errors| panic!("{errors}"));
    Plan::resolve_document(&doc, &Overrides::default(), &[])
        .unwrap_or_else(|errors| panic!("{errors}"))
        .0
}

fn manifest() -> Manifest {
    let text = str::to_owned;
    Manifest {
        format: FORMAT,
        run: text("run"),
        version: text("0.1.0"),
        binary: text("binary"),
        host: text("host"),
        substrate: text("embedded"),
        scenario: text("t"),
        experiment: None,
        arm: None,
        hypothesis: None,
        plan_hash: text("hash"),
        seed: 3,
        scale: text("1"),
        variants: Vec::new(),
        settings: BTreeMap::new(),
        timers: Timers::short(),
        servers: BTreeMap::new(),
        partitions: 8,
        started_ms: 0,
        command: text("chatstorm run t"),
        again: text("chatstorm report run"),
        steered: false,
    }
}

impl Kit {
    /// Everything happened as planned.
    pub(crate) fn clean() -> Self {
        let plan = plan();
        let json = serde_json::to_value(&plan).unwrap();
        let world = World::of(plan);
        let mut facts = Facts::default();
        for (phase, name, window, at_ns) in [
            (0, "connect", Window::WarmUp, 0),
            (1, "steady", Window::Steady, STEADY),
            (2, "drain", Window::Drain, DRAIN),
        ] {
            facts.note(Fact::Window(WindowBegan { phase, name: name.to_owned(), window, at_ns }));
        }
        let planned: Vec<Planned> = world.planned(&facts).collect();
        let mut record = Record {
            manifest: manifest(),
            plan: json,
            promises: Promises { lag_p99_ns: 5_000_000, ..Promises::default() },
            facts,
            slices: Vec::new(),
            totals: BTreeMap::new(),
            ledger: ledger(&world, &planned),
            control: None,
            damaged: Vec::new(),
        };
        system(&world, &mut record);
        slices(&planned, &mut record);
        record.facts.note(Fact::Final(FinalPhase {
            drained: true,
            read: true,
            missing: Vec::new(),
            at_ns: END,
        }));
        Self { record, planned }
    }

    /// The same with a fault-like method: recovery from 6 s on, against a control run that was the same.
    pub(crate) fn with_recovery() -> Self {
        let mut kit = Self::clean();
        let spans = &mut kit.record.facts.windows;
        let drain = spans.pop().unwrap();
        let mut recovery = spans[1].clone();
        spans[1].to_ns = 6 * S;
        (recovery.name, recovery.window, recovery.from_ns) =
            ("recovery".to_owned(), Window::Recovery, 6 * S);
        // The windows of the facts, not the plan's phases, say when what was judged.
        recovery.phase = 0;
        spans.extend([recovery, drain]);
        for slice in &mut kit.record.slices {
            slice.window += u16::from(slice.from_ns >= 6 * S);
        }
        let rule = Recovery {
            within_ns: 3 * S,
            hold_ns: 4 * S,
            on_time: 0.99,
            latency_factor: 1.1,
            imbalance: Some(9.0),
        };
        kit.record.promises.recovery = Some(rule);
        kit.record.promises.control = ControlWanted::SameSeed;
        kit.record.facts.marks.push(Mark::AllHealed { at_ns: 6 * S });
        let control: ControlSummary = crate::control::summarise(&kit.record);
        kit.record.control = Some(control);
        kit
    }

    /// A number that was planned somewhere in the middle, whose recipient has one device at least.
    pub(crate) fn some_number(&self) -> Number {
        self.planned[self.planned.len() / 2].n
    }

    /// How the message surfaced in its first slot.
    pub(crate) fn surfacing(&self, n: Number) -> Surfaced {
        let world = World::read(&self.record.plan).unwrap();
        let mut tops: BTreeMap<ConvId, u64> = BTreeMap::new();
        for planned in &self.planned {
            let from = world.user_of(planned.sender);
            let conv = World::conv(from, planned.to_user).unwrap();
            let cseq = tops.entry(conv).or_default();
            *cseq += 1;
            if planned.n == n {
                let device = world.device_in(planned, 0).unwrap();
                return surfaced(planned, device, 0, from, conv, *cseq);
            }
        }
        unreachable!("the number is planned")
    }

    /// Adds a fault on nothing, witnessed and healed.
    pub(crate) fn fault(&mut self, kind: FaultKind, injected: u64, healed: u64) -> &mut FaultLog {
        self.record.facts.faults.push(FaultLog {
            step: "step".to_owned(),
            fault: 0,
            kind: Some(kind),
            targets: Targets::default(),
            undo: "resumed".to_owned(),
            began_ns: Some(injected),
            injected_ns: Some(injected),
            witnessed_ns: Some(injected + 1),
            evidence: Vec::new(),
            lapsed_ns: None,
            healing_ns: Some(healed),
            healed_ns: Some(healed),
            healing: Vec::new(),
            trouble: None,
        });
        self.record.facts.faults.last_mut().unwrap()
    }

    /// A device leaves at one instant and is back at another; its route follows.
    pub(crate) fn reconnect(&mut self, device: Device, left_ns: u64, back_ns: u64) {
        let ledger = &mut self.record.ledger;
        ledger.closed.retain(|closed| closed.device != device);
        ledger.closed.push(Closed {
            device,
            conn_epoch: 1,
            code: Some(1000),
            by: ClosedBy::Left,
            last_frame_ns: left_ns,
            session_ns: left_ns,
            terminal: false,
            at_ns: left_ns,
        });
        ledger.opened.push(opened(device, 2, back_ns));
        let route = RouteSeen { node: node_of(device), node_epoch: 1, conn_epoch: 2 };
        self.record.facts.routes.push(RouteFact { device, route: None, at_ns: left_ns + 1 });
        self.record.facts.routes.push(RouteFact { device, route: Some(route), at_ns: back_ns });
    }

    /// So many connections of devices beyond the plan are cut in one instant.
    pub(crate) fn cut(&mut self, count: u32, at_ns: u64) {
        for device in 1_000..1_000 + count {
            self.record.ledger.closed.push(Closed {
                device,
                conn_epoch: 1,
                code: None,
                by: ClosedBy::Socket,
                last_frame_ns: at_ns,
                session_ns: S,
                terminal: false,
                at_ns,
            });
        }
    }
}

fn opened(device: Device, conn_epoch: u64, at_ns: u64) -> Opened {
    let node = node_of(device).into();
    Opened {
        device,
        node,
        conn_epoch,
        offered: None,
        resume: ResumeOutcome::New,
        window_ns: 100_000_000,
        at_ns,
    }
}

fn surfaced(
    planned: &Planned,
    device: Device,
    slot: u8,
    peer: u32,
    conv: ConvId,
    cseq: u64,
) -> Surfaced {
    Surfaced {
        n: Some(planned.n),
        intact: true,
        device,
        slot: Some(slot),
        peer,
        conv,
        cseq,
        mid: mid(cseq),
        backfilled: false,
        announced: false,
        conn_epoch: 1,
        at_ns: planned.due_ns + 5_000_000,
    }
}

fn ledger(world: &World, planned: &[Planned]) -> Ledger {
    let people = world.people();
    let streams = vec![StreamShape { numbers: world.plan().numbers_of(0), slots: 3 }];
    let mut ledger = Ledger::new(LedgerConfig {
        shard: 0,
        streams,
        devices: people.devices() + 2_000,
        pairs: 1_000,
    });
    for device in 0..people.devices() {
        ledger.opened(opened(device, 1, S / 2));
    }
    let mut tops: BTreeMap<ConvId, u64> = BTreeMap::new();
    for planned in planned {
        let from = world.user_of(planned.sender);
        let conv = World::conv(from, planned.to_user).unwrap();
        let cseq = tops.entry(conv).or_default();
        *cseq += 1;
        let (n, cseq) = (planned.n, *cseq);
        ledger.submitted(n);
        let (order_ns, at_ns) = (planned.due_ns, planned.due_ns + 3_000_000);
        ledger.accepted(&Accepted {
            n,
            sender: planned.sender,
            peer: planned.to_user,
            conv,
            cseq,
            mid: mid(cseq),
            order_ns,
            at_ns,
        });
        for slot in (0..32).filter(|slot| world.must(planned) >> slot & 1 == 1) {
            let device = world.device_in(planned, slot).unwrap();
            let peer = if world.user_of(device) == from { planned.to_user } else { from };
            ledger.surfaced(&surfaced(planned, device, slot, peer, conv, cseq));
        }
    }
    assert!(ledger.rows.is_empty(), "{:?}", ledger.rows);
    ledger
}

fn system(world: &World, record: &mut Record) {
    let facts = &mut record.facts;
    for device in 0..world.people().devices() {
        let route = RouteSeen { node: node_of(device), node_epoch: 1, conn_epoch: 1 };
        facts.note(Fact::Route(RouteFact { device, route: Some(route), at_ns: S / 2 }));
    }
    for second in 0..=15 {
        let at_ns = second * S;
        let names = (1..=3).map(|n| format!("gateway-{n}"));
        let leases =
            names.clone().map(|node| LeaseSeen { node, epoch: 1, left_ms: 1_300 }).collect();
        facts.note(Fact::Leases(LeaseList { at_ns, leases }));
        let roles = vec!["gateway".to_owned()];
        let nodes = names.map(|node| NodeSeen {
            node,
            roles: roles.clone(),
            epoch: 1,
            state: "running".to_owned(),
            connections: 10,
        });
        facts.note(Fact::Nodes(NodeList { at_ns, nodes: nodes.collect() }));
        let counters = BTreeMap::from([("port.log.append.calls".to_owned(), second * 100)]);
        facts.note(Fact::Counters(CounterList { at_ns, counters }));
        facts.note(Fact::Lags(LagList { at_ns, lags: Vec::new() }));
    }
    let gauge =
        GaugeSeen { name: "gateway-1.outbound_bytes_max".to_owned(), value: 10, limit: 100 };
    facts.note(Fact::Gauges(GaugeList { at_ns: S, gauges: vec![gauge] }));
    facts.note(Fact::Queues(QueueList {
        at_ns: 14 * S,
        last: true,
        looked: u64::from(world.people().devices()),
        queues: Vec::new(),
    }));
    let mut tops: BTreeMap<ConvId, DigestSeen> = BTreeMap::new();
    for planned in world.planned(facts) {
        let conv = World::conv(world.user_of(planned.sender), planned.to_user).unwrap();
        let seen = tops.entry(conv).or_insert(DigestSeen { conv, rows: 0, top: 0, digest: 0 });
        seen.rows += 1;
        seen.top += 1;
        seen.digest = seen.digest.wrapping_add(message_hash(conv, seen.top, mid(seen.top)));
    }
    record.facts.digests = tops;
}

fn slices(planned: &[Planned], record: &mut Record) {
    let key = SeriesKey::of(Metric::MessageDelivered).on(Path::CrossNode);
    let lag = SeriesKey::of(Metric::LoadLag);
    for index in 0..15 {
        let from_ns = index * S;
        let due = planned.iter().filter(|planned| planned.due_ns / S == index).count() as u64;
        let window = u16::from(from_ns >= STEADY) + u16::from(from_ns >= DRAIN);
        let mut slice = Slice { index, window, from_ns, to_ns: from_ns + S, ..Slice::default() };
        (slice.counts.offered, slice.counts.fired, slice.counts.written) = (due, due, due);
        (slice.counts.accepted, slice.counts.delivered, slice.counts.attempts) = (due, due, due);
        if due > 0 {
            slice.due.push((
                u32::try_from(index).unwrap(),
                DueSecond { due, good: due, on_time: due, rejected: 0 },
            ));
            for (key, ns) in [(key, 5_000_000), (lag, 100_000)] {
                let mut samples = Samples::default();
                (0..due).for_each(|_| samples.record(ns, false));
                record.totals.entry((window, key)).or_default().add(&samples);
                slice.series.push(SliceSeries {
                    key,
                    count: due,
                    censored: 0,
                    hist: samples.encode(),
                });
            }
        }
        record.slices.push(slice);
    }
}

#[test]
fn a_clean_run_passes_and_is_judged_the_same_again() {
    let kit = Kit::clean();
    judged(&kit).passes();
    let json = || serde_json::to_string(&judged(&kit).0).unwrap();
    assert_eq!(json(), json());
}
