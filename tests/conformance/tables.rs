//! What every `Tables` promises. Both arms pass, so a verdict of the embedded substrate can be trusted for this port.
use std::sync::Arc;

use bytes::Bytes;
use chat_ports::tables::{Table, Tables};

type Port = Arc<dyn Tables>;

const TABLE: Table = Table::DevicesByUser;

crate::stories!(tables:
    missing_row_is_none,
    row_is_set_only_over_the_value_that_was_expected,
    values_come_in_the_order_of_the_keys,
    many_keys_are_read_at_once,
    of_many_claims_to_one_row_one_wins,
);

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn missing_row_is_none(port: Port) {
    assert_eq!(port.get(TABLE, &[7]).await.unwrap(), [None]);
    assert!(!port.compare_and_set(TABLE, 7, Some(value("old")), value("new")).await.unwrap());
    assert_eq!(port.get(TABLE, &[7]).await.unwrap(), [None]);
}

async fn row_is_set_only_over_the_value_that_was_expected(port: Port) {
    assert!(port.compare_and_set(TABLE, 7, None, value("a")).await.unwrap());
    assert!(!port.compare_and_set(TABLE, 7, None, value("b")).await.unwrap());
    assert!(!port.compare_and_set(TABLE, 7, Some(value("c")), value("b")).await.unwrap());
    assert!(port.compare_and_set(TABLE, 7, Some(value("a")), value("b")).await.unwrap());
    assert_eq!(port.get(TABLE, &[7]).await.unwrap(), [Some(value("b"))]);
}

async fn values_come_in_the_order_of_the_keys(port: Port) {
    for key in [1, 2] {
        assert!(port.compare_and_set(TABLE, key, None, value(&key.to_string())).await.unwrap());
    }
    let values = port.get(TABLE, &[2, 3, 1]).await.unwrap();
    assert_eq!(values, [Some(value("2")), None, Some(value("1"))]);
}

async fn many_keys_are_read_at_once(port: Port) {
    for key in [0, 150, u64::MAX] {
        assert!(port.compare_and_set(TABLE, key, None, value(&key.to_string())).await.unwrap());
    }
    let keys: Vec<u64> = (0..300).chain([u64::MAX, 150]).collect();
    let values = port.get(TABLE, &keys).await.unwrap();
    assert_eq!(values.len(), keys.len());
    for (key, found) in keys.iter().zip(values) {
        let there = [0, 150, u64::MAX].contains(key);
        assert_eq!(found, there.then(|| value(&key.to_string())), "{key}");
    }
    assert!(port.get(TABLE, &[]).await.unwrap().is_empty());
}

async fn of_many_claims_to_one_row_one_wins(port: Port) {
    let claim = |name: &str| {
        let (port, new) = (Arc::clone(&port), value(name));
        async move { port.compare_and_set(TABLE, 7, None, new).await.unwrap() }
    };
    let (a, b, c) = tokio::join!(claim("a"), claim("b"), claim("c"));
    assert_eq!([a, b, c].iter().filter(|won| **won).count(), 1);
}
