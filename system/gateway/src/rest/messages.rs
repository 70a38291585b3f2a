//! Send by REST, and pages of history.
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use chat_protocol::frame::{RejectCode, Send, Sent};
use chat_protocol::limits::{BODY_MAX, HISTORY_PAGE_MAX, PAGE_WAIT};
use chat_protocol::rest::{MessagePage, PageMessage};
use chat_protocol::{Cid, ConvId, DeviceId, Mid, node};
use serde::Deserialize;
use tokio::time::timeout;

use super::problem::Problem;
use super::{Json, Path, Query, caller};
use crate::connection::node_send;
use crate::hub::{Hub, SendAnswer};

/// Rows of a page when the call does not say how many.
const PAGE_DEFAULT: u32 = 50;

/// Body of a send; the answer is a `Sent`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sending {
    kind: u32,
    #[serde(with = "chat_protocol::codec::body")]
    body: Bytes,
    client_ms: u64,
    #[serde(default = "first")]
    attempt: u32,
}

fn first() -> u32 {
    1
}

/// Which page.
#[derive(Deserialize)]
pub(super) struct Asked {
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<u32>,
    min_cseq: Option<u64>,
}

/// Takes the id out of what waits, however the wait ends.
struct Waiting<'a> {
    hub: &'a Hub,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hub.give_up(self.id);
    }
}

pub(super) async fn send(
    State(hub): State<Arc<Hub>>,
    Path((conv, cid)): Path<(String, Cid)>,
    headers: HeaderMap,
    Json(sending): Json<Sending>,
) -> Result<(StatusCode, axum::Json<Sent>), Problem> {
    hub.metrics.rest_requests.add(1);
    hub.metrics.rest_sends.add(1);
    let device = caller(&hub, &headers)?;
    let conv = conversation(&conv, device).map_err(|problem| problem.with_effect("none"))?;
    if sending.body.len() > BODY_MAX {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the message is too large")
            .with_effect("none"));
    }
    let busy =
        || Problem::unavailable("nobody can take the send at the moment").with_effect("none");
    let (id, answer) = hub.await_send().ok_or_else(busy)?;
    let _waiting = Waiting { hub: &hub, id };
    let Sending { kind, body, client_ms, attempt } = sending;
    let send = node_send(device, id, &Send { cid, attempt, conv, kind, body, client_ms });
    if !hub.offer_send(conv, send) {
        return Err(busy());
    }
    let unknown = || Problem::unavailable("the send was not answered").with_effect("unknown");
    match timeout(hub.deps.timers.send_ack, answer).await {
        Ok(Ok(SendAnswer::Sent(sent))) => {
            let mid = Mid::from_bytes(&sent.mid).ok_or_else(unknown)?;
            let status = if sent.dup { StatusCode::OK } else { StatusCode::CREATED };
            let node::Sent { cseq, server_ms, dup, .. } = sent;
            Ok((status, axum::Json(Sent { cid, mid, cseq, server_ms, dup })))
        }
        Ok(Ok(SendAnswer::Reject(reject))) => Err(rejected(&reject)),
        Ok(Err(_)) | Err(_) => Err(unknown()),
    }
}

fn rejected(reject: &node::Reject) -> Problem {
    let (status, title) = match RejectCode::from_wire(reject.code) {
        RejectCode::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "nobody can take the send at the moment")
        }
        RejectCode::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "the log does not answer or cannot accept")
        }
        RejectCode::Stale => (StatusCode::CONFLICT, "the send is too old or too far ahead"),
        RejectCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the message is too large"),
        RejectCode::Forbidden => (StatusCode::FORBIDDEN, "the sender is not in the conversation"),
        RejectCode::UnknownUser => {
            (StatusCode::NOT_FOUND, "the conversation names a user that does not exist")
        }
        RejectCode::CidTaken => (StatusCode::CONFLICT, "the cid stands for another message"),
    };
    let mut problem = Problem::new(status, title).with_effect(if reject.effect_unknown {
        "unknown"
    } else {
        "none"
    });
    if reject.retryable {
        problem.retry_after_s = Some(u64::from(reject.retry_after_ms).div_ceil(1_000).max(1));
    }
    problem
}

fn conversation(text: &str, device: DeviceId) -> Result<ConvId, Problem> {
    let conv: ConvId = text
        .parse()
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is no such conversation"))?;
    match conv.peer(device.user()) {
        Some(_) => Ok(conv),
        None => Err(Problem::new(StatusCode::FORBIDDEN, "the caller is not in the conversation")),
    }
}

pub(super) async fn page(
    State(hub): State<Arc<Hub>>,
    Path(conv): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<axum::Json<MessagePage>, Problem> {
    hub.metrics.rest_requests.add(1);
    hub.metrics.rest_reads.add(1);
    let device = caller(&hub, &headers)?;
    let conv = conversation(&conv, device)?;
    let (backward, from) = match (asked.before, asked.after) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "either `before` or `after`"));
        }
        (None, Some(after)) => (false, after),
        (before, None) => (true, before.unwrap_or(u64::MAX)),
    };
    let unavailable = || Problem::unavailable("the page is not readable yet");
    let (id, answer) = hub.await_read().ok_or_else(unavailable)?;
    let _waiting = Waiting { hub: &hub, id };
    let call = node::Call {
        id,
        conv: conv.to_bytes().to_vec().into(),
        backward,
        from,
        limit: asked.limit.unwrap_or(PAGE_DEFAULT).clamp(1, HISTORY_PAGE_MAX),
        min_cseq: asked.min_cseq.unwrap_or(0),
    };
    let (_, stream) = hub.reads.owner(conv.hash64()).ok_or_else(unavailable)?;
    stream.offer(call).map_err(|_| unavailable())?;
    let reply = match timeout(PAGE_WAIT, answer).await {
        Ok(Ok(reply)) if reply.ok => reply,
        Ok(_) | Err(_) => return Err(unavailable()),
    };
    let messages = reply.rows.into_iter().filter_map(message).collect();
    Ok(axum::Json(MessagePage { conv, messages }))
}

/// A row for the answer; `None` when its ids are not ids, which history never answers.
fn message(row: node::Row) -> Option<PageMessage> {
    let from_device = DeviceId(row.from_device);
    Some(PageMessage {
        cseq: row.cseq,
        mid: Mid::from_bytes(&row.mid)?,
        cid: Cid::from_bytes(&row.cid)?,
        from: from_device.user(),
        from_device,
        kind: row.kind,
        body: row.body,
        client_ms: row.client_ms,
        server_ms: row.server_ms,
    })
}
