//! What every `SessionRegistry` promises. Both arms pass, so a verdict of the embedded substrate can be trusted for this port.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_ports::registry::{NodeKey, Role, SessionRegistry};
use chat_protocol::DeviceId;

use crate::arm::eventually;

type Port = Arc<dyn SessionRegistry>;

const ANN: DeviceId = DeviceId(256);
const BOB: DeviceId = DeviceId(512);
const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(50);

crate::stories!(registry:
    running_lease_is_listed_with_address_and_roles,
    second_incarnation_has_a_higher_epoch_and_ends_the_first,
    ended_lease_is_claimed_by_one_sweeper,
    renewed_lease_is_not_claimed,
    swept_node_cannot_renew,
    given_back_lease_is_free_for_sweeping_at_once,
    registration_tells_the_route_it_displaced,
    late_unregister_leaves_the_newer_route,
    routes_of_a_node_are_found_from_the_node,
    node_with_routes_is_not_forgotten,
    registration_for_an_unknown_node_is_refused,
    names_are_any_text_and_ids_any_number,
    every_route_of_a_node_is_found_and_swept,
);

fn addr() -> SocketAddr {
    "127.0.0.1:7001".parse().unwrap()
}

async fn join(port: &Port, name: &str, ttl: Duration) -> NodeKey {
    let epoch = port.join(name, addr(), &[Role::Gateway], ttl).await.unwrap();
    NodeKey { name: name.into(), epoch }
}

async fn running_lease_is_listed_with_address_and_roles(port: Port) {
    let epoch = port.join("services-1", addr(), &[Role::Relay, Role::History], LONG).await.unwrap();
    let nodes = port.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].key, NodeKey { name: "services-1".into(), epoch });
    assert_eq!((nodes[0].addr, &nodes[0].roles[..]), (addr(), &[Role::Relay, Role::History][..]));
    assert!(nodes[0].left.is_some_and(|left| left <= LONG));
}

async fn second_incarnation_has_a_higher_epoch_and_ends_the_first(port: Port) {
    let first = join(&port, "gateway-1", LONG).await;
    let second = join(&port, "gateway-1", LONG).await;
    assert!(second.epoch > first.epoch);
    assert!(!port.renew(&first, LONG).await.unwrap());
    assert!(port.renew(&second, LONG).await.unwrap());
    assert_eq!(port.claim_dead("services-1", LONG).await.unwrap(), Some(first));
}

async fn ended_lease_is_claimed_by_one_sweeper(port: Port) {
    let node = join(&port, "gateway-1", SHORT).await;
    let claimed =
        eventually("a claim", async || port.claim_dead("services-1", LONG).await.unwrap()).await;
    assert_eq!(claimed, node);
    assert_eq!(port.claim_dead("services-2", LONG).await.unwrap(), None);
    assert!(port.nodes().await.unwrap()[0].left.is_none());
}

async fn renewed_lease_is_not_claimed(port: Port) {
    let node = join(&port, "gateway-1", SHORT).await;
    assert!(port.renew(&node, LONG).await.unwrap());
    let other = join(&port, "gateway-2", SHORT).await;
    let claimed =
        eventually("a claim", async || port.claim_dead("services-1", LONG).await.unwrap()).await;
    assert_eq!(claimed, other);
    assert_eq!(port.claim_dead("services-1", LONG).await.unwrap(), None);
}

async fn swept_node_cannot_renew(port: Port) {
    let node = join(&port, "gateway-1", SHORT).await;
    eventually("a claim", async || port.claim_dead("services-1", LONG).await.unwrap()).await;
    assert!(!port.renew(&node, LONG).await.unwrap());
    assert!(port.forget(&node).await.unwrap());
    assert!(!port.renew(&node, LONG).await.unwrap());
    assert!(port.nodes().await.unwrap().is_empty());
}

async fn given_back_lease_is_free_for_sweeping_at_once(port: Port) {
    let node = join(&port, "gateway-1", LONG).await;
    port.leave(&node).await.unwrap();
    assert_eq!(port.claim_dead("services-1", LONG).await.unwrap(), Some(node));
}

