//! What every `EventLog` promises. Both arms pass, so a verdict of the embedded substrate can be trusted for this port.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::log::{Appended, Assignment, EventLog, Fetched, Partition, Topic};

use crate::arm::{PARTITIONS, eventually};

type Port = Arc<dyn EventLog>;

const P0: Partition = (Topic::Messages, 0);
const P1: Partition = (Topic::Messages, 1);

crate::stories!(event_log:
    appended_batch_is_read_in_order_with_one_stamp,
    stamps_and_offsets_rise_from_batch_to_batch,
    two_readers_see_the_same,
    partitions_and_topics_are_apart,
    fetch_gives_one_record_however_small_its_limit,
    waiting_fetch_is_woken_by_an_append,
    fetch_at_the_end_comes_back_empty,
    append_to_a_partition_that_is_none_does_not_happen,
    lone_member_owns_every_partition,
    two_members_share_and_a_leaver_hands_over,
    silent_member_loses_its_partitions_and_may_not_commit,
    member_whose_session_ended_is_told_that_it_joined_anew,
    positions_are_what_was_committed,
);

fn values(texts: &[&str]) -> Vec<Bytes> {
    texts.iter().map(|t| Bytes::copy_from_slice(t.as_bytes())).collect()
}

async fn append(port: &Port, partition: Partition, texts: &[&str]) -> (u64, u64) {
    match port.append(partition, values(texts)).await {
        Appended::Ok { base, log_ms } => (base, log_ms),
        other => panic!("{other:?}"),
    }
}

async fn fetch(port: &Port, partition: Partition, offset: u64, max_bytes: usize) -> Fetched {
    port.fetch(partition, offset, max_bytes, Duration::ZERO).await.unwrap()
}

async fn beat(port: &Port, member: &str) -> Assignment {
    port.beat("sequencer", Topic::Messages, member).await.unwrap()
}

async fn appended_batch_is_read_in_order_with_one_stamp(port: Port) {
    let (base, log_ms) = append(&port, P0, &["a", "b", "c"]).await;
    assert_eq!(base, 0);
    let fetched = fetch(&port, P0, 0, 1 << 20).await;
    let read: Vec<_> =
        fetched.records.iter().map(|r| (r.offset, r.log_ms, r.value.clone())).collect();
    let expected: Vec<_> = (0..)
        .zip(values(&["a", "b", "c"]))
        .map(|(offset, value)| (offset, log_ms, value))
        .collect();
    assert_eq!(read, expected);
    assert_eq!((fetched.high_watermark, fetched.start), (3, 0));
}

async fn stamps_and_offsets_rise_from_batch_to_batch(port: Port) {
    let mut last = (0, 0);
    for expected in 0..50 {
        let (base, log_ms) = append(&port, P0, &["x"]).await;
        assert_eq!(base, expected);
        assert!(log_ms >= last.1);
        last = (base, log_ms);
    }
}

async fn two_readers_see_the_same(port: Port) {
    for text in ["a", "b", "c"] {
        append(&port, P0, &[text]).await;
    }
    assert_eq!(fetch(&port, P0, 0, 1 << 20).await, fetch(&port, P0, 0, 1 << 20).await);
    assert_eq!(
        fetch(&port, P0, 1, 1 << 20).await.records[..],
        fetch(&port, P0, 0, 1 << 20).await.records[1..]
    );
}

async fn partitions_and_topics_are_apart(port: Port) {
    append(&port, P0, &["a"]).await;
    assert_eq!(append(&port, P1, &["b"]).await.0, 0);
    assert_eq!(append(&port, (Topic::Receipts, 0), &["c"]).await.0, 0);
    assert_eq!(fetch(&port, P1, 0, 1 << 20).await.records[0].value, "b");
}

async fn fetch_gives_one_record_however_small_its_limit(port: Port) {
    append(&port, P0, &["first", "second", "third"]).await;
    assert_eq!(fetch(&port, P0, 0, 1).await.records.len(), 1);
    assert_eq!(fetch(&port, P0, 0, 11).await.records.len(), 2);
}

