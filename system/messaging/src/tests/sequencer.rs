//! The sequencer: order, fan-out, replays, snapshots.
use std::time::Duration;

use chat_ports::consumer::{HISTORY_WRITER, SEQUENCER};
use chat_ports::log::Topic;
use chat_ports::observe::Event;
use chat_ports::twins::eventually;
use chat_protocol::{ConvId, UserId};

use super::bench::{ANN, BOB, Bench, T0, partition, send_record};
use crate::StartRule;

#[tokio::test]
async fn message_is_owed_to_every_other_device_and_its_position_is_committed() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    bench.send(1..=3);
    bench.owes(3).await;
    let place = (Topic::Messages, partition(ConvId::direct(ANN, BOB).unwrap()));
    eventually("the commit", || bench.log.position(SEQUENCER, place) == Some(3)).await;
    node.stop().await;
}

#[tokio::test]
async fn retry_is_answered_and_owed_to_nobody_again() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    bench.send([1, 2, 1, 3, 2]);
    bench.owes(3).await;
    assert_eq!(bench.counter("sometimes.duplicate-retry-answered"), 2);
    node.stop().await;
}

#[tokio::test]
async fn crash_between_enqueue_and_commit_replays_without_duplicates() {
    let bench = Bench::new().await;
    bench.log.refuse_commits(true);
    let first = bench.start("services-1");
    bench.send(1..=50);
    bench.owes(50).await;
    first.stop().await;
    bench.log.refuse_commits(false);
    let second = bench.start("services-2");
    bench.send(51..=60);
    bench.owes(60).await;
    second.stop().await;
}

#[tokio::test]
async fn two_owners_compute_the_same() {
    let bench = Bench::new().await;
    bench.log.let_everybody_own();
    let (first, second) = (bench.start("services-1"), bench.start("services-2"));
    for batch in 0..20_u128 {
        bench.send(batch * 10 + 1..=batch * 10 + 10);
        tokio::task::yield_now().await;
    }
    bench.owes(200).await;
    let place = partition(ConvId::direct(ANN, BOB).unwrap());
    let shown = || {
        bench
            .folds
            .all()
            .into_iter()
            .filter(|fold| fold.partition == place && fold.next_offset == 200)
            .collect::<Vec<_>>()
    };
    eventually("both folds", || shown().len() == 2).await;
    let folds = shown();
    assert_eq!(folds[0].checkpoints, folds[1].checkpoints);
    assert_eq!(folds[0].checkpoints.len(), 3);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn store_that_lost_its_last_writes_gets_them_again_once() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    bench.send(1..=30);
    bench.owes(30).await;
    let older = bench.queue.image();
    bench.send(31..=60);
    bench.owes(60).await;
    bench.queue.restore(older);
    bench.send(61..=70);
    bench.owes(70).await;
    assert!(bench.counter("sometimes.gap-rewind") > 0);
    node.stop().await;
}

#[tokio::test]
async fn wiped_store_gets_again_what_history_may_lack_and_nothing_else() {
    let bench = Bench::new().await;
    let place = (Topic::Messages, partition(ConvId::direct(ANN, BOB).unwrap()));
    bench.log.set_position(HISTORY_WRITER, place, 20);
    let node = bench.start("services-1");
    bench.send(1..=30);
    bench.owes(30).await;
    eventually("the commit", || bench.log.position(SEQUENCER, place) == Some(20)).await;
    bench.queue.wipe();
    bench.send(31..=40);
    let owed = || bench.owed(BOB.device(0));
    eventually("the last message", || owed().last() == Some(&40)).await;
    assert_eq!(owed(), (21..=40).collect::<Vec<_>>());
    assert_eq!(bench.log.position(SEQUENCER, place), Some(20), "history has no more than that");
    node.stop().await;
}

#[tokio::test]
async fn store_that_fails_or_loses_answers_is_offered_the_same_again() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    bench.queue.fail_enqueues(3);
    bench.send(1..=10);
    bench.owes(10).await;
    bench.queue.lose_answers(2);
    bench.send(11..=20);
    bench.owes(20).await;
    node.stop().await;
}

#[tokio::test]
async fn start_from_a_snapshot_equals_start_from_the_beginning() {
    let mut bench = Bench::new().await;
    bench.timers.snapshot = Duration::from_millis(20);
    let place = partition(ConvId::direct(ANN, BOB).unwrap());
    let first = bench.start("services-1");
    for batch in 0..8_u128 {
        bench.send(batch * 20 + 1..=batch * 20 + 20);
        let last = u64::try_from(batch).unwrap() * 20 + 20;
        bench.owes(last).await;
        let name = chat_ports::consumer::snapshots::name(place, last);
        eventually("the snapshot", || bench.blobs.names().contains(&name)).await;
    }
    first.stop().await;
    assert!(!bench.blobs.names().is_empty());
    assert!(bench.blobs.names().len() <= 2 * 7, "old snapshots are cleared");
    let second = bench.start("services-2");
    bench.send(161..=192);
    bench.owes(192).await;
    let after = || {
        bench
            .folds
            .all()
            .into_iter()
            .find(|fold| fold.partition == place && fold.next_offset == 192)
    };
    eventually("the fold of the second owner", || after().is_some()).await;
    let from_snapshot = after().unwrap();
    assert_eq!(bench.counter("sometimes.start-from-snapshot"), 1);
    second.stop().await;

    for name in bench.blobs.names() {
        chat_ports::blobs::Blobs::delete(&*bench.blobs, &name).await.unwrap();
    }
    let third = bench.start("services-3");
    eventually("the fold from the beginning", || after().is_some()).await;
    let from_the_beginning = after().unwrap();
    assert_eq!(from_snapshot.checkpoints, from_the_beginning.checkpoints);
    assert_eq!(from_snapshot.remembered, from_the_beginning.remembered);
    third.stop().await;
}

