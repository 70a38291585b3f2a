//! What every `History` promises while its store is silent, or killed and started again.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use chat_ports::history::{History, PageRequest, Row};

use super::{Site, crowd, is_unknown, unanswered};
use crate::arm::eventually;
use crate::history::{conv, row};

type Store = Site<dyn History>;

super::fault_stories!(
    history,
    silence: [
        upsert_repeated_after_an_unknown_is_one_row_each,
        every_call_to_a_silent_store_ends_and_works_again,
        calls_beyond_those_that_may_wait_are_refused_at_once,
    ],
    death: [store_killed_amid_writes_has_every_row_it_answered],
    real only: [],
);

fn rows(numbers: std::ops::RangeInclusive<u64>) -> Vec<Row> {
    numbers.map(|cseq| row(conv(1, 2), cseq)).collect()
}

fn all() -> PageRequest {
    PageRequest { conv: conv(1, 2), backward: false, from: 0, limit: 1_000 }
}

async fn upsert_repeated_after_an_unknown_is_one_row_each(site: Store) {
    site.port.upsert(rows(1..=3)).await.unwrap();
    site.freeze().await;
    assert!(is_unknown(&site.port.upsert(rows(3..=120)).await));
    site.thaw().await;
    site.port.upsert(rows(3..=120)).await.unwrap();
    assert_eq!(site.port.page(all()).await.unwrap(), rows(1..=120));
    let digest = site.port.digests(&[conv(1, 2)]).await.unwrap()[0];
    assert_eq!((digest.rows, digest.top), (120, 120));
}

async fn every_call_to_a_silent_store_ends_and_works_again(site: Store) {
    site.port.upsert(rows(1..=3)).await.unwrap();
    let digests = site.port.digests(&[conv(1, 2)]).await.unwrap();
    site.freeze().await;
    // At once, for each may take its whole limit, which is a multiple for digests of the real arm.
    let convs = [conv(1, 2)];
    let (page, digest) = tokio::join!(site.port.page(all()), site.port.digests(&convs));
    unanswered(&page);
    unanswered(&digest);
    site.thaw().await;
    assert_eq!(site.port.page(all()).await.unwrap(), rows(1..=3));
    assert_eq!(site.port.digests(&convs).await.unwrap(), digests);
}

async fn calls_beyond_those_that_may_wait_are_refused_at_once(site: Store) {
    site.port.upsert(rows(1..=3)).await.unwrap();
    site.freeze().await;
    crowd(|| site.port.page(all())).await;
    site.thaw().await;
    assert_eq!(site.port.page(all()).await.unwrap(), rows(1..=3));
}

async fn store_killed_amid_writes_has_every_row_it_answered(site: Store) {
    const BEFORE: u64 = 20;
    let written = AtomicU64::new(0);
    let write = async {
        // Until the first that fails.
        for cseq in 1.. {
            if site.port.upsert(vec![row(conv(1, 2), cseq)]).await.is_err() {
                return;
            }
            written.store(cseq, Relaxed);
        }
    };
    let kill = async {
        let enough = async || (written.load(Relaxed) >= BEFORE).then_some(());
        eventually("some rows", enough).await;
        site.kill().await;
    };
    tokio::join!(write, kill);
    unanswered(&site.port.page(all()).await);
    site.revive().await;
    let answered = written.load(Relaxed);
    let found = site.port.page(all()).await.unwrap();
    let last = found.len() as u64;
    assert!(
        (answered..=answered + 1).contains(&last),
        "{answered} were answered, {last} are there"
    );
    assert_eq!(found, rows(1..=last));
    site.port.upsert(rows(1..=answered + 1)).await.unwrap();
    assert_eq!(site.port.digests(&[conv(1, 2)]).await.unwrap()[0].rows, answered + 1);
}
