//! The engine over real sockets, against a server of one thread.
#![expect(clippy::unwrap_used, reason = "helpers of a test")]
#[path = "support/mod.rs"]
mod support;

use chat_client::{Policies, Seal};
use chat_protocol::limits::Timers;
use storm_load::Stats;
use support::{Stub, until};

const PLAN: &str = "\
format: 1
name: t
seed: 3
population: {users: 40, community: 20, online: 0.9, devices: {1: 0.7, 2: 0.3}}
sessions: {connect: 400/s}
streams: {chat: {rate: 400/s, deadline: 10s, payload: {uniform: {min: 48B, max: 2KiB}}}}
phases:
  - {name: connect, role: warm-up, until: connected, limit: 20s, load: none}
  - {name: steady, role: steady, for: 2s, load: {hold: 1.0}}
  - {name: drain, role: drain, until: settled, limit: 20s}
";

/// Runs the plan; `midway` is called when the load is under way.
fn run(shards: u32, midway: impl Fn(&Stub)) {
    let stub = Stub::start(true);
    let policies = Policies { seal: Seal::Envelope([7; 32]), ..Policies::default() };
    let (engine, clock) = support::engine(stub.address, PLAN, shards, &Timers::short(), policies);
    engine.provision();
    until(&engine, "provisioned", |stats| stats.devices > 0 && stats.provisioned == stats.devices);
    engine.begin_phase(0, clock.now_ns());
    engine.connect();
    until(&engine, "connected", Stats::all_connected);
    engine.begin_phase(1, clock.now_ns());
    until(&engine, "under way", |stats| stats.accepted > 100);
    midway(&stub);
    until(&engine, "fired", |stats| stats.fired >= 800);
    engine.begin_phase(2, clock.now_ns());
    until(&engine, "settled", |stats| stats.settled(300_000_000));
    assert!(engine.devices().iter().all(|device| device.node.as_deref() == Some("gateway-1")));
    let gaps = engine.accept_gaps();
    assert!(gaps.iter().all(|gap| gap.window > 0), "nothing is sent while connecting: {gaps:?}");
    assert!(gaps.iter().any(|gap| gap.window == 1) && engine.accept_gaps().is_empty());
    let evidence = engine.stop().unwrap();
    let counts = evidence.ledger.counts();
    assert_eq!((evidence.stats.offered, counts.submitted, counts.accepted), (800, 800, 800));
    assert_eq!(counts.delivered, counts.surfaced);
    assert!(evidence.ledger.rows.is_empty(), "{:?}", evidence.ledger.rows.first());
    assert!(
        evidence
            .devices
            .iter()
            .all(|device| device.connected && device.outbox == 0 && device.terminal.is_none())
    );
    stub.stop();
}

#[test]
fn everything_offered_is_accepted_and_surfaces_once() {
    run(1, |_| {});
}

#[test]
fn shards_share_the_work_and_their_evidence_adds_up() {
    run(2, |_| {});
}

#[test]
fn a_cut_of_all_connections_loses_and_repeats_nothing() {
    run(1, |stub| stub.cut.blocking_send(()).unwrap());
}
