//! The REST edge: tokens, send, pages of history, health.
//!
//! A request line and its headers take at most 64 KiB and `Limits::rest_header_wait`; a body takes at most
//! `Limits::rest_body_bytes`. A request that is not answered within [`ANSWER_WAIT`] gets 503. Errors are problem documents.
mod messages;
mod problem;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use chat_ports::net::Stream;
use chat_protocol::DeviceId;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;

use crate::hub::Hub;
use problem::Problem;

/// How long a request may take from its headers to its answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// Bytes of a request line and its headers.
const HEAD_MAX: usize = 64 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// Serves HTTP connections.
#[derive(Clone)]
pub(crate) struct Edge {
    hub: Arc<Hub>,
    router: Router,
}

impl Edge {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        let router = Router::new()
            .route("/healthz", get(|| async { StatusCode::OK }))
            .route("/readyz", get(ready))
            .route("/v1/ws", get(not_a_handshake))
            .route("/v1/tokens", post(tokens::create))
            .route("/v1/conversations/{conv}/messages/{cid}", put(messages::send))
            .route("/v1/conversations/{conv}/messages", get(messages::page))
            .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
            .method_not_allowed_fallback(|| async {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
            })
            .layer(DefaultBodyLimit::max(hub.deps.limits.rest_body_bytes))
            .layer(axum::middleware::from_fn(in_time))
            .with_state(Arc::clone(&hub));
        Self { hub, router }
    }

    /// Serves one connection until it ends.
    pub(crate) async fn serve(self, stream: Stream) {
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(self.hub.deps.limits.rest_header_wait)
            .max_buf_size(HEAD_MAX)
            .max_headers(HEADERS_MAX);
        let service = TowerToHyperService::new(self.router);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "An HTTP connection broke.");
        }
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WAIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("it took too long").with_effect("unknown").into_response(),
    }
}

async fn ready(State(hub): State<Arc<Hub>>) -> StatusCode {
    if hub.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn not_a_handshake() -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, "this address takes WebSocket handshakes")
}

/// Ids of the path; what cannot be one is a problem document.
struct Path<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let unreadable = Problem::new(StatusCode::BAD_REQUEST, "an id of the path is none");
        path.map(|path| Self(path.0)).map_err(|_| unreadable.with_effect("none"))
    }
}

/// Parameters of the query; what cannot be read is a problem document.
struct Query<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let unreadable = Problem::new(StatusCode::BAD_REQUEST, "a parameter is not a number");
        query.map(|query| Self(query.0)).map_err(|_| unreadable)
    }
}

/// A JSON body whose faults are problem documents.
struct Json<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
                    .with_effect("none"))
            }
            Err(rejection) => {
                Err(Problem::new(rejection.status(), "the body is not the JSON of this call")
                    .with_effect("none"))
            }
        }
    }
}

/// The device that a request's bearer token names.
fn caller(hub: &Hub, headers: &HeaderMap) -> Result<DeviceId, Problem> {
    let refused =
        Problem::new(StatusCode::UNAUTHORIZED, "a good bearer token is needed").with_effect("none");
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or(refused)?;
    hub.deps.token_key.check(token, hub.deps.clock.wall_ms() / 1_000).map_err(|_| refused)
}
