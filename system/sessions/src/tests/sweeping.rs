//! Dead nodes, outages, and what is kept for later. Time is paused: nothing here touches a socket.
use chat_ports::observe::Event;
use chat_protocol::DeviceId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{LeaseRule, start};

const TIMERS: Timers = Timers::DEFAULT;

#[tokio::test(start_paused = true)]
async fn routes_of_a_dead_node_are_swept_and_the_node_is_forgotten() {
    let registry = Arc::<Twin>::default();
    let (dead, live) = (node("gateway-1"), node("gateway-2"));
    for user in 0..600 {
        registry.put(DeviceId(user), &dead, user);
    }
    registry.put(DeviceId(9_999), &live, 1);
    registry.die(&dead);
    let (deps, _lease) = deps(&registry, &TIMERS, Policies::default());
    let observer = deps.observer.clone();
    let _handle = start(deps, &TaskTracker::new(), &CancellationToken::new());
    until(|| registry.is_forgotten(&dead)).await;
    assert!(registry.route(DeviceId(9_999)).is_some());
    let swept = observer
        .events(0)
        .0
        .iter()
        .filter(|noted| matches!(noted.event, Event::RouteSwept(_)))
        .count();
    assert_eq!(swept, 600);
    assert_eq!(observer.counter("sometimes.stale-route-swept").get(), 600);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_swept_where_leases_are_ignored() {
    let registry = Arc::<Twin>::default();
    let dead = node("gateway-1");
    registry.put(DeviceId(1), &dead, 1);
    registry.die(&dead);
    let policies = Policies { lease: LeaseRule::Ignored, ..Policies::default() };
    let (deps, _lease) = deps(&registry, &TIMERS, policies);
    let _handle = start(deps, &TaskTracker::new(), &CancellationToken::new());
    tokio::time::advance(TIMERS.sweep * 100).await;
    tokio::time::sleep(TIMERS.sweep).await;
    assert!(registry.route(DeviceId(1)).is_some());
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_nodes_get_one_lease_to_come_back() {
    let registry = Arc::<Twin>::default();
    let (deps, _lease) = deps(&registry, &TIMERS, Policies::default());
    registry.set_out(true);
    let _handle = start(deps, &TaskTracker::new(), &CancellationToken::new());
    tokio::time::sleep(TIMERS.sweep * 5).await;
    let gateway = node("gateway-1");
    registry.put(DeviceId(1), &gateway, 1);
    registry.die(&gateway);
    registry.set_out(false);
    tokio::time::sleep(TIMERS.lease_ttl.saturating_sub(TIMERS.sweep * 2)).await;
    assert!(registry.route(DeviceId(1)).is_some());
    until(|| registry.is_forgotten(&gateway)).await;
}
