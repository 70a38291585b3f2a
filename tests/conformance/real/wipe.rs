//! What the operator sees of a wipe. On the embedded arm the crate's own stories tell it: the suite's wipe is another store there.
use std::time::Duration;

use chat_control::inspect::RouteChange;
use chat_external::redis::RedisStore;
use chat_ports::registry::{NodeKey, Role};
use chat_protocol::DeviceId;

const STAYS: DeviceId = DeviceId(256);
const MOVES: DeviceId = DeviceId(512);
const LEAVES: DeviceId = DeviceId(768);
const NEVER: DeviceId = DeviceId(1_024);

async fn join(store: &RedisStore) -> NodeKey {
    let addr = "127.0.0.1:7001".parse().unwrap();
    let lease = Duration::from_mins(5);
    let joined = store.registry().join("gateway-1", addr, &[Role::Gateway], lease).await;
    NodeKey { name: "gateway-1".into(), epoch: joined.unwrap() }
}

/// Registers a device; answers its connection epoch.
async fn register(store: &RedisStore, node: &NodeKey, device: DeviceId) -> u64 {
    store.registry().register(node, &[(device, 1)]).await.unwrap()[0].conn_epoch
}

/// What is told of a device: the connection epochs of its routes, and where it has none.
fn told(changes: &[RouteChange], device: DeviceId) -> Vec<Option<u64>> {
    let of = changes.iter().filter(|change| change.device == device);
    of.map(|change| change.route.as_ref().map(|route| route.conn_epoch)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_after_a_wipe_tells_what_it_took_before_what_came_after() {
    let Some((store, _turn)) = super::faults::store().await else { return };
    let (admin, registry) = (store.admin(), store.registry());
    let node = join(&store).await;
    let stays = register(&store, &node, STAYS).await;
    register(&store, &node, MOVES).await;
    register(&store, &node, LEAVES).await;
    store.relay_queue().read(&[(NEVER, 0, 1)]).await.unwrap();
    let (before, cursor) = admin.routes_since(0).await.unwrap();
    assert_eq!(before.len(), 3);
    // Nobody looks between these and the wipe.
    let left = registry.routes(&[LEAVES]).await.unwrap().remove(0).unwrap();
    assert_eq!(registry.unregister(&[(LEAVES, left)]).await.unwrap(), [true]);
    let moved = register(&store, &node, MOVES).await;

    super::faults::later(&store).await;
    admin.wipe().await.unwrap();
    let node = join(&store).await;
    let back = register(&store, &node, STAYS).await;
    let (changes, next) = admin.routes_since(cursor).await.unwrap();
    assert_eq!(told(&changes, STAYS), [Some(stays), None, Some(back)]);
    assert_eq!(told(&changes, MOVES), [Some(moved), None]);
    assert_eq!(told(&changes, LEAVES), [None]);
    assert_eq!(told(&changes, NEVER), []);
    for device in [STAYS, MOVES, LEAVES] {
        let times = changes.iter().filter(|c| c.device == device).map(|c| c.at_ms);
        assert!(times.is_sorted(), "{changes:?}");
    }
    // Once.
    assert_eq!(admin.routes_since(next).await.unwrap(), (Vec::new(), next));
}
