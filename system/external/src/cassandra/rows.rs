//! A row as it is bound to a statement and as it is read back.
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::history::Row;
use chat_protocol::{Cid, ConvId, DeviceId, Mid};
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use uuid::Uuid;

/// Rows of a segment: at most so many share a partition.
pub const SEGMENT_ROWS: i64 = 4_096;

/// Segment of a `cseq`.
pub(super) const fn segment(cseq: i64) -> i64 {
    cseq / SEGMENT_ROWS
}

/// What a message is beside its key and body, in the order of the column: mid, cid, device, kind, client's stamp, log's stamp.
///
/// It is one column, because the server pays for a row by its cells: with one for each of the six, a row cost it a sixth more where
/// rows share a segment, and a third more where they do not.
pub(super) type Head = (Uuid, Uuid, i64, i32, i64, i64);

/// A message as it is read: `cseq`, head, body.
pub(super) type Stored = (i64, Head, Bytes);

/// The row of a stored message.
pub(super) fn row(conv: ConvId, (cseq, head, body): Stored) -> Row {
    let (mid, cid, from, kind, client_ms, server_ms) = head;
    Row {
        conv,
        cseq: cseq.cast_unsigned(),
        mid: Mid(mid),
        cid: Cid(cid),
        from: DeviceId(from.cast_unsigned()),
        kind: kind.cast_unsigned(),
        client_ms: client_ms.cast_unsigned(),
        server_ms: server_ms.cast_unsigned(),
        body,
    }
}

/// Other numbers than the `cseq` are only carried, so all their bits fit whatever a client put into them.
fn head(row: &Row) -> Head {
    (
        row.mid.0,
        row.cid.0,
        row.from.0.cast_signed(),
        row.kind.cast_signed(),
        row.client_ms.cast_signed(),
        row.server_ms.cast_signed(),
    )
}

/// The `cseq` of a row as a signed column, whose order must be the order of pages.
pub(super) fn cseq(row: &Row) -> Result<i64, PortError> {
    i64::try_from(row.cseq)
        .map_err(|_| PortError::Refused(format!("no column holds the cseq {}", row.cseq)))
}

/// What one statement of a batch writes.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// That a segment above the first exists.
    Segment(ConvId, i64),
    /// A message, with its `cseq` as a column.
    Message(&'a Row, i64),
}

impl SerializeRow for Line<'_> {
    fn serialize(
        &self,
        ctx: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        match *self {
            Line::Segment(conv, seg) => (&conv.to_bytes()[..], seg).serialize(ctx, writer),
            Line::Message(row, cseq) => {
                let key = (&row.conv.to_bytes()[..], segment(cseq));
                (key.0, key.1, cseq, head(row), &row.body[..]).serialize(ctx, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}
