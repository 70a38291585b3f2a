//! The one public port: WebSocket handshakes go to connections, everything else to the REST edge.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat_ports::net::{self, Listener, Stream};
use chat_protocol::codec::Codec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response,
};
use tokio_tungstenite::tungstenite::http::{
    HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::TokenBucket;
use crate::connection::{self, Counted};
use crate::hub::{Hub, lock};
use crate::rest::Edge;

/// How a WebSocket request begins.
const WEBSOCKET: &[u8] = b"GET /v1/ws";
/// The header of a handshake, in lower case.
const UPGRADE: &[u8] = b"\r\nupgrade:";
/// Bytes of a request that are looked at.
const LOOKED_AT: usize = 2 * 1024;
/// Pause before a request line that came in pieces is looked at again.
const PIECES: Duration = Duration::from_millis(5);
/// Pause after a failed accept, for example when there are no more file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Bytes of a refused request that are read, so that the refusal is not lost in a reset.
const REFUSED_READ: usize = 8 * 1024;

/// Accepts until `stop`, which also closes the listener.
///
/// HTTP connections and handshakes end with `ends`; WebSocket connections are told one by one.
pub(crate) async fn run(
    listener: Listener,
    hub: Arc<Hub>,
    tracker: TaskTracker,
    stop: CancellationToken,
    ends: CancellationToken,
) {
    let edge = Edge::new(Arc::clone(&hub));
    let bucket =
        Arc::new(Mutex::new(TokenBucket::new(hub.deps.limits.handshakes_per_s, Instant::now())));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = net::accept(&listener) => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "A connection was not accepted.");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Some(socket) = Counting::start(&hub, |hub| &hub.sockets, hub.deps.limits.connections)
        else {
            hub.metrics.connections_refused.add(1);
            continue;
        };
        let (hub, edge, bucket) = (Arc::clone(&hub), edge.clone(), Arc::clone(&bucket));
        let ends = ends.clone();
        tracker.spawn(async move {
            let upgraded = tokio::select! {
                () = ends.cancelled() => None,
                upgraded = serve(stream, &hub, edge, &bucket) => upgraded,
            };
            // Everybody who is connected when the node leaves is told, so nobody may come in after that.
            if let Some((accepted, codec)) = upgraded
                && hub.accepting()
            {
                connection::serve(accepted, codec, hub).await;
            }
            drop(socket);
        });
    }
}

/// One of a limited number, until it is dropped.
struct Counting {
    hub: Arc<Hub>,
    which: fn(&Hub) -> &AtomicUsize,
}

impl Counting {
    fn start(hub: &Arc<Hub>, which: fn(&Hub) -> &AtomicUsize, limit: usize) -> Option<Self> {
        if which(hub).fetch_add(1, Relaxed) >= limit {
            which(hub).fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self { hub: Arc::clone(hub), which })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        (self.which)(&self.hub).fetch_sub(1, Relaxed);
    }
}

/// Serves HTTP, or answers a WebSocket that was let in.
async fn serve(
    stream: Stream,
    hub: &Arc<Hub>,
    edge: Edge,
    bucket: &Mutex<TokenBucket>,
) -> Option<(connection::Socket, Codec)> {
    let wait = hub.deps.limits.rest_header_wait.min(hub.deps.timers.hello);
    match tokio::time::timeout(wait, is_websocket(&stream)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            edge.serve(stream).await;
            return None;
        }
        Ok(Err(_)) | Err(_) => return None,
    }
    let admitted = if hub.accepting() {
        lock(bucket).take(Instant::now())
    } else {
        Err(Duration::from_secs(1))
    };
    let pending = match admitted {
        Ok(()) => Counting::start(hub, |hub| &hub.handshakes, hub.deps.limits.handshakes_pending),
        Err(_) => None,
    };
    let Some(pending) = pending else {
        hub.metrics.admission_refused.add(1);
        hub.deps.observer.sometimes("admission-refused");
        let after = admitted.err().map_or(1, |wait| wait.as_secs() + 1);
        refuse(stream, after).await;
        return None;
    };
    let mut codec = Codec::MessagePack;
    let choice = Choice { codec: &mut codec };
    let accepting = accept_hdr_async_with_config(Counted::new(stream), choice, Some(config(hub)));
    let accepted = tokio::time::timeout(wait, accepting).await;
    drop(pending);
    let Ok(Ok(socket)) = accepted else {
        hub.metrics.handshakes_failed.add(1);
        return None;
    };
    hub.metrics.handshakes.add(1);
    Some((socket, codec))
}

fn config(hub: &Hub) -> WebSocketConfig {
    let most = chat_protocol::limits::FRAME_MAX;
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(hub.deps.limits.unwritten_bytes.max(32 * 1024))
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
}

/// Looks at the request without taking it. One for the WebSocket that ends without asking for an upgrade is plain HTTP.
async fn is_websocket(stream: &Stream) -> std::io::Result<bool> {
    // On the heap, so that it does not stay part of the connection's task.
    let mut head = vec![0_u8; LOOKED_AT];
    loop {
        let count = stream.peek(&mut head).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let seen = count.min(WEBSOCKET.len());
        if head[..seen] != WEBSOCKET[..seen] {
            return Ok(false);
        }
        if count > WEBSOCKET.len() {
            let text = head[..count].to_ascii_lowercase();
            let whole = text.ends_with(b"\r\n\r\n");
            let asks = text.windows(UPGRADE.len()).any(|part| part == UPGRADE);
            return Ok(matches!(head[WEBSOCKET.len()], b' ' | b'?') && (asks || !whole));
        }
        tokio::time::sleep(PIECES).await;
    }
}

/// Says 503 before any other work.
async fn refuse(mut stream: Stream, retry_after_s: u64) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {retry_after_s}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let mut request = vec![0_u8; REFUSED_READ];
    let say = async {
        // The request is there already, or at least its first line.
        let _taken = stream.read(&mut request).await?;
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), say).await {
        tracing::debug!(%error, "A refusal was not heard.");
    }
}

/// Picks the subprotocol; `MessagePack` when the client names none.
struct Choice<'a> {
    codec: &'a mut Codec,
}

impl Callback for Choice<'_> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let offered: Vec<&str> = request
            .headers()
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        if offered.is_empty() {
            return Ok(response);
        }
        let Some(codec) = offered.iter().find_map(|name| Codec::from_subprotocol(name)) else {
            let mut refusal =
                ErrorResponse::new(Some("none of the subprotocols is spoken here".to_owned()));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            return Err(refusal);
        };
        *self.codec = codec;
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(codec.subprotocol()));
        Ok(response)
    }
}
