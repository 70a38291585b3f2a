//! What every `RelayQueue` promises while its store is silent, wiped or restarted.
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::relay_queue::{Enqueue, QueuePage, RelayQueue, SourceOutcome, SourceRange};
use chat_protocol::DeviceId;

use super::{Site, crowd, is_unknown, unanswered};

type Queue = Site<dyn RelayQueue>;

const ANN: DeviceId = DeviceId(256);

super::fault_stories!(
    relay_queue,
    silence: [
        enqueue_repeated_after_an_unknown_stores_its_items_once,
        ack_repeated_after_an_unknown_takes_nothing_else_away,
        every_call_to_a_silent_store_ends_and_works_again,
        calls_beyond_those_that_may_wait_are_refused_at_once,
    ],
    death: [
        wiped_store_is_another_incarnation_and_forgot_its_watermarks,
        source_that_began_after_a_wipe_says_where,
    ],
    real only: [restarted_store_is_another_incarnation_with_what_its_watermarks_say],
);

/// One item for Ann at each position of (`prev`, `last`].
fn range(prev: u64, last: u64) -> SourceRange {
    let item = |at: u64| (ANN, Bytes::from(format!("item {at}")));
    let items = (prev + 1..=last).map(item).collect();
    SourceRange { source: "m0".into(), prev, last, incarnation: 0, items }
}

async fn bring(site: &Queue, prev: u64, last: u64) -> Result<SourceOutcome, PortError> {
    bring_range(site, range(prev, last)).await
}

async fn bring_range(site: &Queue, range: SourceRange) -> Result<SourceOutcome, PortError> {
    let call = Enqueue { slot: 0, sources: vec![range] };
    site.port.enqueue(call).await.map(|mut outcomes| outcomes.remove(0))
}

async fn page(site: &Queue) -> QueuePage {
    site.port.read(&[(ANN, 0, 100)]).await.unwrap().remove(0)
}

fn texts(page: &QueuePage) -> Vec<String> {
    page.items.iter().map(|i| String::from_utf8(i.payload.to_vec()).unwrap()).collect()
}

fn items(numbers: impl Iterator<Item = u64>) -> Vec<String> {
    numbers.map(|at| format!("item {at}")).collect()
}

async fn enqueue_repeated_after_an_unknown_stores_its_items_once(site: Queue) {
    assert!(matches!(bring(&site, 0, 1).await, Ok(SourceOutcome::Applied(_))));
    site.freeze().await;
    let first = bring(&site, 1, 3).await;
    assert!(is_unknown(&first), "it left, so nobody may say that it did not happen: {first:?}");
    site.thaw().await;
    match bring(&site, 1, 3).await.unwrap() {
        SourceOutcome::Applied(stored) => assert_eq!(stored.len(), 2),
        outcome => assert_eq!(outcome, SourceOutcome::Duplicate(3)),
    }
    assert_eq!(texts(&page(&site).await), items(1..=3));
    assert_eq!(bring(&site, 1, 3).await.unwrap(), SourceOutcome::Duplicate(3));
    assert_eq!(site.port.watermarks().await.unwrap(), [("m0".into(), 0, 3)]);
}

async fn ack_repeated_after_an_unknown_takes_nothing_else_away(site: Queue) {
    bring(&site, 0, 3).await.unwrap();
    let epoch = page(&site).await.state.epoch;
    site.freeze().await;
    assert!(is_unknown(&site.port.trim(&[(ANN, epoch, 2)]).await));
    site.thaw().await;
    site.port.trim(&[(ANN, epoch, 2)]).await.unwrap();
    bring(&site, 3, 4).await.unwrap();
    site.port.trim(&[(ANN, epoch, 2)]).await.unwrap();
    let left = page(&site).await;
    assert_eq!(texts(&left), items(3..=4));
    assert_eq!((left.state.epoch, left.state.base, left.state.top), (epoch, 3, 4));
}

async fn every_call_to_a_silent_store_ends_and_works_again(site: Queue) {
    bring(&site, 0, 2).await.unwrap();
    let before = page(&site).await;
    site.freeze().await;
    let port = &site.port;
    // All at once, for each may take its whole limit.
    let (read, states, marks, incarnation) = tokio::join!(
        port.read(&[(ANN, 0, 100)]),
        port.states(&[ANN]),
        port.watermarks(),
        port.incarnation()
    );
    unanswered(&read);
    unanswered(&states);
    unanswered(&marks);
    unanswered(&incarnation);
    // A call that finds no connection ends too.
    unanswered(&port.incarnation().await);
    site.thaw().await;
    assert_eq!(page(&site).await, before);
    assert_eq!(site.port.states(&[ANN]).await.unwrap(), [before.state]);
}

