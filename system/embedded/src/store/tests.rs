//! Stories of leases, routes and queues, told to the state machine directly.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::registry::{NodeKey, Role};
use chat_ports::relay_queue::{Enqueue, SourceOutcome, SourceRange};
use chat_protocol::DeviceId;

use super::state::{Now, Store};

const TTL: Duration = Duration::from_secs(7);
const WALL_MS: u64 = 1_700_000_000_000;
const ANN: DeviceId = DeviceId(256);

fn at(ms: u64) -> Now {
    Now { at: Duration::from_millis(ms), wall_ms: WALL_MS + ms }
}

fn store(queue_max: u64) -> Store {
    Store::new(at(0), queue_max)
}

fn join(store: &mut Store, ms: u64, name: &str) -> NodeKey {
    let epoch = store.join(at(ms), name, "127.0.0.1:9".parse().unwrap(), vec![Role::Gateway], TTL);
    NodeKey { name: Arc::from(name), epoch }
}

fn bring(prev: u64, last: u64, items: &[&str]) -> Enqueue {
    let items = items.iter().map(|text| (ANN, Bytes::copy_from_slice(text.as_bytes()))).collect();
    Enqueue {
        slot: 1,
        sources: vec![SourceRange { source: "m0".into(), prev, last, incarnation: 0, items }],
    }
}

fn texts(store: &mut Store, after: u64) -> Vec<String> {
    let page = store.read(at(0), &[(ANN, after, 100)]).remove(0);
    page.items.iter().map(|i| String::from_utf8(i.payload.to_vec()).unwrap()).collect()
}

#[test]
fn lease_ends_without_renewal_and_its_node_is_swept_once() {
    let mut store = store(10);
    let node = join(&mut store, 0, "gateway-1");
    assert!(store.renew(at(5_000), &node, TTL));
    assert_eq!(store.claim_dead(at(11_999), TTL), None);
    assert_eq!(store.nodes(at(12_000))[0].left, None);
    assert_eq!(store.claim_dead(at(12_000), TTL), Some(node.clone()));
    assert_eq!(store.claim_dead(at(12_001), TTL), None);
    assert!(!store.renew(at(12_002), &node, TTL));
    assert!(store.forget(at(12_003), &node));
    assert!(store.nodes(at(12_003)).is_empty());
}

#[test]
fn emptied_store_knows_nobody_and_says_what_was_lost() {
    let mut store = store(10);
    let node = join(&mut store, 0, "gateway-1");
    store.register(at(1), &node, &[(ANN, 1)]).unwrap();
    store.enqueue(at(2), bring(0, 1, &["a"])).unwrap();
    let (before, (_, cursor)) = (store.incarnation(), store.routes_since(0));
    store.wipe(at(3));
    assert!(before < store.incarnation());
    assert!(store.nodes(at(3)).is_empty() && store.watermarks().is_empty());
    assert_eq!(store.routes(&[ANN]), [None]);
    assert_eq!(store.states(&[ANN])[0].epoch, 0);
    // A node of the store that was cannot go on in this one.
    assert!(!store.renew(at(4), &node, TTL));
    let (changes, _) = store.routes_since(cursor);
    assert_eq!(changes.len(), 1);
    assert!(changes[0].device == ANN && changes[0].route.is_none());
    assert_eq!(store.take_raised(), [ANN]);
}

#[test]
fn claim_of_a_dead_sweeper_runs_out() {
    let mut store = store(10);
    let node = join(&mut store, 0, "gateway-1");
    assert!(store.claim_dead(at(7_000), Duration::from_secs(1)).is_some());
    assert_eq!(store.claim_dead(at(8_000), TTL), Some(node));
}

#[test]
fn new_incarnation_takes_the_name_over() {
    let mut store = store(10);
    let old = join(&mut store, 0, "gateway-1");
    let new = join(&mut store, 0, "gateway-1");
    assert_eq!(new.epoch, old.epoch + 1);
    assert!(!store.renew(at(1), &old, TTL));
    assert_eq!(store.claim_dead(at(1), TTL), Some(old));
    assert!(store.renew(at(1), &new, TTL));
}

#[test]
fn late_close_never_removes_a_newer_route() {
    let mut store = store(10);
    let node = join(&mut store, 0, "gateway-1");
    store.register(at(0), &node, &[(ANN, 7)]).unwrap();
    let old = store.routes(&[ANN])[0].clone().unwrap();
    let again = store.register(at(0), &node, &[(ANN, 7)]).unwrap();
    assert_eq!(again[0].previous, Some(old.clone()));
    assert_eq!(again[0].conn_epoch, old.conn_epoch + 1);
    assert_eq!(store.unregister(at(1), &[(ANN, old)]), [false]);
    let present = store.routes(&[ANN])[0].clone().unwrap();
    assert_eq!(store.unregister(at(1), &[(ANN, present)]), [true]);
    assert_eq!(store.routes(&[ANN]), [None]);
}

