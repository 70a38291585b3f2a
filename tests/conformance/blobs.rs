//! What every `Blobs` promises. Both arms pass, so a verdict of the embedded substrate can be trusted for this port.
use std::sync::Arc;

use bytes::Bytes;
use chat_ports::blobs::Blobs;
use futures_util::future::try_join_all;

type Port = Arc<dyn Blobs>;

crate::stories!(blobs:
    object_comes_back_as_it_went_in,
    missing_object_is_none_and_its_deletion_no_error,
    later_put_replaces_the_object,
    names_are_listed_by_prefix_in_order,
    all_names_are_listed_however_many,
    name_that_leaves_the_store_is_refused,
);

async fn object_comes_back_as_it_went_in(port: Port) {
    let bytes = Bytes::from(vec![7; 100_000]);
    port.put("fold/00001/00000000000000000042", bytes.clone()).await.unwrap();
    assert_eq!(port.get("fold/00001/00000000000000000042").await.unwrap(), Some(bytes));
}

async fn missing_object_is_none_and_its_deletion_no_error(port: Port) {
    assert_eq!(port.get("fold/1").await.unwrap(), None);
    port.delete("fold/1").await.unwrap();
    port.put("fold/1", Bytes::from_static(b"a")).await.unwrap();
    port.delete("fold/1").await.unwrap();
    assert_eq!(port.get("fold/1").await.unwrap(), None);
}

async fn later_put_replaces_the_object(port: Port) {
    for text in ["a", "b", "b"] {
        port.put("x", Bytes::from_static(text.as_bytes())).await.unwrap();
        assert_eq!(port.get("x").await.unwrap().unwrap(), text);
    }
}

async fn names_are_listed_by_prefix_in_order(port: Port) {
    for name in ["fold/00002/1", "fold/00001/10", "fold/00001/09", "other/1"] {
        port.put(name, Bytes::from_static(b"x")).await.unwrap();
    }
    assert_eq!(port.list("fold/00001/").await.unwrap(), ["fold/00001/09", "fold/00001/10"]);
    assert_eq!(
        port.list("fold/0000").await.unwrap(),
        ["fold/00001/09", "fold/00001/10", "fold/00002/1"]
    );
    assert_eq!(port.list("").await.unwrap().len(), 4);
    assert!(port.list("none/").await.unwrap().is_empty());
}

async fn all_names_are_listed_however_many(port: Port) {
    let names: Vec<_> = (0..1_050).map(|n| format!("fold/{n:05}")).collect();
    for some in names.chunks(50) {
        let puts = some.iter().map(|name| port.put(name, Bytes::from_static(b"x")));
        try_join_all(puts).await.unwrap();
    }
    assert_eq!(port.list("fold/").await.unwrap(), names);
}

async fn name_that_leaves_the_store_is_refused(port: Port) {
    for name in ["", "../x", "a/../../x", "/x", "a//b"] {
        assert!(port.put(name, Bytes::from_static(b"x")).await.is_err(), "{name:?}");
    }
}
