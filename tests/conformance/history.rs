//! What every `History` promises. Both arms pass, so a verdict of the embedded substrate can be trusted for this port.
use std::sync::Arc;

use bytes::Bytes;
use chat_ports::history::{ConvDigest, History, PageRequest, Row};
use chat_protocol::digest::message_hash;
use chat_protocol::limits::BODY_MAX;
use chat_protocol::{Cid, ConvId, DeviceId, Mid, UserId};
use uuid::Uuid;

type Port = Arc<dyn History>;

crate::stories!(history:
    written_rows_are_read_back_whole,
    pages_go_both_ways_from_an_exclusive_start,
    equal_row_is_written_again_without_harm,
    conversations_are_apart,
    write_of_many_conversations_and_sizes_is_whole,
    largest_bodies_are_written_anywhere_in_a_conversation,
    numbers_of_clients_are_kept_bit_for_bit,
    pages_go_on_across_segments_and_missing_rows,
    digest_sums_the_rows_that_are_there,
    nothing_is_no_row_and_an_empty_digest,
);

pub(crate) fn conv(low: u64, high: u64) -> ConvId {
    ConvId::direct(UserId(low), UserId(high)).unwrap()
}

pub(crate) fn row(conv: ConvId, cseq: u64) -> Row {
    let id = conv.hash64() ^ cseq;
    Row {
        conv,
        cseq,
        mid: Mid(Uuid::from_u64_pair(id, 1)),
        cid: Cid(Uuid::from_u64_pair(id, 2)),
        from: DeviceId(256),
        kind: 1,
        client_ms: 1_000 + cseq,
        server_ms: 2_000 + cseq,
        body: Bytes::from(format!("sealed {cseq}")),
    }
}

async fn cseqs(port: &Port, conv: ConvId, backward: bool, from: u64, limit: u32) -> Vec<u64> {
    let rows = port.page(PageRequest { conv, backward, from, limit }).await.unwrap();
    rows.iter().map(|row| row.cseq).collect()
}

async fn written_rows_are_read_back_whole(port: Port) {
    let conv = conv(1, 2);
    let rows: Vec<_> = (1..=3).map(|cseq| row(conv, cseq)).collect();
    port.upsert(rows.clone()).await.unwrap();
    assert_eq!(
        port.page(PageRequest { conv, backward: false, from: 0, limit: 10 }).await.unwrap(),
        rows
    );
}

async fn pages_go_both_ways_from_an_exclusive_start(port: Port) {
    let conv = conv(1, 2);
    port.upsert((1..=300).map(|cseq| row(conv, cseq)).collect()).await.unwrap();
    assert_eq!(cseqs(&port, conv, false, 255, 3).await, [256, 257, 258]);
    assert_eq!(cseqs(&port, conv, true, 257, 3).await, [256, 255, 254]);
    assert_eq!(cseqs(&port, conv, true, u64::MAX, 2).await, [300, 299]);
    assert_eq!(cseqs(&port, conv, true, 1, 2).await, [0; 0]);
    assert_eq!(cseqs(&port, conv, false, u64::MAX, 2).await, [0; 0]);
}

async fn equal_row_is_written_again_without_harm(port: Port) {
    let conv = conv(1, 2);
    port.upsert(vec![row(conv, 1)]).await.unwrap();
    let before = port.digests(&[conv]).await.unwrap();
    port.upsert(vec![row(conv, 1), row(conv, 1)]).await.unwrap();
    assert_eq!(port.digests(&[conv]).await.unwrap(), before);
    assert_eq!(cseqs(&port, conv, false, 0, 10).await, [1]);
}

async fn conversations_are_apart(port: Port) {
    port.upsert(vec![row(conv(1, 2), 1), row(conv(1, 3), 1), row(conv(2, 3), 1)]).await.unwrap();
    for each in [conv(1, 2), conv(1, 3), conv(2, 3)] {
        let rows = port
            .page(PageRequest { conv: each, backward: true, from: 9, limit: 10 })
            .await
            .unwrap();
        assert_eq!(rows, [row(each, 1)]);
    }
}

