//! What every `Blobs` promises while its store is silent, or killed and started again.
use bytes::Bytes;
use chat_ports::blobs::Blobs;

use super::{Site, crowd, is_unknown, unanswered};

type Store = Site<dyn Blobs>;

/// More than sockets hold, so that a part of it arrives.
const LARGE: usize = 16 * 1024 * 1024;

super::fault_stories!(
    blobs,
    silence: [
        put_without_answer_leaves_the_whole_object_or_none,
        every_call_to_a_silent_store_ends_and_works_again,
        calls_beyond_those_that_may_wait_are_refused_at_once,
    ],
    death: [killed_store_has_the_objects_it_answered],
    real only: [],
);

async fn put_without_answer_leaves_the_whole_object_or_none(site: Store) {
    let bytes = Bytes::from(vec![7; LARGE]);
    site.freeze().await;
    assert!(is_unknown(&site.port.put("fold/1", bytes.clone()).await));
    site.thaw().await;
    let found = site.port.get("fold/1").await.unwrap();
    assert!(found.is_none_or(|found| found == bytes), "never a part of it");
    site.port.put("fold/1", bytes.clone()).await.unwrap();
    assert!(site.port.get("fold/1").await.unwrap() == Some(bytes));
    assert_eq!(site.port.list("fold/").await.unwrap(), ["fold/1"]);
}

async fn every_call_to_a_silent_store_ends_and_works_again(site: Store) {
    site.port.put("fold/1", Bytes::from_static(b"a")).await.unwrap();
    site.freeze().await;
    // All at once, for each may take its whole limit.
    let port = &site.port;
    let (get, list, delete) =
        tokio::join!(port.get("fold/1"), port.list(""), port.delete("fold/2"));
    unanswered(&get);
    unanswered(&list);
    unanswered(&delete);
    site.thaw().await;
    assert_eq!(site.port.list("").await.unwrap(), ["fold/1"]);
    assert_eq!(site.port.get("fold/1").await.unwrap().unwrap(), "a");
}

async fn calls_beyond_those_that_may_wait_are_refused_at_once(site: Store) {
    site.port.put("fold/1", Bytes::from_static(b"a")).await.unwrap();
    site.freeze().await;
    crowd(|| site.port.get("fold/1")).await;
    site.thaw().await;
    assert_eq!(site.port.get("fold/1").await.unwrap().unwrap(), "a");
}

async fn killed_store_has_the_objects_it_answered(site: Store) {
    let name = |n: u64| format!("fold/{n:05}");
    for n in 0..20 {
        site.port.put(&name(n), Bytes::from(n.to_string())).await.unwrap();
    }
    site.kill().await;
    // A store that is away must not pass for one that is empty.
    unanswered(&site.port.get(&name(0)).await);
    unanswered(&site.port.list("fold/").await);
    site.revive().await;
    assert_eq!(site.port.list("fold/").await.unwrap(), (0..20).map(name).collect::<Vec<_>>());
    for n in 0..20 {
        assert_eq!(site.port.get(&name(n)).await.unwrap().unwrap(), n.to_string());
    }
}