#[test]
fn node_is_kept_until_its_last_route_is_gone() {
    let mut store = store(10);
    let node = join(&mut store, 0, "gateway-1");
    store.register(at(0), &node, &[(ANN, 1)]).unwrap();
    store.leave(at(1), &node);
    assert!(!store.forget(at(2), &node));
    let entries = store.routes_of(&node, 10);
    assert_eq!(entries.len(), 1);
    store.unregister(at(3), &[(ANN, entries[0].route.clone())]);
    assert!(store.forget(at(4), &node));
    assert!(store.register(at(5), &node, &[(ANN, 1)]).is_err());
}

#[test]
fn replay_is_skipped_and_a_gap_is_refused() {
    let mut store = store(10);
    assert_eq!(store.enqueue(at(0), bring(4, 5, &["x"])).unwrap(), [SourceOutcome::Gap(0)]);
    assert!(
        matches!(&store.enqueue(at(0), bring(0, 2, &["a", "b"])).unwrap()[0], SourceOutcome::Applied(s) if s.len() == 2)
    );
    assert_eq!(
        store.enqueue(at(0), bring(0, 2, &["a", "b"])).unwrap(),
        [SourceOutcome::Duplicate(2)]
    );
    assert_eq!(store.enqueue(at(0), bring(3, 4, &["d"])).unwrap(), [SourceOutcome::Gap(2)]);
    assert_eq!(
        store.enqueue(at(0), bring(2, 9, &[])).unwrap(),
        [SourceOutcome::Applied(Vec::new())]
    );
    assert_eq!(store.watermarks(), [("m0".into(), 1, 9)]);
    assert_eq!(texts(&mut store, 0), ["a", "b"]);
}

#[test]
fn acknowledged_items_go_and_numbering_goes_on() {
    let mut store = store(10);
    store.enqueue(at(0), bring(0, 3, &["a", "b", "c"])).unwrap();
    let state = store.states(&[ANN])[0];
    store.trim(&[(ANN, state.epoch - 1, 3)]);
    assert_eq!(texts(&mut store, 0), ["a", "b", "c"]);
    store.trim(&[(ANN, state.epoch, 2)]);
    assert_eq!(texts(&mut store, 0), ["c"]);
    store.trim(&[(ANN, state.epoch, 99)]);
    let state = store.states(&[ANN])[0];
    assert_eq!((state.base, state.top), (4, 3));
    store.enqueue(at(0), bring(3, 4, &["d"])).unwrap();
    assert_eq!(store.read(at(0), &[(ANN, 3, 10)])[0].items[0].dseq, 4);
}

#[test]
fn overflow_cuts_the_oldest_and_raises_epoch_and_floor() {
    let mut store = store(2);
    store.enqueue(at(0), bring(0, 2, &["a", "b"])).unwrap();
    let before = store.states(&[ANN])[0];
    store.enqueue(at(0), bring(2, 3, &["c"])).unwrap();
    let after = store.states(&[ANN])[0];
    assert!(after.epoch > before.epoch);
    assert_eq!((after.floor, after.base, after.top), (after.epoch, 2, 3));
    assert_eq!(texts(&mut store, 0), ["b", "c"]);
    assert_eq!(store.take_raised(), [ANN]);
}

#[test]
fn reading_fixes_the_numbering_of_a_new_queue() {
    let mut store = store(2);
    assert_eq!(store.states(&[ANN])[0].epoch, 0);
    let state = store.read(at(5), &[(ANN, 0, 1)])[0].state;
    assert_eq!((state.epoch, state.floor, state.base, state.top), (WALL_MS + 5, WALL_MS + 5, 1, 0));
    store.enqueue(at(9), bring(0, 1, &["a"])).unwrap();
    assert_eq!(store.states(&[ANN])[0].epoch, state.epoch);
    assert_eq!(store.queue_views(at(12), &[ANN])[0].oldest_ms, 3);
}

#[test]
fn route_changes_are_told_from_a_cursor_on() {
    let mut store = store(2);
    let (all, start) = store.routes_since(0);
    assert!(all.is_empty());
    let node = join(&mut store, 0, "gateway-1");
    store.register(at(1), &node, &[(ANN, 1)]).unwrap();
    let route = store.routes(&[ANN])[0].clone().unwrap();
    store.unregister(at(2), &[(ANN, route)]);
    let (changes, next) = store.routes_since(start);
    assert_eq!(
        changes.iter().map(|c| (c.route.is_some(), c.at_ms - WALL_MS)).collect::<Vec<_>>(),
        [(true, 1), (false, 2)]
    );
    assert!(store.routes_since(next).0.is_empty());
    assert!(store.routes_since(0).0.is_empty());
}
