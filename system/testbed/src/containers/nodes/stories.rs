//! What nodes hear of rules and pauses that come and go while they stand still or start, and what a silent end is.
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::NodeState;
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use chat_protocol::limits::Timers;
use tokio::sync::Notify;

use super::super::scripted::Scripted;
use super::super::toxiproxy::LinkPlan;
use super::super::{ContainersConfig, Images};
use super::Nodes;
use super::scripted::{Door, Say};
use crate::config::{BackendsKind, Config, Policies};
use crate::host::Host as _;
use crate::process::wire::{Answer, Ask};

/// One gateway behind a door, on an engine.
fn nodes(engine: &Scripted, door: &Door) -> Nodes {
    let config = Config {
        gateways: 1,
        services: Vec::new(),
        balancers: 0,
        timers: Timers::short(),
        partitions: 3,
        relay_queue: 10,
        log_buffer: 1_000,
        base_port: 7_000,
        data: PathBuf::new(),
        seed: 7,
        start_ms: 1_000,
        secret: [7; 32],
        policies: Policies::default(),
        backends: BackendsKind::Embedded,
    };
    let wanted = ContainersConfig {
        run: "scripted".to_owned(),
        images: Images::default(),
        conditioned: std::collections::BTreeSet::new(),
        logs: None,
    };
    let observer = Observer::new(Arc::new(SteadyClock::new(1_000)));
    let place = door.place("gateway-1");
    let (units, plan) = (vec![place.unit.clone()], LinkPlan::default());
    let mut nodes = Nodes::new(engine.engine(), &config, &wanted, units, plan, &observer).unwrap();
    nodes.places.insert("gateway-1".to_owned(), place);
    nodes
}

fn done(_: &str) -> (u16, String) {
    (200, String::new())
}

fn gone(port: &str) -> Ask {
    Ask::Rule { port: port.to_owned(), own: false, rule: None }
}

#[tokio::test]
async fn what_was_taken_away_while_a_node_stood_still_does_not_stay_in_it() {
    let engine = Scripted::start(done);
    let door = Door::open(|_| Say::Answer(Answer::Done)).await;
    let nodes = nodes(&engine, &door);
    nodes.places["gateway-1"].set(NodeState::Running);
    nodes.port_rule("log", None, Some(&PortRule::Stall)).await.unwrap().unwrap();
    nodes.consumer_pause("receipts", true).await.unwrap();
    nodes.pause("gateway-1").await.unwrap();
    nodes.port_rule("log", None, None).await.unwrap().unwrap();
    nodes.consumer_pause("receipts", false).await.unwrap();
    assert_eq!(door.heard().len(), 2, "nobody asks a node that stands still");
    nodes.resume("gateway-1").await.unwrap();
    let reads = Ask::Consumer { group: "receipts".to_owned(), paused: false };
    assert_eq!(door.heard()[2..], [gone("log"), reads]);
}

#[tokio::test]
async fn a_node_that_did_not_hear_what_stands_counts_as_paused_until_it_did() {
    let (mut thawed, mut closed) = (false, 0);
    let engine = Scripted::start(move |request| match request {
        _ if request.ends_with("/json") => {
            (200, r#"{"State": {"Running": true, "Paused": false}}"#.to_owned())
        }
        _ if request.ends_with("/unpause") && std::mem::replace(&mut thawed, true) => {
            (500, r#"{"message": "it is not paused"}"#.to_owned())
        }
        _ => done(request),
    });
    let door = Door::open(move |_| {
        closed += 1;
        if closed <= 2 { Say::Close } else { Say::Answer(Answer::Done) }
    })
    .await;
    let nodes = nodes(&engine, &door);
    let place = &nodes.places["gateway-1"];
    place.set(NodeState::Running);
    nodes.pause("gateway-1").await.unwrap();
    nodes.port_rule("blobs", None, None).await.unwrap().unwrap();
    assert!(nodes.resume("gateway-1").await.is_err());
    assert_eq!(place.state(), NodeState::Paused);
    nodes.resume("gateway-1").await.unwrap();
    assert_eq!(place.state(), NodeState::Running);
    assert_eq!(door.heard().last(), Some(&gone("blobs")));
}

#[tokio::test]
async fn what_was_taken_away_while_a_node_started_does_not_stay_in_it() {
    let engine = Scripted::start(done);
    let (ready, first) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (is_ready, told) = (Arc::clone(&ready), Arc::clone(&first));
    let door = Door::open(move |ask| {
        if matches!(ask, Ask::Rule { .. }) {
            told.notify_one();
        }
        Say::Answer(match ask {
            Ask::Signs => {
                let ready = is_ready.load(Relaxed);
                Answer::Signs { epoch: 1, connections: 0, cpu_ns: 1, ready }
            }
            _ => Answer::Done,
        })
    })
    .await;
    let nodes = nodes(&engine, &door);
    nodes.port_rule("log", None, Some(&PortRule::Cut)).await.unwrap().unwrap();
    let heal = async {
        first.notified().await;
        nodes.port_rule("log", None, None).await.unwrap().unwrap();
        ready.store(true, Relaxed);
    };
    let (started, ()) = tokio::join!(nodes.start("gateway-1"), heal);
    started.unwrap();
    let mut rules = door.heard().into_iter().filter(|ask| matches!(ask, Ask::Rule { .. }));
    assert_eq!(rules.next_back(), Some(gone("log")));
}

#[tokio::test]
async fn a_node_that_vanishes_stands_still_and_ends_when_it_is_started_again() {
    let acts = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&acts);
    let engine = Scripted::start(move |request| {
        if let Some(act) = request.strip_prefix("POST ") {
            let act = act.rsplit('/').next().unwrap_or_default();
            noted.lock().unwrap().push(act.to_owned());
        }
        done(request)
    });
    let door = Door::open(|ask| {
        Say::Answer(match ask {
            Ask::Signs => Answer::Signs { epoch: 2, connections: 0, cpu_ns: 1, ready: true },
            _ => Answer::Done,
        })
    })
    .await;
    let nodes = nodes(&engine, &door);
    nodes.places["gateway-1"].set(NodeState::Running);
    nodes.kill("gateway-1", KillHow::Silent).await.unwrap();
    assert_eq!(*acts.lock().unwrap(), ["pause"], "nothing that closes a socket");
    assert_eq!(nodes.places["gateway-1"].state(), NodeState::Vanished);
    nodes.start("gateway-1").await.unwrap();
    assert_eq!(*acts.lock().unwrap(), ["pause", "kill?signal=SIGKILL", "start"]);
    assert_eq!(nodes.places["gateway-1"].state(), NodeState::Running);
}

#[tokio::test]
async fn a_rule_on_a_port_that_no_node_has_is_refused_and_not_kept() {
    let engine = Scripted::start(done);
    let door = Door::open(|_| Say::Answer(Answer::Done)).await;
    let nodes = nodes(&engine, &door);
    assert!(nodes.port_rule("cellar", None, None).await.unwrap().is_err());
    let place = &nodes.places["gateway-1"];
    assert!(nodes.standing.lock().await.told(&place.unit).is_empty());
}
