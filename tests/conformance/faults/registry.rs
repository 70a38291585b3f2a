//! What every `SessionRegistry` promises while its store is silent, wiped or restarted.
use std::net::SocketAddr;
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::registry::{NodeKey, Role, SessionRegistry};
use chat_protocol::DeviceId;

use super::{Site, crowd, is_unknown, unanswered};

type Registry = Site<dyn SessionRegistry>;

const ANN: DeviceId = DeviceId(256);
const LONG: Duration = Duration::from_mins(5);
/// Over before the next call.
const SHORT: Duration = Duration::from_millis(1);

super::fault_stories!(
    registry,
    silence: [
        registration_repeated_after_an_unknown_leaves_the_route_that_was_answered,
        deletion_repeated_after_an_unknown_leaves_no_route,
        node_that_joins_again_after_an_unknown_has_one_incarnation_that_may_go_on,
        renewal_without_answer_leaves_the_lease_to_be_renewed,
        claim_that_is_heard_late_claims_nobody,
        every_call_to_a_silent_store_ends_and_works_again,
        calls_beyond_those_that_may_wait_are_refused_at_once,
    ],
    death: [wiped_store_knows_nobody_and_its_new_epochs_are_higher],
    real only: [restarted_store_has_the_first_of_what_it_answered],
);

fn addr() -> SocketAddr {
    "127.0.0.1:7001".parse().unwrap()
}

async fn try_join(site: &Registry) -> Result<u64, PortError> {
    site.port.join("gateway-1", addr(), &[Role::Gateway], LONG).await
}

async fn join(site: &Registry) -> NodeKey {
    NodeKey { name: "gateway-1".into(), epoch: try_join(site).await.unwrap() }
}

async fn registration_repeated_after_an_unknown_leaves_the_route_that_was_answered(site: Registry) {
    let node = join(&site).await;
    site.freeze().await;
    assert!(is_unknown(&site.port.register(&node, &[(ANN, 7)]).await));
    site.thaw().await;
    let answered = site.port.register(&node, &[(ANN, 7)]).await.unwrap().remove(0);
    // Had the first one its effect, the second one displaced it.
    if let Some(first) = answered.previous {
        assert_eq!((&first.node, first.conn), (&node, 7));
        assert!(first.conn_epoch < answered.conn_epoch);
    }
    let present = site.port.routes_of(&node, 10).await.unwrap();
    assert_eq!(present.len(), 1);
    let route = &present[0].route;
    assert_eq!((route.conn, route.conn_epoch), (7, answered.conn_epoch));
    assert_eq!(site.port.routes(&[ANN]).await.unwrap(), [Some(route.clone())]);
}

async fn deletion_repeated_after_an_unknown_leaves_no_route(site: Registry) {
    let node = join(&site).await;
    site.port.register(&node, &[(ANN, 7)]).await.unwrap();
    let route = site.port.routes(&[ANN]).await.unwrap().remove(0).unwrap();
    site.freeze().await;
    assert!(is_unknown(&site.port.unregister(&[(ANN, route.clone())]).await));
    site.thaw().await;
    site.port.unregister(&[(ANN, route)]).await.unwrap();
    assert_eq!(site.port.routes(&[ANN]).await.unwrap(), [None]);
    assert!(site.port.routes_of(&node, 10).await.unwrap().is_empty());
}

async fn node_that_joins_again_after_an_unknown_has_one_incarnation_that_may_go_on(site: Registry) {
    let first = join(&site).await;
    site.freeze().await;
    assert!(is_unknown(&try_join(&site).await));
    site.thaw().await;
    let last = join(&site).await;
    assert!(last.epoch > first.epoch);
    // Whatever was there before is free for sweeping, an incarnation that nobody was told of included.
    for node in site.port.nodes().await.unwrap() {
        assert_eq!(node.left.is_some(), node.key == last);
        assert_eq!(site.port.renew(&node.key, LONG).await.unwrap(), node.key == last);
    }
}

