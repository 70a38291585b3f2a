//! What every `RelayQueue` promises. Both arms pass, so a verdict of the embedded substrate can be trusted for this port.
use std::sync::Arc;

use bytes::Bytes;
use chat_ports::relay_queue::{Enqueue, QueuePage, RelayQueue, SourceOutcome, SourceRange};
use chat_protocol::DeviceId;

use crate::arm::QUEUE_MAX;

type Port = Arc<dyn RelayQueue>;

const ANN: DeviceId = DeviceId(256);
const BOB: DeviceId = DeviceId(512);

crate::stories!(relay_queue:
    items_are_numbered_without_gaps_and_read_in_order,
    replayed_range_is_a_duplicate_and_stores_nothing,
    range_beyond_the_watermark_is_a_gap,
    empty_range_moves_an_idle_slot_up,
    refused_source_leaves_the_others_of_its_call,
    slots_have_watermarks_of_their_own,
    acknowledged_items_go_and_numbering_goes_on,
    ack_of_another_epoch_is_ignored,
    overflow_keeps_the_newest_and_raises_the_floor,
    pages_and_acks_find_their_place_after_overflows,
    payloads_are_any_bytes_and_ids_any_number,
    read_fixes_the_numbering_and_a_look_does_not,
    range_that_ends_before_it_starts_is_refused,
    positions_beyond_the_top_are_answered,
);

fn range(source: &str, prev: u64, last: u64, items: &[(DeviceId, &str)]) -> SourceRange {
    let items = items
        .iter()
        .map(|(device, text)| (*device, Bytes::copy_from_slice(text.as_bytes())))
        .collect();
    SourceRange { source: source.into(), prev, last, incarnation: 0, items }
}

async fn bring(port: &Port, slot: u32, sources: Vec<SourceRange>) -> Vec<SourceOutcome> {
    port.enqueue(Enqueue { slot, sources }).await.unwrap()
}

async fn page(port: &Port, device: DeviceId, after: u64) -> QueuePage {
    port.read(&[(device, after, 100)]).await.unwrap().remove(0)
}

fn texts(page: &QueuePage) -> Vec<&str> {
    page.items.iter().map(|item| std::str::from_utf8(&item.payload).unwrap()).collect()
}

