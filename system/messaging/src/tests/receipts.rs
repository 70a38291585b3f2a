//! Receipts: merged by maximum, gathered, never back.
use bytes::Bytes;
use chat_ports::log::Topic;
use chat_ports::twins::eventually;
use chat_protocol::ConvId;
use chat_protocol::node::{LogReceipt, Mark};
use prost::Message as _;

use super::bench::{ANN, BOB, Bench, partition};

fn mark(delivered: u64) -> Mark {
    let conv = ConvId::direct(ANN, BOB).unwrap();
    Mark { conv: Bytes::copy_from_slice(&conv.to_bytes()), who: BOB.0, delivered, notify: ANN.0 }
}

fn put(bench: &Bench, marks: impl IntoIterator<Item = u64>) {
    let record = |delivered| LogReceipt { marks: vec![mark(delivered)] }.encode_to_vec().into();
    let place = (Topic::Receipts, partition(ConvId::direct(ANN, BOB).unwrap()));
    bench.log.put(place, marks.into_iter().map(record).collect());
}

#[tokio::test]
async fn receipts_coalesce_and_never_regress() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    put(&bench, 1..=40);
    let delivered =
        |device| bench.receipts(device).iter().map(|mark| mark.delivered).collect::<Vec<_>>();
    eventually("the receipt", || !delivered(ANN.device(0)).is_empty()).await;
    assert_eq!(delivered(ANN.device(0)), [40]);
    assert_eq!(delivered(ANN.device(1)), [40], "every device of the sender is told");
    assert_eq!(delivered(BOB.device(0)), [0; 0]);
    put(&bench, [12, 40, 41, 7]);
    eventually("the next receipt", || delivered(ANN.device(0)).len() == 2).await;
    assert_eq!(delivered(ANN.device(0)), [40, 41]);
    node.stop().await;
}

#[tokio::test]
async fn position_of_receipts_is_committed_when_they_are_stored_also_if_they_are_no_news() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let place = (Topic::Receipts, partition(ConvId::direct(ANN, BOB).unwrap()));
    put(&bench, [3, 2, 1]);
    eventually("the commit", || bench.log.position("receipts", place) == Some(3)).await;
    assert_eq!(bench.receipts(ANN.device(0)).len(), 1);
    put(&bench, [1]);
    eventually("the commit", || bench.log.position("receipts", place) == Some(4)).await;
    assert_eq!(bench.receipts(ANN.device(0)).len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn mark_of_a_stranger_is_ignored() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let place = (Topic::Receipts, partition(ConvId::direct(ANN, BOB).unwrap()));
    let stranger = Mark { who: 77, ..mark(5) };
    let told_to_a_stranger = Mark { notify: 3, ..mark(5) };
    let record = LogReceipt { marks: vec![stranger, told_to_a_stranger, mark(6)] }.encode_to_vec();
    bench.log.put(place, vec![record.into()]);
    eventually("the receipt", || !bench.receipts(ANN.device(0)).is_empty()).await;
    assert_eq!(bench.receipts(ANN.device(0)), [mark(6)]);
    assert!(bench.receipts(chat_protocol::UserId(3).device(0)).is_empty());
    node.stop().await;
}