async fn renewal_without_answer_leaves_the_lease_to_be_renewed(site: Registry) {
    let node = join(&site).await;
    site.freeze().await;
    assert!(is_unknown(&site.port.renew(&node, LONG).await));
    site.thaw().await;
    assert!(site.port.renew(&node, LONG).await.unwrap());
    let nodes = site.port.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert!(nodes[0].key == node && nodes[0].left.is_some_and(|left| left <= LONG));
}

async fn claim_that_is_heard_late_claims_nobody(site: Registry) {
    let node = NodeKey {
        name: "gateway-1".into(),
        epoch: site.port.join("gateway-1", addr(), &[Role::Gateway], SHORT).await.unwrap(),
    };
    site.freeze().await;
    unanswered(&site.port.claim_dead("services-1", LONG).await);
    site.thaw().await;
    // Its lease has ended, and still it goes on: nobody claimed it.
    assert!(site.port.renew(&node, LONG).await.unwrap());
}

async fn every_call_to_a_silent_store_ends_and_works_again(site: Registry) {
    let node = join(&site).await;
    site.port.register(&node, &[(ANN, 7)]).await.unwrap();
    let route = site.port.routes(&[ANN]).await.unwrap();
    site.freeze().await;
    let port = &site.port;
    // All at once, for each may take its whole limit.
    let (nodes, routes, routes_of, claim, forget) = tokio::join!(
        port.nodes(),
        port.routes(&[ANN]),
        port.routes_of(&node, 10),
        port.claim_dead("services-1", LONG),
        port.forget(&node)
    );
    unanswered(&nodes);
    unanswered(&routes);
    unanswered(&routes_of);
    unanswered(&claim);
    unanswered(&forget);
    // A call that finds no connection ends too.
    unanswered(&port.nodes().await);
    site.thaw().await;
    assert_eq!(site.port.routes(&[ANN]).await.unwrap(), route);
    assert!(site.port.renew(&node, LONG).await.unwrap());
}

async fn calls_beyond_those_that_may_wait_are_refused_at_once(site: Registry) {
    let node = join(&site).await;
    site.freeze().await;
    crowd(|| site.port.nodes()).await;
    site.thaw().await;
    assert!(site.port.renew(&node, LONG).await.unwrap());
}

async fn wiped_store_knows_nobody_and_its_new_epochs_are_higher(site: Registry) {
    let before = join(&site).await;
    let route = site.port.register(&before, &[(ANN, 7)]).await.unwrap().remove(0);
    site.wipe().await;
    assert!(site.port.nodes().await.unwrap().is_empty());
    assert_eq!(site.port.routes(&[ANN]).await.unwrap(), [None]);
    // The node has to stop serving, and may not bring its devices back under its old epoch.
    assert!(!site.port.renew(&before, LONG).await.unwrap());
    let refused = site.port.register(&before, &[(ANN, 7)]).await;
    assert!(matches!(refused, Err(PortError::Refused(_))), "{refused:?}");
    let after = join(&site).await;
    assert!(after.epoch > before.epoch);
    let again = site.port.register(&after, &[(ANN, 7)]).await.unwrap().remove(0);
    assert!(again.conn_epoch > route.conn_epoch && again.previous.is_none());
}

/// The newest writes may be lost with the server, but only they: none of two is there without the one before.
#[cfg(feature = "containers")]
async fn restarted_store_has_the_first_of_what_it_answered(site: Registry) {
    let node = join(&site).await;
    let devices: Vec<_> = (1..=20).map(|user| DeviceId(user << 8)).collect();
    for device in &devices {
        site.port.register(&node, &[(*device, device.0)]).await.unwrap();
    }
    let before = site.port.routes(&devices).await.unwrap();
    site.kill().await;
    unanswered(&site.port.renew(&node, LONG).await);
    site.revive().await;
    let after = site.port.routes(&devices).await.unwrap();
    let kept = after.iter().take_while(|route| route.is_some()).count();
    assert_eq!(after[..kept], before[..kept]);
    assert!(after[kept..].iter().all(Option::is_none));
    if kept > 0 {
        assert!(site.port.renew(&node, LONG).await.unwrap(), "the lease ran on meanwhile");
        assert_eq!(site.port.routes_of(&node, 100).await.unwrap().len(), kept);
    }
}
