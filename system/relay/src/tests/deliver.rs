//! Acks and pulls.
use bytes::Bytes;
use chat_ports::log::{Appended, Topic, Why};
use chat_ports::streams::kinds::DeliverUpItem;
use chat_ports::twins::eventually;
use chat_protocol::ids::partition_of;
use chat_protocol::node::{Ack, LogReceipt, Mark, Pull, Resume};
use chat_protocol::{ConvId, DeviceId, UserId};
use prost::Message as _;

use super::bench::{Bench, PARTITIONS};
use crate::DeliveryRule;
use crate::acks::{Book, DEVICES_MAX};

const BOB: DeviceId = DeviceId(2 * 256);

fn conv() -> ConvId {
    ConvId::direct(UserId(1), UserId(2)).unwrap()
}

fn ack(up_to: u64, delivered: u64) -> DeliverUpItem {
    let mark =
        Mark { conv: Bytes::copy_from_slice(&conv().to_bytes()), who: 2, delivered, notify: 1 };
    DeliverUpItem::Ack(Ack { device: BOB.0, epoch: 1, up_to, marks: vec![mark] })
}

fn marks(bench: &Bench) -> Vec<u64> {
    let records = bench.log.records((Topic::Receipts, partition_of(conv(), PARTITIONS)));
    let marks =
        records.into_iter().flat_map(|record| LogReceipt::decode(record.value).unwrap().marks);
    marks.map(|mark| mark.delivered).collect()
}

#[tokio::test]
async fn ack_is_in_the_log_before_the_queue_is_trimmed() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    bench.sequencer.offer("m0", 0, BOB, &["a", "b", "c"]).await;
    bench.log.answer_appends(Some(Appended::NotAppended(Why::NotEnoughReplicas)));
    bench.gateway.stream.offer(ack(1, 1)).unwrap();
    bench.gateway.stream.offer(ack(2, 2)).unwrap();
    eventually("a refusal", || bench.counter("relay.receipts_refused") > 0).await;
    assert_eq!(bench.stored(BOB).len(), 3);
    bench.log.answer_appends(None);
    eventually("the trim", || bench.stored(BOB) == ["c"]).await;
    assert_eq!(marks(&bench).last(), Some(&2));
}

#[tokio::test]
async fn append_is_not_kept_waiting_by_a_trim() {
    let bench = Bench::new(DeliveryRule::StoreFirst).await;
    let acked = |reader: u64| {
        let conv = ConvId::direct(UserId(1), UserId(reader)).unwrap();
        let mark = Mark {
            conv: Bytes::copy_from_slice(&conv.to_bytes()),
            who: reader,
            delivered: 1,
            notify: 1,
        };
        let device = UserId(reader).device(0).0;
        let ack = Ack { device, epoch: 1, up_to: 1, marks: vec![mark] };
        (DeliverUpItem::Ack(ack), (Topic::Receipts, partition_of(conv, PARTITIONS)))
    };
    let (first, there) = acked(2);
    let (second, elsewhere) =
        (3..64).map(acked).find(|(_, partition)| *partition != there).unwrap();
    bench.log.hold(Some(elsewhere));
    bench.queue.hold_trims(true);
    bench.gateway.stream.offer(second).unwrap();
    eventually("an append under way", || bench.log.holds() == 1).await;
    bench.gateway.stream.offer(first).unwrap();
    eventually("a trim under way", || bench.queue.trims_held() == 1).await;

    bench.log.hold(None);
    eventually("the append", || bench.log.records(elsewhere).len() == 1).await;
    assert_eq!(bench.queue.trims_held(), 1);
    bench.queue.hold_trims(false);
    eventually("both trims", || bench.counter("relay.trims") == 2).await;
}

#[tokio::test]
async fn cursor_of_a_resume_is_an_ack() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    bench.sequencer.offer("m0", 0, BOB, &["a", "b", "c"]).await;
    let resume = Pull {
        device: BOB.0,
        conn: 4,
        resume: true,
        has_cursor: true,
        epoch: 1,
        after: 2,
        limit: 64,
    };
    let page = bench.gateway.pull(resume).await;
    assert_eq!((page.resume(), page.after, page.top, page.conn), (Resume::Ok, 2, 3, 4));
    assert_eq!(page.items.iter().map(|item| item.dseq).collect::<Vec<_>>(), [3]);
    eventually("the trim", || bench.stored(BOB) == ["c"]).await;
    let lost = Pull {
        device: BOB.0,
        resume: true,
        has_cursor: true,
        epoch: 1,
        after: 1,
        limit: 64,
        ..Pull::default()
    };
    let page = bench.gateway.pull(lost).await;
    assert_eq!((page.resume(), page.after, page.items.len()), (Resume::Lost, 2, 1));
    assert_eq!(bench.counter("sometimes.resume-gap"), 1);
}

#[tokio::test]
async fn page_is_cut_by_count_and_goes_on_behind() {
    let mut bench = Bench::new(DeliveryRule::StoreFirst).await;
    bench.sequencer.offer("m0", 0, BOB, &["x"; 100]).await;
    let pull = |after| Pull { device: BOB.0, epoch: 1, after, limit: 1_000, ..Pull::default() };
    let first = bench.gateway.pull(pull(0)).await;
    assert_eq!((first.resume(), first.items.len(), first.top), (Resume::Continued, 64, 100));
    let second = bench.gateway.pull(pull(64)).await;
    assert_eq!((second.after, second.items.len()), (64, 36));
}

#[test]
fn acks_that_wait_are_merged_by_device_and_bounded() {
    let observer = chat_ports::observe::Observer::new(std::sync::Arc::new(Still));
    let book = Book::new(&observer);
    let of = |device| Ack { device, epoch: 1, up_to: 1, marks: Vec::new() };
    for device in 0..DEVICES_MAX as u64 {
        book.enter(vec![of(device), of(device)]);
    }
    assert_eq!(observer.counter("relay.acks_dropped").get(), 0);
    book.enter(vec![of(u64::MAX)]);
    assert_eq!(observer.counter("relay.acks_dropped").get(), 1);
}

struct Still;

impl chat_ports::clock::Clock for Still {
    fn wall_ms(&self) -> u64 {
        0
    }
}
