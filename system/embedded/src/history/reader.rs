//! Reads on snapshots: pages, digests, table rows.
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::history::{ConvDigest, PageRequest, Row};
use chat_ports::tables::Table;
use chat_protocol::ConvId;
use chat_protocol::digest::message_hash;
use fjall::Guard;

use super::rows;
use super::writer::{Files, table_key};

/// Rows of one page; a larger limit is cut to it.
pub(super) const PAGE_ROWS_MAX: u32 = 1_000;

/// One read: what to do with the files, its answer included.
pub(super) type Read = Box<dyn FnOnce(&Files) + Send>;

pub(super) fn page(files: &Files, request: PageRequest) -> Result<Vec<Row>, PortError> {
    let PageRequest { conv, backward, from, limit } = request;
    let limit = limit.min(PAGE_ROWS_MAX) as usize;
    if backward {
        let below = files.messages.range(rows::key(conv, 0)..rows::key(conv, from));
        return below.rev().take(limit).map(row).collect();
    }
    let Some(first) = from.checked_add(1) else { return Ok(Vec::new()) };
    let above = files.messages.range(rows::key(conv, first)..=rows::key(conv, u64::MAX));
    above.take(limit).map(row).collect()
}

fn row(guard: Guard) -> Result<Row, PortError> {
    let (key, value) = guard.into_inner().map_err(failed)?;
    rows::row(&key, &value).ok_or_else(unreadable)
}

pub(super) fn digest(files: &Files, conv: ConvId) -> Result<ConvDigest, PortError> {
    let mut digest = ConvDigest::default();
    for guard in files.messages.prefix(conv.to_bytes()) {
        let (key, value) = guard.into_inner().map_err(failed)?;
        let (cseq, mid) = rows::place(&key, &value).ok_or_else(unreadable)?;
        digest.rows += 1;
        digest.top = digest.top.max(cseq);
        digest.digest = digest.digest.wrapping_add(message_hash(conv, cseq, mid));
    }
    Ok(digest)
}

pub(super) fn get(
    files: &Files,
    table: Table,
    keys: &[u64],
) -> Result<Vec<Option<Bytes>>, PortError> {
    let value = |key: &u64| {
        let value = files.tables.get(table_key(table, *key)).map_err(failed)?;
        Ok(value.map(|v| Bytes::copy_from_slice(&v)))
    };
    keys.iter().map(value).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn failed(error: fjall::Error) -> PortError {
    PortError::Refused(error.to_string())
}

fn unreadable() -> PortError {
    PortError::Refused("a stored row is not readable".to_owned())
}
