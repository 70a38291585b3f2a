//! Which rows share a request: those of one segment, up to a number of rows and of bytes.
//!
//! The server applies the rows of a segment as one, with one wait for its commit log. What a request has of further segments it applies
//! one after the other on one thread, each with a wait of its own; requests that arrive together wait together (`docs/decisions.md`, 55).
use chat_ports::PortError;
use chat_ports::history::Row;

use super::rows::{self, Line};

/// Rows of a request at most.
pub const BATCH_ROWS: usize = 50;
/// Bytes of a request at most, counted as 256 a row and its body; a larger row travels alone. As it comes, the server refuses a
/// batch over several partitions above 50 KiB (`batch_size_fail_threshold`); one row by itself may have any size.
pub const BATCH_BYTES: usize = 40 * 1024;
/// More than the server counts for a row besides its body: keys, head, and the stamps of two cells.
const ROW_BYTES: usize = 256;

/// Lines of one request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Request<'a> {
    pub(super) lines: Vec<Line<'a>>,
    pub(super) rows: usize,
}

/// Cuts rows into requests. Refuses all when one cannot be stored.
pub(super) fn requests(rows: &[Row]) -> Result<Vec<Request<'_>>, PortError> {
    let keyed = rows.iter().map(|row| Ok((row, rows::cseq(row)?)));
    let mut keyed: Vec<_> = keyed.collect::<Result<_, PortError>>()?;
    keyed.sort_by_key(|(row, cseq)| (row.conv, *cseq));
    let mut requests: Vec<Request<'_>> = Vec::with_capacity(keyed.len().div_ceil(BATCH_ROWS));
    let (mut bytes, mut place) = (0, None);
    for (row, cseq) in keyed {
        let own = ROW_BYTES + row.body.len();
        bytes += own;
        let segment = (row.conv, rows::segment(cseq));
        let full = |last: &Request<'_>| {
            place != Some(segment) || last.rows == BATCH_ROWS || bytes > BATCH_BYTES
        };
        if requests.last().is_none_or(full) {
            requests.push(Request::default());
            bytes = own;
            place = Some(segment);
            // Each request says by itself which segment it touches: it may be the only one that arrives.
            if segment.1 > 0 {
                push(&mut requests, Line::Segment(segment.0, segment.1), 0);
                // With its mark, a row that is too large for company would be a batch again.
                if own > BATCH_BYTES {
                    requests.push(Request::default());
                }
            }
        }
        push(&mut requests, Line::Message(row, cseq), 1);
    }
    Ok(requests)
}

fn push<'a>(requests: &mut [Request<'a>], line: Line<'a>, rows: usize) {
    if let Some(last) = requests.last_mut() {
        last.lines.push(line);
        last.rows += rows;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chat_protocol::{Cid, ConvId, DeviceId, Mid, UserId};
    use uuid::Uuid;

    use super::*;

    fn row(user: u64, cseq: u64, body: usize) -> Row {
        Row {
            conv: ConvId::direct(UserId(0), UserId(user)).unwrap(),
            cseq,
            mid: Mid(Uuid::nil()),
            cid: Cid(Uuid::nil()),
            from: DeviceId(0),
            kind: 0,
            client_ms: 0,
            server_ms: 0,
            body: Bytes::from(vec![0; body]),
        }
    }

    fn sizes(rows: &[Row]) -> Vec<usize> {
        requests(rows).unwrap().iter().map(|request| request.rows).collect()
    }

    #[test]
    fn requests_are_full_before_the_next_begins() {
        let rows: Vec<_> = (1..=120).map(|cseq| row(1, cseq, 300)).collect();
        assert_eq!(sizes(&rows), [50, 50, 20]);
        assert_eq!(sizes(&[]), [0; 0]);
    }

    #[test]
    fn each_conversation_has_a_request_of_its_own() {
        let rows = [row(2, 1, 300), row(1, 1, 300), row(2, 2, 300), row(3, 1, 300)];
        assert_eq!(sizes(&rows), [1, 2, 1]);
    }

    #[test]
    fn large_bodies_make_smaller_requests_and_one_of_its_own_travels_alone() {
        let rows: Vec<_> = (1..=20).map(|cseq| row(1, cseq, 10_000)).collect();
        assert_eq!(sizes(&rows), [3, 3, 3, 3, 3, 3, 2]);
        assert_eq!(sizes(&[row(1, 1, 10), row(1, 2, 96 * 1024), row(1, 3, 10)]), [1, 1, 1]);
    }

    #[test]
    fn rows_of_a_segment_stand_side_by_side_behind_one_mark() {
        let rows = [row(2, 4_097, 0), row(1, 1, 0), row(2, 4_096, 0), row(2, 4_095, 0)];
        let conv = rows[0].conv;
        let all = requests(&rows).unwrap();
        let lines: Vec<_> = all.iter().flat_map(|request| &request.lines).collect();
        assert_eq!(
            lines,
            [
                &Line::Message(&rows[1], 1),
                &Line::Message(&rows[3], 4_095),
                &Line::Segment(conv, 1),
                &Line::Message(&rows[2], 4_096),
                &Line::Message(&rows[0], 4_097),
            ]
        );
    }

    #[test]
    fn every_request_marks_its_segments_itself() {
        let rows: Vec<_> = (5_000..5_060).map(|cseq| row(1, cseq, 0)).collect();
        let mark = Line::Segment(rows[0].conv, 1);
        assert!(requests(&rows).unwrap().iter().all(|request| request.lines[0] == mark));
    }

    #[test]
    fn mark_of_a_row_that_travels_alone_travels_alone_too() {
        let rows = [row(1, 5_000, 96 * 1024), row(1, 5_001, 0), row(1, 5_002, 96 * 1024)];
        let all = requests(&rows).unwrap();
        let sizes: Vec<_> = all.iter().map(|request| (request.lines.len(), request.rows)).collect();
        assert_eq!(sizes, [(1, 0), (1, 1), (2, 1), (1, 0), (1, 1)]);
    }

    #[test]
    fn row_that_no_column_holds_refuses_the_whole_write() {
        assert!(matches!(
            requests(&[row(1, 1, 0), row(1, u64::MAX, 0)]),
            Err(PortError::Refused(_))
        ));
    }
}
