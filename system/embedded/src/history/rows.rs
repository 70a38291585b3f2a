//! How a row is laid out: key is conversation and `cseq`, big-endian, so that keys sort as pages are read.
use bytes::Bytes;
use chat_ports::history::Row;
use chat_protocol::{Cid, ConvId, DeviceId, Mid};

/// Layout of the value; the first byte of every row.
const LAYOUT: u8 = 1;
/// Bytes before the body: layout, mid, cid, device, kind, two stamps.
const HEAD: usize = 1 + 16 + 16 + 8 + 4 + 8 + 8;

/// Length of a key.
pub(super) const KEY: usize = 16 + 8;

pub(super) fn key(conv: ConvId, cseq: u64) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..16].copy_from_slice(&conv.to_bytes());
    key[16..].copy_from_slice(&cseq.to_be_bytes());
    key
}

pub(super) fn value(row: &Row) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + row.body.len());
    value.push(LAYOUT);
    value.extend_from_slice(&row.mid.to_bytes());
    value.extend_from_slice(&row.cid.to_bytes());
    value.extend_from_slice(&row.from.0.to_be_bytes());
    value.extend_from_slice(&row.kind.to_be_bytes());
    value.extend_from_slice(&row.client_ms.to_be_bytes());
    value.extend_from_slice(&row.server_ms.to_be_bytes());
    value.extend_from_slice(&row.body);
    value
}

/// Reads a row back; `None` when the bytes are none.
pub(super) fn row(key: &[u8], value: &[u8]) -> Option<Row> {
    let (conv, cseq) = key.split_at_checked(16)?;
    let (mid, cid, rest) = ids(value)?;
    let (from, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (client_ms, rest) = rest.split_first_chunk()?;
    let (server_ms, body) = rest.split_first_chunk()?;
    Some(Row {
        conv: ConvId::from_bytes(conv).ok()?,
        cseq: u64::from_be_bytes(cseq.try_into().ok()?),
        mid,
        cid,
        from: DeviceId(u64::from_be_bytes(*from)),
        kind: u32::from_be_bytes(*kind),
        client_ms: u64::from_be_bytes(*client_ms),
        server_ms: u64::from_be_bytes(*server_ms),
        body: Bytes::copy_from_slice(body),
    })
}

/// Only what a digest needs: `cseq` and `mid`.
pub(super) fn place(key: &[u8], value: &[u8]) -> Option<(u64, Mid)> {
    let cseq = key.get(16..)?.try_into().ok()?;
    Some((u64::from_be_bytes(cseq), ids(value)?.0))
}

fn ids(value: &[u8]) -> Option<(Mid, Cid, &[u8])> {
    let (layout, rest) = value.split_first()?;
    let (mid, rest) = rest.split_at_checked(16)?;
    let (cid, rest) = rest.split_at_checked(16)?;
    (*layout == LAYOUT).then_some(())?;
    Some((Mid::from_bytes(mid)?, Cid::from_bytes(cid)?, rest))
}

#[cfg(test)]
mod tests {
    use chat_protocol::UserId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn row_comes_back_as_it_went_in() {
        let conv = ConvId::direct(UserId(1), UserId(2)).unwrap();
        let written = Row {
            conv,
            cseq: 7,
            mid: Mid(Uuid::from_u128(11)),
            cid: Cid(Uuid::from_u128(12)),
            from: DeviceId(256),
            kind: 3,
            client_ms: 4,
            server_ms: 5,
            body: Bytes::from_static(b"sealed"),
        };
        let (key, value) = (key(conv, 7), value(&written));
        assert_eq!(place(&key, &value), Some((7, written.mid)));
        assert_eq!(row(&key, &value), Some(written));
    }

    #[test]
    fn cut_or_foreign_bytes_are_no_row() {
        assert_eq!(row(&[0; KEY], &[LAYOUT; HEAD]), None);
        let key = key(ConvId::direct(UserId(1), UserId(2)).unwrap(), 1);
        assert!(row(&key, &[LAYOUT; HEAD]).is_some());
        assert_eq!(row(&key, &[LAYOUT; HEAD - 1]), None);
        assert_eq!(row(&key, &[LAYOUT + 1; HEAD]), None);
        assert_eq!(row(&key[..20], &[LAYOUT; HEAD]), None);
    }
}
