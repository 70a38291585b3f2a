//! What every `EventLog` promises while brokers are silent, killed and back again, too few, or its producer's buffer is full.
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::log::{Appended, Assignment, EventLog, Partition, Record, Topic, Why};

use super::ledger::{Ledger, read};
use super::{HEALING, LOG_BUFFER, LogSite};
use crate::arm::{PARTITIONS, within};

const P0: Partition = (Topic::Messages, 0);
const P1: Partition = (Topic::Messages, 1);
/// Appends that are answered well before and after a fault.
const ENOUGH: usize = 10;
/// Period of the bursts of a writer.
const PERIOD: Duration = Duration::from_millis(5);

super::fault_stories!(
    event_log,
    silence: [],
    death: [
        append_to_a_silent_leader_is_unknown_and_happens_once,
        append_beyond_the_buffer_is_refused_at_once_and_room_comes_back,
        leader_killed_amid_appends_loses_nothing_that_was_answered,
        broker_that_returns_has_what_was_appended_without_it,
        nothing_is_answered_well_with_too_few_replicas,
        consumers_go_on_when_a_broker_dies,
    ],
    real only: [leader_that_was_silent_until_another_led_adds_and_takes_away_nothing],
);

async fn append_to_a_silent_leader_is_unknown_and_happens_once(site: LogSite) {
    let ledger = Ledger::new(&site.port, P0);
    let before = ledger.append_well().await;
    let leader = site.leader(P0).await;
    site.brokers.freeze(leader).await;
    let outcome = ledger.append().await;
    assert!(matches!(outcome, Appended::Unknown(_)), "it left: {outcome:?}");
    site.thaw(leader).await;
    let read = ledger.settle().await;
    // Two values each: what came after the last one that was answered is the late one, whole and once.
    let after: Vec<_> = read.iter().filter(|r| before + 2 <= r.offset).take(2).collect();
    let number = |record: &Record| {
        let text = std::str::from_utf8(&record.value).unwrap();
        text.split_once('.').unwrap().0.parse::<u64>().unwrap()
    };
    assert_eq!(number(after[0]), number(&read[usize::try_from(before).unwrap()]) + 1);
    assert_eq!(number(after[0]), number(after[1]));
}

async fn append_beyond_the_buffer_is_refused_at_once_and_room_comes_back(site: LogSite) {
    let ledger = Ledger::new(&site.port, P0);
    ledger.append_well().await;
    let leader = site.leader(P0).await;
    site.brokers.freeze(leader).await;
    let most = usize::try_from(LOG_BUFFER).unwrap() * 3 / 4;
    let large = || vec![Bytes::from(vec![b'x'; most])];
    {
        let mut first = pin!(site.port.append(P0, large()));
        let mut poll = async || {
            std::future::poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_pending()))
                .await
        };
        assert!(poll().await, "a silent leader does not answer");
        // The buffer is one for all partitions, whoever leads them.
        let second = site.port.append(P1, large()).await;
        assert_eq!(second, Appended::NotAppended(Why::BufferFull));
        assert!(poll().await, "the refusal did not wait for the first one");
        let outcome = first.await;
        assert!(matches!(outcome, Appended::Unknown(_)), "{outcome:?}");
    }
    site.thaw(leader).await;
    within(HEALING, "room", async || {
        matches!(site.port.append(P1, large()).await, Appended::Ok { .. }).then_some(())
    })
    .await;
}

async fn leader_killed_amid_appends_loses_nothing_that_was_answered(site: LogSite) {
    let ledger = Ledger::new(&site.port, P0);
    ledger.append_well().await;
    let leader = site.leader(P0).await;
    let over = AtomicBool::new(false);
    let enough = async |count| {
        let answered = async || (ledger.answered() >= count).then_some(());
        within(HEALING, "appends that are answered well", answered).await;
    };
    let kill = async {
        enough(ENOUGH).await;
        site.brokers.kill(leader).await;
        enough(ledger.answered() + ENOUGH).await;
        over.store(true, Relaxed);
    };
    let write = async {
        let mut period = tokio::time::interval(PERIOD);
        while !over.load(Relaxed) {
            period.tick().await;
            ledger.burst().await;
        }
    };
    let ((), (), followed) = tokio::join!(kill, write, follow(&site.port, P0, &over));
    assert_ne!(site.leader(P0).await, leader);
    let settled = ledger.settle().await;
    assert_eq!(followed[..], settled[..followed.len()], "what was read once never changes");
    site.revive(&[leader]).await;
    assert_eq!(read(&site.port, P0, settled.len() as u64).await, settled);
    ledger.settle().await;
}

