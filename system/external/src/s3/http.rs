//! Plain HTTP for the client library, whose own transport insists on TLS and a C library with it.
//!
//! Connections are kept and used again, idle ones for [`IDLE_MAX`], [`IDLE_CONNECTIONS`] of them at most. Time limits of calls are the
//! callers'; here only the connect has one.
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};

/// An idle connection is closed after this long.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Idle connections kept; a further one is closed after its use.
const IDLE_CONNECTIONS: usize = 16;

/// The transport. Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client<Tcp, HttpRequestBody>,
}

impl Http {
    /// A connect that takes longer than `connect` has failed.
    pub(super) fn new(connect: Duration) -> Self {
        let mut tcp = Tcp::new();
        tcp.set_connect_timeout(Some(connect));
        tcp.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(tcp);
        Self { client }
    }
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.client.request(request).await.map_err(|error| {
            let connect = error.is_connect();
            let kind = if connect { HttpErrorKind::Connect } else { HttpErrorKind::Unknown };
            HttpError::new(kind, error)
        })?;
        let cut = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(cut))))
    }
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