async fn calls_beyond_those_that_may_wait_are_refused_at_once(site: Queue) {
    bring(&site, 0, 1).await.unwrap();
    site.freeze().await;
    crowd(|| site.port.incarnation()).await;
    site.thaw().await;
    assert_eq!(texts(&page(&site).await), items(1..=1));
}

async fn wiped_store_is_another_incarnation_and_forgot_its_watermarks(site: Queue) {
    bring(&site, 0, 3).await.unwrap();
    let (before, incarnation) = (page(&site).await, site.port.incarnation().await.unwrap());
    site.wipe().await;
    assert!(site.port.incarnation().await.unwrap() > incarnation);
    assert!(site.port.watermarks().await.unwrap().is_empty());
    // Whoever goes on where it was is sent back to the begin, and not believed.
    assert_eq!(bring(&site, 3, 4).await.unwrap(), SourceOutcome::Gap(0));
    let empty = page(&site).await;
    assert!(empty.items.is_empty());
    // A cursor of before lies below the floor: content was lost.
    assert!(empty.state.epoch > before.state.epoch && empty.state.floor > before.state.epoch);
    assert!(matches!(bring(&site, 0, 4).await.unwrap(), SourceOutcome::Applied(_)));
    let again = page(&site).await;
    assert_eq!(texts(&again), items(1..=4));
    assert_eq!(again.items.iter().map(|i| i.dseq).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

async fn source_that_began_after_a_wipe_says_where(site: Queue) {
    bring(&site, 0, 3).await.unwrap();
    let before = site.port.incarnation().await.unwrap();
    site.wipe().await;
    let after = site.port.incarnation().await.unwrap();
    // What began before the wipe does not know what is gone, so it is not believed.
    let old = SourceRange { incarnation: before, ..range(3, 5) };
    assert_eq!(bring_range(&site, old).await.unwrap(), SourceOutcome::Gap(0));
    let new = |prev, last| SourceRange { incarnation: after, ..range(prev, last) };
    assert!(matches!(bring_range(&site, new(2, 5)).await.unwrap(), SourceOutcome::Applied(_)));
    assert_eq!(texts(&page(&site).await), items(3..=5));
    // From then on the slot knows.
    assert_eq!(bring_range(&site, new(6, 7)).await.unwrap(), SourceOutcome::Gap(5));
    assert_eq!(bring_range(&site, new(2, 5)).await.unwrap(), SourceOutcome::Duplicate(5));
}

/// The newest writes may be lost with the server, but queues and watermarks always agree.
#[cfg(feature = "containers")]
async fn restarted_store_is_another_incarnation_with_what_its_watermarks_say(site: Queue) {
    const BROUGHT: u64 = 6;
    for last in 1..=BROUGHT {
        bring(&site, last - 1, last).await.unwrap();
    }
    let (before, incarnation) = (page(&site).await, site.port.incarnation().await.unwrap());
    site.kill().await;
    unanswered(&bring(&site, BROUGHT, BROUGHT + 1).await);
    site.revive().await;
    let revived = site.port.incarnation().await.unwrap();
    assert!(revived > incarnation);
    // It may have lost what it knew of a source, so nobody is believed.
    let stranger = SourceRange { source: "m9".into(), incarnation: revived, ..range(2, 3) };
    assert_eq!(bring_range(&site, stranger).await.unwrap(), SourceOutcome::Gap(0));
    let mark = site.port.watermarks().await.unwrap().first().map_or(0, |(_, _, mark)| *mark);
    assert!(mark <= BROUGHT);
    let kept = page(&site).await;
    assert_eq!(texts(&kept), items(1..=mark));
    assert!(matches!(bring(&site, mark, BROUGHT + 1).await.unwrap(), SourceOutcome::Applied(_)));
    let whole = page(&site).await;
    assert_eq!(texts(&whole), items(1..=BROUGHT + 1));
    assert!(whole.state.epoch > before.state.epoch, "numbers of before may mean something else");
    if mark > 0 {
        assert!(whole.state.floor <= before.state.epoch, "no content was lost");
    }
}