async fn registration_tells_the_route_it_displaced(port: Port) {
    let old = join(&port, "gateway-1", LONG).await;
    let new = join(&port, "gateway-2", LONG).await;
    let first = port.register(&old, &[(ANN, 1), (BOB, 2)]).await.unwrap();
    assert!(first.iter().all(|r| r.previous.is_none()));
    let second = port.register(&new, &[(ANN, 3)]).await.unwrap().remove(0);
    assert!(second.conn_epoch > first[0].conn_epoch);
    let displaced = second.previous.unwrap();
    assert_eq!(
        (displaced.node, displaced.conn_epoch, displaced.conn),
        (old, first[0].conn_epoch, 1)
    );
    let present = port.routes(&[ANN]).await.unwrap().remove(0).unwrap();
    assert_eq!((present.node, present.conn_epoch, present.conn), (new, second.conn_epoch, 3));
}

async fn late_unregister_leaves_the_newer_route(port: Port) {
    let node = join(&port, "gateway-1", LONG).await;
    port.register(&node, &[(ANN, 1)]).await.unwrap();
    let old = port.routes(&[ANN]).await.unwrap().remove(0).unwrap();
    port.register(&node, &[(ANN, 1)]).await.unwrap();
    assert_eq!(port.unregister(&[(ANN, old)]).await.unwrap(), [false]);
    let present = port.routes(&[ANN]).await.unwrap().remove(0).unwrap();
    assert_eq!(port.unregister(&[(ANN, present)]).await.unwrap(), [true]);
    assert_eq!(port.routes(&[ANN, BOB]).await.unwrap(), [None, None]);
}

async fn routes_of_a_node_are_found_from_the_node(port: Port) {
    let here = join(&port, "gateway-1", LONG).await;
    let there = join(&port, "gateway-2", LONG).await;
    port.register(&here, &[(ANN, 1), (BOB, 2)]).await.unwrap();
    assert_eq!(port.routes_of(&here, 1).await.unwrap().len(), 1);
    port.register(&there, &[(BOB, 3)]).await.unwrap();
    let entries = port.routes_of(&here, 10).await.unwrap();
    assert_eq!(entries.iter().map(|e| e.device).collect::<Vec<_>>(), [ANN]);
    assert_eq!(port.routes(&[ANN]).await.unwrap()[0].as_ref(), Some(&entries[0].route));
}

async fn node_with_routes_is_not_forgotten(port: Port) {
    let node = join(&port, "gateway-1", LONG).await;
    port.register(&node, &[(ANN, 1)]).await.unwrap();
    assert!(!port.forget(&node).await.unwrap());
    port.leave(&node).await.unwrap();
    assert!(!port.forget(&node).await.unwrap());
    let route = port.routes(&[ANN]).await.unwrap().remove(0).unwrap();
    port.unregister(&[(ANN, route)]).await.unwrap();
    assert!(port.forget(&node).await.unwrap());
}

async fn registration_for_an_unknown_node_is_refused(port: Port) {
    let node = NodeKey { name: "gateway-9".into(), epoch: 1 };
    assert!(port.register(&node, &[(ANN, 1)]).await.is_err());
    assert_eq!(port.routes(&[ANN]).await.unwrap(), [None]);
}

async fn names_are_any_text_and_ids_any_number(port: Port) {
    let node = join(&port, "gateway/1 {r:0}:äö", LONG).await;
    let device = DeviceId(u64::MAX);
    assert!(port.renew(&node, LONG).await.unwrap());
    port.register(&node, &[(device, u64::MAX)]).await.unwrap();
    let route = port.routes(&[device]).await.unwrap().remove(0).unwrap();
    assert_eq!((&route.node, route.conn), (&node, u64::MAX));
    assert_eq!(port.routes_of(&node, 9).await.unwrap()[0].device, device);
    assert_eq!(port.unregister(&[(device, route)]).await.unwrap(), [true]);
    port.leave(&node).await.unwrap();
    assert!(port.forget(&node).await.unwrap());
}

async fn every_route_of_a_node_is_found_and_swept(port: Port) {
    let node = join(&port, "gateway-1", LONG).await;
    let devices: Vec<_> = (1..=100).map(|user| (DeviceId(user << 8), user)).collect();
    port.register(&node, &devices).await.unwrap();
    port.leave(&node).await.unwrap();
    let mut swept = Vec::new();
    loop {
        let page = port.routes_of(&node, 30).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 30);
        swept.extend(page.iter().map(|entry| (entry.device, entry.route.conn)));
        let routes: Vec<_> = page.into_iter().map(|entry| (entry.device, entry.route)).collect();
        assert!(port.unregister(&routes).await.unwrap().iter().all(|deleted| *deleted));
    }
    swept.sort_unstable();
    assert_eq!(swept, devices);
    assert!(port.forget(&node).await.unwrap());
}
