//! Rows, pages and digests.
use std::sync::Arc;

use async_trait::async_trait;
use chat_ports::PortError;
use chat_ports::history::{ConvDigest, History, PageRequest, Row};
use chat_protocol::digest::message_hash;
use chat_protocol::{ConvId, Mid};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};

use super::batches::{self, Request};
use super::failure::of_all;
use super::pages::Page;
use super::rows::{Head, Line};
use super::store::{Handle, Shared};
use super::way::Way;

/// `digests` reads whole conversations, so it has this many times the limit of a call; each of its requests has the plain one.
pub const DIGEST_CALLS: u32 = 10;
/// Requests of one write under way at a time.
const WRITES_AT_ONCE: usize = 64;
/// Segments of a conversation above the first that a digest reads, 400 million rows; one that has more is refused.
const DIGEST_SEGMENTS: i32 = 100_000;
/// Conversations one `digests` reads at a time.
const DIGESTS_AT_ONCE: usize = 16;

#[async_trait]
impl History for Handle {
    async fn upsert(&self, rows: Vec<Row>) -> Result<(), PortError> {
        let requests = batches::requests(&rows)?;
        let shared = Arc::clone(&self.shared);
        self.call(shared.call, async {
            let way = shared.way();
            let writes: Vec<_> =
                requests.iter().map(|request| write(&shared, &way, request)).collect();
            of_all(stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).collect().await)
        })
        .await
    }

    async fn page(&self, request: PageRequest) -> Result<Vec<Row>, PortError> {
        let shared = Arc::clone(&self.shared);
        self.call(shared.call, Page::of(&shared.way(), request).read()).await
    }

    async fn digests(&self, convs: &[ConvId]) -> Result<Vec<ConvDigest>, PortError> {
        let shared = Arc::clone(&self.shared);
        self.call(shared.call * DIGEST_CALLS, async {
            let way = shared.way();
            let digests: Vec<_> = convs.iter().map(|conv| digest(&way, *conv)).collect();
            stream::iter(digests).buffered(DIGESTS_AT_ONCE).try_collect().await
        })
        .await
    }
}

async fn write(shared: &Shared, way: &Way<'_>, request: &Request<'_>) -> Result<(), PortError> {
    let statements = way.statements();
    let prepared = |line: &Line<'_>| match line {
        Line::Segment(..) => &statements.insert_segment,
        Line::Message(..) => &statements.insert_message,
    };
    if let [line] = &request.lines[..] {
        way.request(way.session().execute_unpaged(prepared(line), line)).await?;
    } else {
        let statement = |line| BatchStatement::PreparedStatement(prepared(line).clone());
        let of_lines = request.lines.iter().map(statement).collect();
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, of_lines);
        batch.set_is_idempotent(true);
        way.request(way.session().batch(&batch, &request.lines)).await?;
    }
    shared.requests.add(1);
    shared.rows.add(request.rows as u64);
    Ok(())
}

async fn digest(way: &Way<'_>, conv: ConvId) -> Result<ConvDigest, PortError> {
    let statements = way.statements();
    let bytes = conv.to_bytes();
    let mut segments = vec![0];
    let listed = (&bytes[..], 1_i64, DIGEST_SEGMENTS);
    way.read(&statements.segments_up, listed, |(segment,): (i64,)| segments.push(segment)).await?;
    if segments.len() > DIGEST_SEGMENTS as usize {
        return Err(PortError::Refused(format!("{conv} has {DIGEST_SEGMENTS} segments or more")));
    }
    let mut digest = ConvDigest::default();
    for segment in segments {
        way.read(&statements.places, (&bytes[..], segment), |(cseq, head): (i64, Head)| {
            let cseq = cseq.cast_unsigned();
            digest.rows += 1;
            digest.top = digest.top.max(cseq);
            digest.digest = digest.digest.wrapping_add(message_hash(conv, cseq, Mid(head.0)));
        })
        .await?;
    }
    Ok(digest)
}