async fn write_of_many_conversations_and_sizes_is_whole(port: Port) {
    let convs: Vec<_> = (2..=200).map(|user| conv(1, user)).collect();
    let mut rows: Vec<_> = convs.iter().flat_map(|c| [row(*c, 2), row(*c, 1)]).collect();
    rows[7].body = Bytes::from(vec![7; BODY_MAX]);
    rows[8].body = Bytes::new();
    port.upsert(rows.clone()).await.unwrap();
    for (conv, written) in convs.iter().zip(rows.chunks(2)) {
        let request = PageRequest { conv: *conv, backward: true, from: u64::MAX, limit: 10 };
        assert_eq!(port.page(request).await.unwrap(), written);
    }
    let digests = port.digests(&convs).await.unwrap();
    assert!(digests.iter().all(|digest| (digest.rows, digest.top) == (2, 2)));
}

async fn largest_bodies_are_written_anywhere_in_a_conversation(port: Port) {
    let conv = conv(1, 2);
    let large = |cseq| Row { body: Bytes::from(vec![1; BODY_MAX]), ..row(conv, cseq) };
    let rows = [large(1), row(conv, 2), large(5_000), large(5_001), row(conv, 5_002)];
    port.upsert(rows.to_vec()).await.unwrap();
    let request = PageRequest { conv, backward: false, from: 0, limit: 10 };
    assert_eq!(port.page(request).await.unwrap(), rows);
}

async fn numbers_of_clients_are_kept_bit_for_bit(port: Port) {
    let conv = conv(1, 2);
    let odd = Row {
        from: DeviceId(u64::MAX),
        kind: u32::MAX,
        client_ms: u64::MAX,
        server_ms: u64::MAX,
        ..row(conv, 1)
    };
    port.upsert(vec![odd.clone()]).await.unwrap();
    let request = PageRequest { conv, backward: true, from: 2, limit: 1 };
    assert_eq!(port.page(request).await.unwrap(), [odd]);
}

/// A store may keep a conversation in pieces by `cseq`; whoever reads never sees where one ends.
async fn pages_go_on_across_segments_and_missing_rows(port: Port) {
    let conv = conv(1, 2);
    let numbers = [4_094, 4_095, 4_096, 4_097, 8_192, 100_000, 1 << 40];
    port.upsert(numbers.map(|cseq| row(conv, cseq)).to_vec()).await.unwrap();
    let mut reversed = numbers;
    reversed.reverse();
    assert_eq!(cseqs(&port, conv, false, 0, 10).await, numbers);
    assert_eq!(cseqs(&port, conv, true, u64::MAX, 10).await, reversed);
    assert_eq!(cseqs(&port, conv, false, 4_095, 2).await, [4_096, 4_097]);
    assert_eq!(cseqs(&port, conv, true, 4_097, 2).await, [4_096, 4_095]);
    assert_eq!(cseqs(&port, conv, true, 50_000, 3).await, [8_192, 4_097, 4_096]);
    assert_eq!(cseqs(&port, conv, false, 1 << 40, 3).await, [0; 0]);
    assert_eq!(cseqs(&port, conv, true, 4_094, 3).await, [0; 0]);
    let sum = numbers
        .iter()
        .fold(0_u64, |sum, n| sum.wrapping_add(message_hash(conv, *n, row(conv, *n).mid)));
    let digests = port.digests(&[conv]).await.unwrap();
    assert_eq!(digests, [ConvDigest { rows: 7, top: 1 << 40, digest: sum }]);
}

async fn digest_sums_the_rows_that_are_there(port: Port) {
    let (full, other) = (conv(1, 2), conv(3, 4));
    let rows = [row(full, 1), row(full, 2), row(full, 5)];
    port.upsert(rows.to_vec()).await.unwrap();
    port.upsert(vec![row(other, 1)]).await.unwrap();
    let sum = rows.iter().fold(0_u64, |sum, r| sum.wrapping_add(message_hash(full, r.cseq, r.mid)));
    let digests = port.digests(&[other, full]).await.unwrap();
    assert_eq!(digests[1], ConvDigest { rows: 3, top: 5, digest: sum });
    assert_eq!(digests[0].rows, 1);
}

async fn nothing_is_no_row_and_an_empty_digest(port: Port) {
    port.upsert(Vec::new()).await.unwrap();
    assert_eq!(cseqs(&port, conv(1, 2), false, 0, 10).await, [0; 0]);
    assert_eq!(cseqs(&port, conv(1, 2), true, u64::MAX, 0).await, [0; 0]);
    assert_eq!(port.digests(&[conv(1, 2)]).await.unwrap(), [ConvDigest::default()]);
}
