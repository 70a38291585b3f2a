//! Storing and pushing.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::nodes::NodeTable;
use chat_ports::registry::{NodeKey, NodeLease, Role};
use chat_ports::streams::{QUEUE_ITEMS, serving};
use chat_protocol::DeviceId;
use chat_protocol::node::{DeliverDown, EnqueueOutcome, Push};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::bench::{Bench, gateway_key, route};
use crate::DeliveryRule;
use crate::gateways::{Gateway, Gateways};

const BOB: DeviceId = DeviceId(2 * 256);

#[tokio::test]
async fn stored_item_of_a_routed_device_is_pushed() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    bench.queue.set_route(BOB, route(gateway_key(), 9));
    let result = bench.sequencer.offer("m0", 0, BOB, &["a", "b"]).await;
    assert_eq!(
        (result.outcome(), result.watermark, &*result.source),
        (EnqueueOutcome::Applied, 2, "m0")
    );
    let pushes = bench.gateway.pushes().await;
    assert_eq!(
        pushes.iter().map(|push| (push.conn, push.dseq)).collect::<Vec<_>>(),
        [(9, 1), (9, 2)]
    );
    assert_eq!(bench.stored(BOB), ["a", "b"]);
}

#[tokio::test]
async fn item_for_a_dead_route_is_stored_and_counted() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    bench.queue.set_route(BOB, route(NodeKey { epoch: 6, ..gateway_key() }, 9));
    bench.sequencer.offer("m0", 0, BOB, &["a"]).await;
    assert_eq!(bench.stored(BOB), ["a"]);
    assert_eq!(bench.counter("relay.dead_route"), 1);
    assert_eq!(bench.counter("sometimes.routed-to-dead-route"), 1);
}

#[tokio::test]
async fn replay_is_skipped_gap_is_refused_and_failure_is_told() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    bench.sequencer.offer("m0", 0, BOB, &["a", "b"]).await;
    let replay = bench.sequencer.offer("m0", 0, BOB, &["a", "b"]).await;
    assert_eq!((replay.outcome(), replay.watermark), (EnqueueOutcome::Duplicate, 2));
    let gap = bench.sequencer.offer("m0", 5, BOB, &["f"]).await;
    assert_eq!((gap.outcome(), gap.watermark), (EnqueueOutcome::Gap, 2));
    bench.queue.fail_enqueues(1);
    let failed = bench.sequencer.offer("m0", 2, BOB, &["c"]).await;
    assert_eq!((failed.outcome(), failed.watermark), (EnqueueOutcome::Failed, 2));
    let again = bench.sequencer.offer("m0", 2, BOB, &["c"]).await;
    assert_eq!(again.outcome(), EnqueueOutcome::Applied);
    assert_eq!(bench.stored(BOB), ["a", "b", "c"]);
}

#[tokio::test]
async fn restart_of_the_store_is_told_to_gateways_and_sequencers() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    bench.queue.restore(bench.queue.image());
    assert!(bench.gateway.message().await.store_reset);
    let result = bench.sequencer.message().await.results.remove(0);
    assert_eq!(
        (result.outcome(), result.watermark, &*result.source),
        (EnqueueOutcome::Reset, 1, "")
    );
}

#[tokio::test]
async fn newest_push_without_room_is_sent_when_there_is_room() {
    let bench = Bench::new(DeliveryRule::StoreFirst).await;
    let live = [(gateway_key(), ([127, 0, 0, 1], 1).into(), Vec::new())];
    let table = chat_ports::twins::view(&gateway_key(), &live).table;
    let gateways = Gateways::new(table.clone(), &bench.observer);
    let (sender, mut stream, pump) = serving::<DeliverDown>();
    let gateway = Gateway::new(gateway_key(), sender, CancellationToken::new());
    gateways.add(gateway.clone());
    let total = QUEUE_ITEMS as u64 + 100;
    for dseq in 1..=total {
        let push = Push { device: BOB.0, conn: 1, epoch: 1, dseq, payload: Bytes::new() };
        gateways.now().push(&gateway_key(), push);
    }
    assert_eq!(bench.counter("relay.pushes_without_room"), 100);
    let tracker = TaskTracker::new();
    tracker.spawn(pump);
    tracker.spawn(gateway.send_missed(table));
    let mut newest = 0;
    while newest < total {
        newest = stream.next().await.unwrap().unwrap().pushes.last().unwrap().dseq;
    }
}

/// A relay's view of one gateway with an open stream; the sender changes the table.
fn one_gateway(
    bench: &Bench,
    table: NodeTable,
) -> (Gateways, watch::Sender<Arc<NodeTable>>, mpsc::Receiver<Result<DeliverDown, Status>>) {
    let (change, view) = watch::channel(Arc::new(table));
    let gateways = Gateways::new(view.clone(), &bench.observer);
    let (sender, stream, pump) = serving::<DeliverDown>();
    let gateway = Gateway::new(gateway_key(), sender, CancellationToken::new());
    gateways.add(gateway.clone());
    let tracker = TaskTracker::new();
    tracker.spawn(pump);
    tracker.spawn(gateway.send_missed(view));
    tracker.spawn(gateways.clone().follow());
    (gateways, change, stream.into_inner())
}

fn listed(nodes: &[NodeKey]) -> NodeTable {
    let lease = |key: &NodeKey| NodeLease {
        key: key.clone(),
        addr: ([127, 0, 0, 1], 1).into(),
        roles: vec![Role::Gateway],
        left: Some(Duration::from_secs(1)),
    };
    NodeTable::of(nodes.iter().map(lease).collect())
}

fn push_of(dseq: u64) -> Push {
    Push { device: BOB.0, conn: 1, epoch: 1, dseq, payload: Bytes::new() }
}

#[tokio::test]
async fn gateway_that_joined_after_the_table_was_read_is_pushed_to() {
    let bench = Bench::new(DeliveryRule::StoreFirst).await;
    let (gateways, _table, mut stream) = one_gateway(&bench, listed(&[]));
    gateways.now().push(&gateway_key(), push_of(1));
    assert_eq!(stream.recv().await.unwrap().unwrap().pushes[0].dseq, 1);
    assert_eq!(bench.counter("relay.dead_route"), 0);
}

#[tokio::test]
async fn gateway_whose_lease_ended_gets_the_newest_push_once_it_is_back() {
    let bench = Bench::new(DeliveryRule::StoreFirst).await;
    let (gateways, table, mut stream) = one_gateway(&bench, listed(&[gateway_key()]));
    table.send_replace(Arc::new(listed(&[])));
    gateways.now().push(&gateway_key(), push_of(1));
    gateways.now().push(&gateway_key(), push_of(2));
    assert_eq!(bench.counter("relay.dead_route"), 2);
    assert!(!gateways.now().reaches(&gateway_key()));
    table.send_replace(Arc::new(listed(&[gateway_key()])));
    let dseqs: Vec<_> =
        stream.recv().await.unwrap().unwrap().pushes.iter().map(|push| push.dseq).collect();
    assert_eq!(dseqs, [2], "the hole makes the gateway pull the rest");
}

#[tokio::test]
async fn unknown_slot_is_answered_and_not_a_panic() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    let batch =
        chat_protocol::node::EnqueueBatch { slot: 99, source: "m0".into(), ..Default::default() };
    bench.sequencer.stream.offer(batch).unwrap();
    let result = bench.sequencer.message().await.results.remove(0);
    assert_eq!(result.outcome(), EnqueueOutcome::Failed);
}