async fn items_are_numbered_without_gaps_and_read_in_order(port: Port) {
    let outcomes =
        bring(&port, 0, vec![range("m0", 0, 3, &[(ANN, "a"), (BOB, "x"), (ANN, "b")])]).await;
    let SourceOutcome::Applied(stored) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(stored.iter().map(|s| s.dseq).collect::<Vec<_>>(), [1, 1, 2]);
    assert!(stored.iter().all(|s| s.route.is_none()));
    let ann = page(&port, ANN, 0).await;
    assert_eq!(texts(&ann), ["a", "b"]);
    assert_eq!(ann.items.iter().map(|i| i.dseq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((ann.state.base, ann.state.top, ann.state.epoch), (1, 2, stored[0].epoch));
    assert_eq!(texts(&page(&port, ANN, 1).await), ["b"]);
    assert_eq!(texts(&port.read(&[(ANN, 0, 1)]).await.unwrap()[0]), ["a"]);
}

async fn replayed_range_is_a_duplicate_and_stores_nothing(port: Port) {
    bring(&port, 0, vec![range("m0", 0, 2, &[(ANN, "a")])]).await;
    let again = bring(&port, 0, vec![range("m0", 0, 2, &[(ANN, "a")])]).await;
    assert_eq!(again, [SourceOutcome::Duplicate(2)]);
    assert_eq!(texts(&page(&port, ANN, 0).await), ["a"]);
}

async fn range_beyond_the_watermark_is_a_gap(port: Port) {
    assert_eq!(
        bring(&port, 0, vec![range("m0", 5, 6, &[(ANN, "x")])]).await,
        [SourceOutcome::Gap(0)]
    );
    bring(&port, 0, vec![range("m0", 0, 2, &[(ANN, "a")])]).await;
    assert_eq!(
        bring(&port, 0, vec![range("m0", 3, 4, &[(ANN, "x")])]).await,
        [SourceOutcome::Gap(2)]
    );
    assert_eq!(texts(&page(&port, ANN, 0).await), ["a"]);
}

async fn empty_range_moves_an_idle_slot_up(port: Port) {
    assert_eq!(
        bring(&port, 2, vec![range("r1", 0, 9, &[])]).await,
        [SourceOutcome::Applied(Vec::new())]
    );
    assert_eq!(port.watermarks().await.unwrap(), [("r1".into(), 2, 9)]);
}

async fn refused_source_leaves_the_others_of_its_call(port: Port) {
    let call = vec![range("m0", 4, 5, &[(ANN, "x")]), range("m1", 0, 1, &[(ANN, "a")])];
    let outcomes = bring(&port, 0, call).await;
    assert_eq!(outcomes[0], SourceOutcome::Gap(0));
    assert!(matches!(&outcomes[1], SourceOutcome::Applied(stored) if stored.len() == 1));
    assert_eq!(texts(&page(&port, ANN, 0).await), ["a"]);
}

async fn slots_have_watermarks_of_their_own(port: Port) {
    bring(&port, 0, vec![range("m0", 0, 5, &[])]).await;
    assert_eq!(bring(&port, 1, vec![range("m0", 5, 6, &[])]).await, [SourceOutcome::Gap(0)]);
}

async fn acknowledged_items_go_and_numbering_goes_on(port: Port) {
    bring(&port, 0, vec![range("m0", 0, 3, &[(ANN, "a"), (ANN, "b"), (ANN, "c")])]).await;
    let epoch = page(&port, ANN, 0).await.state.epoch;
    port.trim(&[(ANN, epoch, 2)]).await.unwrap();
    assert_eq!(texts(&page(&port, ANN, 0).await), ["c"]);
    port.trim(&[(ANN, epoch, 3)]).await.unwrap();
    let state = page(&port, ANN, 0).await.state;
    assert_eq!((state.base, state.top, state.epoch), (4, 3, epoch));
    bring(&port, 0, vec![range("m0", 3, 4, &[(ANN, "d")])]).await;
    assert_eq!(page(&port, ANN, 3).await.items[0].dseq, 4);
}

async fn ack_of_another_epoch_is_ignored(port: Port) {
    bring(&port, 0, vec![range("m0", 0, 1, &[(ANN, "a")])]).await;
    let epoch = page(&port, ANN, 0).await.state.epoch;
    port.trim(&[(ANN, epoch + 1, 1), (ANN, epoch - 1, 1), (BOB, epoch, 1)]).await.unwrap();
    assert_eq!(texts(&page(&port, ANN, 0).await), ["a"]);
}

async fn overflow_keeps_the_newest_and_raises_the_floor(port: Port) {
    let before = page(&port, ANN, 0).await.state;
    for last in 1..=QUEUE_MAX + 2 {
        bring(&port, 0, vec![range("m0", last - 1, last, &[(ANN, "x")])]).await;
    }
    let full = page(&port, ANN, 0).await;
    assert!(full.items.len() as u64 <= QUEUE_MAX);
    assert!(full.state.epoch > before.epoch && full.state.floor == full.state.epoch);
    assert_eq!(full.items.last().unwrap().dseq, full.state.top);
    assert_eq!(full.state.base, full.items[0].dseq);
}

async fn pages_and_acks_find_their_place_after_overflows(port: Port) {
    for last in 1..=QUEUE_MAX + 4 {
        bring(&port, 0, vec![range("m0", last - 1, last, &[(ANN, "x")])]).await;
    }
    let dseqs = |page: &QueuePage| page.items.iter().map(|i| i.dseq).collect::<Vec<_>>();
    let full = page(&port, ANN, 0).await;
    let (base, top) = (full.state.base, full.state.top);
    assert_eq!(dseqs(&full), (base..=top).collect::<Vec<_>>());
    for after in base..top {
        assert_eq!(dseqs(&page(&port, ANN, after).await), (after + 1..=top).collect::<Vec<_>>());
    }
    for up_to in base..=top {
        port.trim(&[(ANN, full.state.epoch, up_to)]).await.unwrap();
        assert_eq!(dseqs(&page(&port, ANN, 0).await), (up_to + 1..=top).collect::<Vec<_>>());
    }
    bring(&port, 0, vec![range("m0", QUEUE_MAX + 4, QUEUE_MAX + 5, &[(ANN, "y")])]).await;
    let next = page(&port, ANN, top).await;
    assert_eq!((dseqs(&next), next.state.epoch), (vec![top + 1], full.state.epoch));
}

async fn payloads_are_any_bytes_and_ids_any_number(port: Port) {
    let device = DeviceId(u64::MAX);
    let payloads = [Bytes::new(), (0..=255).collect(), Bytes::from_static(b"\r\n$3\r\n")];
    let items = payloads.iter().map(|payload| (device, payload.clone())).collect();
    let most = u64::MAX - 1;
    let source = SourceRange { source: "m0".into(), prev: 0, last: most, incarnation: 0, items };
    let stored = bring(&port, 3, vec![source]).await;
    assert!(matches!(&stored[0], SourceOutcome::Applied(stored) if stored.len() == 3));
    let read: Vec<Bytes> =
        page(&port, device, 0).await.items.into_iter().map(|i| i.payload).collect();
    assert_eq!(read, payloads);
    assert_eq!(
        bring(&port, 3, vec![range("m0", 9, 10, &[])]).await,
        [SourceOutcome::Duplicate(most)]
    );
    assert_eq!(
        bring(&port, 3, vec![range("m0", most + 1, most + 1, &[])]).await,
        [SourceOutcome::Gap(most)]
    );
    let epoch = port.states(&[device]).await.unwrap()[0].epoch;
    port.trim(&[(device, epoch, most), (ANN, most, most)]).await.unwrap();
    assert!(page(&port, device, most).await.items.is_empty());
    assert_eq!(port.states(&[device]).await.unwrap()[0].base, 4);
}

async fn read_fixes_the_numbering_and_a_look_does_not(port: Port) {
    assert_eq!(port.states(&[ANN]).await.unwrap()[0].epoch, 0);
    let fixed = page(&port, ANN, 0).await.state;
    assert!(fixed.epoch > 0 && fixed.floor == fixed.epoch);
    assert_eq!((fixed.base, fixed.top), (1, 0));
    bring(&port, 0, vec![range("m0", 0, 1, &[(ANN, "a")])]).await;
    let state = port.states(&[ANN]).await.unwrap()[0];
    assert_eq!((state.epoch, state.top), (fixed.epoch, 1));
    assert_eq!(port.incarnation().await.unwrap(), port.incarnation().await.unwrap());
}

async fn range_that_ends_before_it_starts_is_refused(port: Port) {
    assert!(
        port.enqueue(Enqueue { slot: 0, sources: vec![range("m0", 3, 2, &[])] }).await.is_err()
    );
}

async fn positions_beyond_the_top_are_answered(port: Port) {
    bring(&port, 0, vec![range("m0", 0, 2, &[(ANN, "a"), (ANN, "b")])]).await;
    let beyond = page(&port, ANN, u64::MAX).await;
    assert!(beyond.items.is_empty());
    port.trim(&[(ANN, beyond.state.epoch, u64::MAX)]).await.unwrap();
    assert!(page(&port, ANN, 0).await.items.is_empty());
    bring(&port, 0, vec![range("m0", 2, 3, &[(ANN, "c")])]).await;
    assert_eq!(page(&port, ANN, 0).await.items[0].dseq, 3);
}