#[tokio::test]
async fn truncated_log_without_a_snapshot_stops_the_partition_loudly() {
    let bench = Bench::new().await;
    let conv = ConvId::direct(ANN, BOB).unwrap();
    bench.send(1..=10);
    bench.log.truncate((Topic::Messages, partition(conv)), 5);
    let node = bench.start("services-1");
    let stopped = |event: &Event| matches!(event, Event::PartitionStopped(SEQUENCER, p, _) if *p == partition(conv));
    eventually("the event", || {
        bench.observer.events(0).0.iter().any(|noted| stopped(&noted.event))
    })
    .await;
    assert!(bench.owed(BOB.device(0)).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn partition_waits_for_a_list_of_devices_that_cannot_be_read() {
    let bench = Bench::new().await;
    bench.tables.set_unreachable(true);
    let node = bench.start("services-1");
    bench.send(1..=5);
    eventually("a failed read", || bench.counter("sequencer.directory_waits") > 0).await;
    assert!(bench.owed(BOB.device(0)).is_empty());
    bench.tables.set_unreachable(false);
    bench.owes(5).await;
    node.stop().await;
}

#[tokio::test]
async fn commit_is_not_kept_waiting_by_a_list_of_devices() {
    let bench = Bench::new().await;
    let conv = ConvId::direct(ANN, BOB).unwrap();
    let place = (Topic::Messages, partition(conv));
    bench.log.hold(Some(place));
    let node = bench.start("services-1");
    bench.send(1..=3);
    bench.owes(3).await;
    eventually("a commit under way", || bench.log.holds() > 0).await;
    // Somebody of the same partition whose devices nobody knows yet.
    let unknown = |user: u64| ConvId::direct(ANN, UserId(user)).unwrap();
    let next = (3..64).map(unknown).find(|conv| partition(*conv) == place.1).unwrap();
    bench.tables.set_unreachable(true);
    bench.log.put(place, vec![send_record(next, ANN.device(0), 4, T0)]);
    eventually("a failed read", || bench.counter("sequencer.directory_waits") > 0).await;

    bench.log.hold(None);
    eventually("the commit", || bench.log.position(SEQUENCER, place) == Some(3)).await;
    node.stop().await;
}

#[tokio::test]
async fn stale_send_exists_for_nobody() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let conv = ConvId::direct(ANN, BOB).unwrap();
    let old = send_record(conv, ANN.device(0), 99, T0 - 200_000);
    bench.log.put((Topic::Messages, partition(conv)), vec![old]);
    bench.send([1]);
    bench.owes(1).await;
    assert_eq!(bench.counter("sometimes.stale-send-refused"), 1);
    node.stop().await;
}

#[tokio::test]
async fn cid_of_somebody_elses_message_exists_for_nobody() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let conv = ConvId::direct(ANN, BOB).unwrap();
    bench.send([1]);
    let taken = send_record(conv, BOB.device(0), 1, T0);
    bench.log.put((Topic::Messages, partition(conv)), vec![taken]);
    bench.send([2]);
    bench.owes(2).await;
    assert!(bench.messages(ANN.device(0)).is_empty(), "the refused message surfaces nowhere");
    assert_eq!(bench.counter("sequencer.refused"), 1);
    node.stop().await;
}

#[tokio::test]
async fn unreadable_record_is_skipped() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let place = (Topic::Messages, partition(ConvId::direct(ANN, BOB).unwrap()));
    bench.log.put(place, vec![bytes::Bytes::from_static(b"\xff\xff\xff")]);
    bench.send([1]);
    bench.owes(1).await;
    node.stop().await;
}

#[tokio::test]
async fn owner_that_starts_empty_counts_anew() {
    let mut bench = Bench::new().await;
    bench.policies.start = StartRule::Empty;
    let first = bench.start("services-1");
    bench.send(1..=3);
    bench.owes(3).await;
    let place = (Topic::Messages, partition(ConvId::direct(ANN, BOB).unwrap()));
    eventually("the commit", || bench.log.position(SEQUENCER, place) == Some(3)).await;
    first.stop().await;
    let second = bench.start("services-2");
    bench.send([4]);
    eventually("the fourth message", || bench.owed(BOB.device(0)).len() == 4).await;
    assert_eq!(bench.owed(BOB.device(0)), [1, 2, 3, 1]);
    second.stop().await;
}
