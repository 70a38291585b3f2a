//! What every `Tables` promises while its store is silent, or killed and started again.
use bytes::Bytes;
use chat_ports::tables::{Table, Tables};

use super::{Site, crowd, is_unknown, unanswered};

type Store = Site<dyn Tables>;

const TABLE: Table = Table::DevicesByUser;

super::fault_stories!(
    tables,
    silence: [
        claim_repeated_after_an_unknown_is_settled_once_and_for_all,
        claim_of_unknown_outcome_never_overwrites_a_later_one,
        every_call_to_a_silent_store_ends_and_works_again,
        calls_beyond_those_that_may_wait_are_refused_at_once,
    ],
    death: [killed_store_has_the_rows_it_answered],
    real only: [],
);

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn set(site: &Store, old: Option<&str>, new: &str) -> bool {
    site.port.compare_and_set(TABLE, 7, old.map(value), value(new)).await.unwrap()
}

async fn get(site: &Store) -> Option<Bytes> {
    site.port.get(TABLE, &[7]).await.unwrap().remove(0)
}

async fn claim_repeated_after_an_unknown_is_settled_once_and_for_all(site: Store) {
    site.freeze().await;
    assert!(is_unknown(&site.port.compare_and_set(TABLE, 7, None, value("a")).await));
    site.thaw().await;
    // Either the lost one had its effect, and the row is not missing any more, or this one has it.
    let second = set(&site, None, "a").await;
    assert_eq!(get(&site).await, Some(value("a")), "the second one was answered {second}");
    assert!(!set(&site, None, "b").await);
    assert!(set(&site, Some("a"), "b").await);
    assert_eq!(get(&site).await, Some(value("b")));
}

async fn claim_of_unknown_outcome_never_overwrites_a_later_one(site: Store) {
    assert!(set(&site, None, "a").await);
    site.freeze().await;
    let lost = site.port.compare_and_set(TABLE, 7, Some(value("a")), value("mine")).await;
    assert!(is_unknown(&lost));
    site.thaw().await;
    // Somebody else goes on from the value that is there now.
    let took_it_from_a = set(&site, Some("a"), "theirs").await;
    assert!(took_it_from_a || set(&site, Some("mine"), "theirs").await);
    assert_eq!(get(&site).await, Some(value("theirs")));
    assert!(!set(&site, Some("a"), "mine").await && !set(&site, Some("mine"), "mine").await);
    assert_eq!(get(&site).await, Some(value("theirs")));
}

async fn every_call_to_a_silent_store_ends_and_works_again(site: Store) {
    assert!(set(&site, None, "a").await);
    site.freeze().await;
    unanswered(&site.port.get(TABLE, &[7]).await);
    site.thaw().await;
    assert_eq!(get(&site).await, Some(value("a")));
}

async fn calls_beyond_those_that_may_wait_are_refused_at_once(site: Store) {
    assert!(set(&site, None, "a").await);
    site.freeze().await;
    crowd(|| site.port.get(TABLE, &[7])).await;
    site.thaw().await;
    assert_eq!(get(&site).await, Some(value("a")));
}

async fn killed_store_has_the_rows_it_answered(site: Store) {
    assert!(set(&site, None, "a").await);
    assert!(set(&site, Some("a"), "b").await);
    site.kill().await;
    unanswered(&site.port.get(TABLE, &[7]).await);
    unanswered(&site.port.compare_and_set(TABLE, 8, None, value("x")).await);
    site.revive().await;
    assert_eq!(get(&site).await, Some(value("b")));
    assert!(!set(&site, Some("a"), "c").await);
    assert!(set(&site, Some("b"), "c").await);
}
