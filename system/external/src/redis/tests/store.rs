//! Stories of a server's restart and wipe, of expiry, and of what the operator sees.
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::clock::SteadyClock;
use chat_ports::observe::{Event, Observer};
use chat_ports::registry::{NodeKey, Role};
use chat_ports::relay_queue::{Enqueue, QueuePage, SourceOutcome, SourceRange, Stored};
use chat_protocol::DeviceId;
use chat_protocol::ids::slot_of;
use redis::aio::MultiplexedConnection;

use crate::redis::registry::RedisRegistry;
use crate::redis::{RedisConfig, RedisStore};

const ANN: DeviceId = DeviceId(256);
const LONG: Duration = Duration::from_mins(1);

/// A store under a prefix of its own, and a way past it.
struct Bed {
    config: RedisConfig,
    observer: Observer,
    store: RedisStore,
    raw: MultiplexedConnection,
}

impl Bed {
    /// `None` without a server to talk to: `.ci/run` starts one and names it.
    async fn new() -> Option<Self> {
        let addr = std::env::var("CHATSTORM_TEST_REDIS").ok()?;
        let client = redis::Client::open(format!("redis://{addr}/")).unwrap();
        let raw = client.get_multiplexed_async_connection().await.unwrap();
        let config = RedisConfig {
            addr: addr.parse().unwrap(),
            prefix: format!("t{:016x}", RandomState::new().build_hasher().finish()),
            relay_queue: 8,
            call: Duration::from_secs(5),
        };
        let observer = Observer::new(Arc::new(SteadyClock::new(1)));
        let store = RedisStore::connect(config.clone(), &observer).await.unwrap();
        Some(Self { config, observer, store, raw })
    }

    /// Does what the store does on a connection to a server that has restarted.
    async fn restart(&mut self) {
        let key = format!("{}:re", self.config.prefix);
        self.command(redis::cmd("HSET").arg(key).arg("run").arg("another")).await;
        self.store = RedisStore::connect(self.config.clone(), &self.observer).await.unwrap();
    }

    /// Deletes all that the store has, not in the millisecond in which it was made.
    async fn wipe(&mut self) {
        let made = self.clock_ms().await;
        while self.clock_ms().await == made {}
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("{}:*", self.config.prefix));
        let keys: Vec<String> = keys.query_async(&mut self.raw).await.unwrap();
        self.command(redis::cmd("DEL").arg(keys)).await;
    }

    async fn clock_ms(&mut self) -> u64 {
        let clock = redis::cmd("TIME").query_async(&mut self.raw).await;
        let (seconds, micros): (u64, u64) = clock.unwrap();
        seconds * 1_000 + micros / 1_000
    }

    async fn command(&mut self, command: &redis::Cmd) -> i64 {
        command.query_async(&mut self.raw).await.unwrap()
    }

    /// Seconds until a device is forgotten; -1: never.
    async fn left(&mut self, kind: &str, device: DeviceId) -> i64 {
        let (slot, prefix) = (slot_of(device.user()), &self.config.prefix);
        let key = format!("{prefix}:{kind}:{{r:{slot}}}:{}", device.0);
        self.command(redis::cmd("TTL").arg(key)).await
    }

    async fn node(&self, name: &str) -> NodeKey {
        let addr = "127.0.0.1:7001".parse().unwrap();
        let joined = self.store.registry().join(name, addr, &[Role::Gateway], LONG).await;
        NodeKey { name: name.into(), epoch: joined.unwrap() }
    }

    async fn bring(&self, prev: u64, texts: &[&'static str]) -> SourceOutcome {
        let items: Vec<_> =
            texts.iter().map(|text| (ANN, Bytes::from_static(text.as_bytes()))).collect();
        let last = prev + items.len() as u64;
        let sources = vec![SourceRange { source: "m0".into(), prev, last, incarnation: 0, items }];
        let call = Enqueue { slot: slot_of(ANN.user()), sources };
        self.store.relay_queue().enqueue(call).await.unwrap().remove(0)
    }

    async fn stored(&self, prev: u64, text: &'static str) -> Stored {
        match self.bring(prev, &[text]).await {
            SourceOutcome::Applied(mut stored) => stored.remove(0),
            other => panic!("{other:?}"),
        }
    }

    async fn page(&self, after: u64) -> QueuePage {
        self.store.relay_queue().read(&[(ANN, after, 100)]).await.unwrap().remove(0)
    }

    fn floors_raised(&self) -> usize {
        let (events, ..) = self.observer.events(0);
        events.iter().filter(|noted| noted.event == Event::FloorRaised(ANN)).count()
    }
}