async fn broker_that_returns_has_what_was_appended_without_it(site: LogSite) {
    let ledger = Ledger::new(&site.port, P0);
    ledger.append_well().await;
    let first = site.leader(P0).await;
    site.brokers.kill(first).await;
    ledger.append_well().await;
    site.revive(&[first]).await;
    // With this one gone the one that returned counts: `min.insync` is two of three.
    let second = site.leader(P0).await;
    site.brokers.kill(second).await;
    ledger.append_well().await;
    ledger.settle().await;
    site.revive(&[second]).await;
    ledger.settle().await;
}

async fn nothing_is_answered_well_with_too_few_replicas(site: LogSite) {
    let ledger = Ledger::new(&site.port, P0);
    ledger.append_well().await;
    let leader = site.leader(P0).await;
    let others: Vec<u32> = (1..=3).filter(|broker| *broker != leader).collect();
    for broker in &others {
        site.brokers.kill(*broker).await;
    }
    for _ in 0..3 {
        let outcome = ledger.append().await;
        assert!(!matches!(outcome, Appended::Ok { .. }), "{outcome:?} on one replica");
    }
    site.revive(&others).await;
    ledger.settle().await;
}

async fn consumers_go_on_when_a_broker_dies(site: LogSite) {
    // Each group has a broker of its own that coordinates it.
    let groups = ["sequencer", "receipts", "history-writer"];
    let beat_all = async || {
        let mut all = Vec::new();
        for group in groups {
            all.push(site.port.beat(group, P0.0, "a").await.ok()?);
        }
        let whole = |own: &Assignment| own.partitions.len() as u64 == u64::from(PARTITIONS);
        all.iter().all(whole).then_some(all)
    };
    let commit_all = async |position| {
        let committed = async || {
            for (group, own) in groups.iter().zip(beat_all().await?) {
                site.port.commit(group, P0.0, own.generation, &[(0, position)]).await.ok()?;
            }
            Some(())
        };
        within(HEALING, "commits of all groups", committed).await;
    };
    let positions = async || {
        let mut all = Vec::new();
        for group in groups {
            all.extend(site.port.committed(group, P0.0, &[0]).await.ok()?);
        }
        Some(all)
    };
    let ledger = Ledger::new(&site.port, P0);
    ledger.append_well().await;
    commit_all(1).await;
    let leader = site.leader(P0).await;
    site.brokers.kill(leader).await;
    let kept = within(HEALING, "positions after the death", &positions).await;
    assert_eq!(kept, [Some(1); 3]);
    let end = ledger.settle().await.len() as u64;
    commit_all(end).await;
    assert_eq!(within(HEALING, "positions", &positions).await, [Some(end); 3]);
    site.revive(&[leader]).await;
}

#[cfg(feature = "containers")]
async fn leader_that_was_silent_until_another_led_adds_and_takes_away_nothing(site: LogSite) {
    let ledger = Ledger::new(&site.port, P0);
    ledger.append_well().await;
    let silent = site.leader(P0).await;
    site.brokers.freeze(silent).await;
    ledger.burst().await;
    within(HEALING, "another leader", async || (site.leader(P0).await != silent).then_some(()))
        .await;
    ledger.append_well().await;
    let before = ledger.settle().await;
    site.thaw(silent).await;
    let after = ledger.settle().await;
    assert_eq!(after[..before.len()], before[..]);
}

/// Reads a partition from its begin until it is over, as far as brokers answer.
async fn follow(
    port: &Arc<dyn EventLog>,
    (topic, number): Partition,
    over: &AtomicBool,
) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    while !over.load(Relaxed) {
        let next = records.len() as u64;
        let wait = Duration::from_millis(100);
        match port.fetch((topic, number), next, 1 << 20, wait).await {
            Ok(page) => {
                let offsets = page.records.iter().map(|record| record.offset);
                assert!(
                    offsets.eq(next..next + page.records.len() as u64),
                    "nothing is jumped over"
                );
                records.extend(page.records);
            }
            // Nobody knows at the moment; asked again, but not at the rate of the calls.
            Err(_) => tokio::time::sleep(wait).await,
        }
    }
    records
}