async fn waiting_fetch_is_woken_by_an_append(port: Port) {
    let waiting = port.fetch(P0, 0, 1 << 20, Duration::from_secs(20));
    let (fetched, _) = tokio::join!(waiting, append(&port, P0, &["a"]));
    assert_eq!(fetched.unwrap().records.len(), 1);
}

async fn fetch_at_the_end_comes_back_empty(port: Port) {
    append(&port, P0, &["a"]).await;
    let fetched = port.fetch(P0, 1, 1 << 20, Duration::from_millis(20)).await.unwrap();
    assert!(fetched.records.is_empty());
    assert_eq!(fetched.high_watermark, 1);
}

async fn append_to_a_partition_that_is_none_does_not_happen(port: Port) {
    let nowhere = (Topic::Messages, PARTITIONS);
    assert!(matches!(port.append(nowhere, values(&["a"])).await, Appended::NotAppended(_)));
    assert!(port.fetch(nowhere, 0, 1, Duration::ZERO).await.is_err());
}

async fn lone_member_owns_every_partition(port: Port) {
    let assignment = eventually("all partitions", async || {
        Some(beat(&port, "a").await).filter(|a| a.partitions.len() as u64 == u64::from(PARTITIONS))
    })
    .await;
    assert!(assignment.generation > 0);
}

async fn two_members_share_and_a_leaver_hands_over(port: Port) {
    let shared = async || {
        let (a, b) = (beat(&port, "a").await, beat(&port, "b").await);
        let together: BTreeSet<u32> = a.partitions.iter().chain(&b.partitions).copied().collect();
        assert_eq!(
            together.len(),
            a.partitions.len() + b.partitions.len(),
            "nobody shares a partition"
        );
        let fair = a.partitions.len() == b.partitions.len() && !a.partitions.is_empty();
        (fair && together.len() as u64 == u64::from(PARTITIONS)).then_some(())
    };
    eventually("a fair share", shared).await;
    port.leave("sequencer", Topic::Messages, "b").await.unwrap();
    lone_member_owns_every_partition(Arc::clone(&port)).await;
}

async fn silent_member_loses_its_partitions_and_may_not_commit(port: Port) {
    let silent = eventually("partitions", async || {
        Some(beat(&port, "silent").await).filter(|a| !a.partitions.is_empty())
    })
    .await;
    let lost = silent.partitions[0];
    let heir = eventually("the heir", async || {
        Some(beat(&port, "heir").await).filter(|a| a.partitions.contains(&lost))
    })
    .await;
    assert!(heir.generation > silent.generation);
    assert!(
        port.commit("sequencer", Topic::Messages, silent.generation, &[(lost, 5)]).await.is_err()
    );
    port.commit("sequencer", Topic::Messages, heir.generation, &[(lost, 4)]).await.unwrap();
    assert_eq!(port.committed("sequencer", Topic::Messages, &[lost]).await.unwrap(), [Some(4)]);
}

async fn member_whose_session_ended_is_told_that_it_joined_anew(port: Port) {
    assert!(beat(&port, "silent").await.joined);
    eventually("partitions", async || {
        let silent = beat(&port, "silent").await;
        assert!(!silent.joined);
        (!silent.partitions.is_empty()).then_some(())
    })
    .await;
    eventually("the heir", async || {
        let heir = beat(&port, "heir").await;
        (heir.partitions.len() as u64 == u64::from(PARTITIONS)).then_some(())
    })
    .await;
    assert!(beat(&port, "silent").await.joined);
}

async fn positions_are_what_was_committed(port: Port) {
    assert_eq!(port.committed("sequencer", Topic::Messages, &[0, 1]).await.unwrap(), [None, None]);
    let own = eventually("all partitions", async || {
        Some(beat(&port, "a").await).filter(|a| a.partitions.len() as u64 == u64::from(PARTITIONS))
    })
    .await;
    port.commit("sequencer", Topic::Messages, own.generation, &[(1, 7)]).await.unwrap();
    assert_eq!(
        port.committed("sequencer", Topic::Messages, &[1, 0]).await.unwrap(),
        [Some(7), None]
    );
    assert_eq!(port.committed("history-writer", Topic::Messages, &[1]).await.unwrap(), [None]);
}