fn texts(page: &QueuePage) -> Vec<(u64, &str)> {
    let text = |payload| std::str::from_utf8(payload).unwrap();
    page.items.iter().map(|item| (item.dseq, text(&item.payload))).collect()
}

#[tokio::test]
async fn restart_raises_every_epoch_and_loses_nothing() {
    let Some(mut bed) = Bed::new().await else { return };
    bed.bring(0, &["a", "b", "c"]).await;
    let before = bed.page(0).await.state;
    let known = bed.store.relay_queue().incarnation().await.unwrap();
    bed.restart().await;
    let queue = bed.store.relay_queue();
    let incarnation = queue.incarnation().await.unwrap();
    assert!(incarnation > known && incarnation > before.epoch);
    let seen = queue.states(&[ANN]).await.unwrap()[0];
    assert_eq!((seen.epoch, seen.floor), (incarnation, before.floor));
    // An ack that was on its way belongs to the epoch before.
    queue.trim(&[(ANN, before.epoch, 3)]).await.unwrap();
    assert_eq!(bed.stored(3, "d").await.epoch, incarnation);
    let after = bed.page(0).await;
    assert_eq!(texts(&after), [(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    assert_eq!((after.state.epoch, after.state.floor), (incarnation, before.floor));
    queue.trim(&[(ANN, incarnation, 2)]).await.unwrap();
    assert_eq!(texts(&bed.page(0).await), [(3, "c"), (4, "d")]);
    assert_eq!(bed.floors_raised(), 0);
}

#[tokio::test]
async fn read_after_restarts_finds_items_of_several_epochs() {
    let Some(mut bed) = Bed::new().await else { return };
    for (at, text) in (0..).zip(["a", "b", "c", "d"]) {
        bed.stored(at, text).await;
        bed.restart().await;
        bed.restart().await;
    }
    for after in 0..4 {
        let dseqs: Vec<u64> = bed.page(after).await.items.iter().map(|item| item.dseq).collect();
        assert_eq!(dseqs, (after + 1..=4).collect::<Vec<_>>());
    }
    let epoch = bed.page(0).await.state.epoch;
    bed.store.relay_queue().trim(&[(ANN, epoch, 3)]).await.unwrap();
    assert_eq!(texts(&bed.page(0).await), [(4, "d")]);
    bed.store.relay_queue().trim(&[(ANN, epoch, 4)]).await.unwrap();
    bed.restart().await;
    let empty = bed.page(0).await.state;
    assert_eq!((empty.base, empty.top), (5, 4));
    assert_eq!(bed.stored(4, "e").await.dseq, 5);
}

#[tokio::test]
async fn wiped_store_begins_anew_with_newer_epochs_and_floors() {
    let Some(mut bed) = Bed::new().await else { return };
    bed.bring(0, &["a", "b"]).await;
    let before = bed.page(0).await.state;
    let known = bed.store.relay_queue().incarnation().await.unwrap();
    bed.wipe().await;
    assert_eq!(bed.bring(2, &["c"]).await, SourceOutcome::Gap(0));
    let incarnation = bed.store.relay_queue().incarnation().await.unwrap();
    assert!(incarnation > known);
    let page = bed.page(0).await;
    assert!(page.items.is_empty());
    assert!(page.state.epoch > before.epoch && page.state.floor == page.state.epoch);
    assert_eq!(bed.store.relay_queue().incarnation().await.unwrap(), incarnation);
}

#[tokio::test]
async fn stored_item_tells_the_route_in_force() {
    let Some(bed) = Bed::new().await else { return };
    let node = bed.node("gateway-1").await;
    let registry = bed.store.registry();
    registry.register(&node, &[(ANN, 9)]).await.unwrap();
    let route = registry.routes(&[ANN]).await.unwrap().remove(0).unwrap();
    assert_eq!(bed.stored(0, "a").await.route.as_ref(), Some(&route));
    registry.unregister(&[(ANN, route)]).await.unwrap();
    assert_eq!(bed.stored(1, "b").await.route, None);
}

#[tokio::test]
async fn device_without_a_route_is_forgotten_and_one_with_a_route_is_not() {
    let Some(mut bed) = Bed::new().await else { return };
    let node = bed.node("gateway-1").await;
    bed.stored(0, "a").await;
    assert!(bed.left("rq", ANN).await > 0 && bed.left("dv", ANN).await > 0);
    bed.store.registry().register(&node, &[(ANN, 1)]).await.unwrap();
    bed.page(0).await;
    assert_eq!((bed.left("rq", ANN).await, bed.left("dv", ANN).await), (-1, -1));
    let route = bed.store.registry().routes(&[ANN]).await.unwrap().remove(0).unwrap();
    bed.store.registry().unregister(&[(ANN, route)]).await.unwrap();
    assert!(bed.left("rq", ANN).await > 0 && bed.left("dv", ANN).await > 0);
}

#[tokio::test]
async fn queue_that_is_gone_raises_the_floor_of_its_device() {
    let Some(mut bed) = Bed::new().await else { return };
    bed.stored(0, "a").await;
    let before = bed.page(0).await.state;
    let slot = slot_of(ANN.user());
    let key = format!("{}:rq:{{r:{slot}}}:{}", bed.config.prefix, ANN.0);
    bed.command(redis::cmd("DEL").arg(key)).await;
    assert_eq!(bed.stored(1, "b").await.dseq, 1);
    let after = bed.page(0).await.state;
    assert!(after.epoch > before.epoch && after.floor == after.epoch);
    assert_eq!(bed.floors_raised(), 1);
}

#[tokio::test]
async fn operator_sees_changes_of_routes_from_a_cursor_on() {
    let Some(mut bed) = Bed::new().await else { return };
    let admin = bed.store.admin();
    let (none, start) = admin.routes_since(0).await.unwrap();
    assert!(none.is_empty());
    let node = bed.node("gateway-1").await;
    let registry = bed.store.registry();
    registry.register(&node, &[(ANN, 1)]).await.unwrap();
    let route = registry.routes(&[ANN]).await.unwrap().remove(0).unwrap();
    let (present, _) = admin.routes_since(0).await.unwrap();
    assert_eq!(present[0].route.as_ref().unwrap().conn_epoch, route.conn_epoch);
    registry.unregister(&[(ANN, route)]).await.unwrap();
    let (changes, next) = admin.routes_since(start).await.unwrap();
    assert_eq!(
        changes.iter().map(|change| change.route.is_some()).collect::<Vec<_>>(),
        [true, false]
    );
    assert!(changes[0].at_ms <= changes[1].at_ms);
    assert_eq!(admin.routes_since(next).await.unwrap(), (Vec::new(), next));
    assert!(admin.routes_since(0).await.unwrap().0.is_empty());
    // Once the changes behind the cursor are gone, every device is told as it is.
    let key = format!("{}:rc", bed.config.prefix);
    bed.command(redis::cmd("XTRIM").arg(key).arg("MAXLEN").arg(0)).await;
    let (all, _) = admin.routes_since(start).await.unwrap();
    assert_eq!((all.len(), all[0].device, &all[0].route), (1, ANN, &None));
}

#[tokio::test]
async fn claim_that_the_server_hears_after_its_time_claims_nobody() {
    let Some(mut bed) = Bed::new().await else { return };
    let node = bed.node("gateway-1").await;
    bed.store.registry().leave(&node).await.unwrap();
    let registry = RedisRegistry::new(bed.store.door());
    let now = bed.clock_ms().await;
    assert_eq!(registry.claim_by(now - 1, LONG).await.unwrap(), None);
    assert_eq!(registry.claim_by(now + 60_000, LONG).await.unwrap(), Some(node));
}

#[tokio::test]
async fn operator_sees_leases_and_queues() {
    let Some(bed) = Bed::new().await else { return };
    let admin = bed.store.admin();
    let node = bed.node("gateway/1 of 2").await;
    let leases = admin.leases().await.unwrap();
    assert_eq!((&*leases[0].node, leases[0].epoch), ("gateway/1 of 2", node.epoch));
    assert!((1..=60_000).contains(&leases[0].left_ms));
    bed.store.registry().leave(&node).await.unwrap();
    assert!(admin.leases().await.unwrap()[0].left_ms <= 0);
    bed.bring(0, &["a", "b"]).await;
    let queues = admin.queues(&[ANN, DeviceId(u64::MAX)]).await.unwrap();
    assert_eq!((queues[0].base, queues[0].top), (1, 2));
    assert_eq!((queues[1].device, queues[1].epoch), (DeviceId(u64::MAX), 0));
}
