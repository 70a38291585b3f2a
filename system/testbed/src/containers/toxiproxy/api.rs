//! Toxiproxy's HTTP interface, as far as the library does not serve it: what a listener really is, a toxic added that it does not know,
//! one changed, one removed, a listener closed and opened. Statuses count, and every call has a limit.
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::LinkError;
use super::toxic::Toxic;

/// Longest answer that is read; a listener with a few toxics takes less than one KiB.
const BODY_MAX: usize = 256 * 1024;
/// Characters of a refusal that are told.
const WORDS_MAX: usize = 200;

/// A listener as Toxiproxy has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) listen: String,
    pub(super) upstream: String,
    pub(super) enabled: bool,
    pub(super) toxics: Vec<Toxic>,
}

/// The interface. Each call has a connection of its own.
#[derive(Clone, Debug)]
pub(super) struct Api {
    addr: SocketAddr,
    limit: Duration,
}

impl Api {
    /// A call that takes longer than `limit` has failed.
    pub(super) const fn new(addr: SocketAddr, limit: Duration) -> Self {
        Self { addr, limit }
    }

    /// The listener as it is now.
    pub(super) async fn listener(&self, name: &str) -> Result<Seen, LinkError> {
        let act = format!("show listener `{name}`");
        let path = format!("/proxies/{name}");
        let body = self.ask(&act, Method::GET, &path, None).await?;
        serde_json::from_slice(&body)
            .map_err(|error| LinkError::Odd { act, why: error.to_string() })
    }

    /// Adds a toxic.
    pub(super) async fn add(&self, listener: &str, toxic: &Toxic) -> Result<(), LinkError> {
        let act = format!("add toxic `{}` to `{listener}`", toxic.name);
        let path = format!("/proxies/{listener}/toxics");
        let body = json!(toxic);
        self.ask(&act, Method::POST, &path, Some(&body)).await.map(drop)
    }

    /// Gives a toxic that is there the attributes and the toxicity of this one.
    pub(super) async fn change(&self, listener: &str, toxic: &Toxic) -> Result<(), LinkError> {
        let act = format!("change toxic `{}` of `{listener}`", toxic.name);
        let path = format!("/proxies/{listener}/toxics/{}", toxic.name);
        let body = json!({ "attributes": toxic.attributes, "toxicity": toxic.toxicity });
        self.ask(&act, Method::PATCH, &path, Some(&body)).await.map(drop)
    }

    /// Removes one toxic.
    pub(super) async fn remove(&self, listener: &str, toxic: &str) -> Result<(), LinkError> {
        let act = format!("remove toxic `{toxic}` of `{listener}`");
        let path = format!("/proxies/{listener}/toxics/{toxic}");
        self.ask(&act, Method::DELETE, &path, None).await.map(drop)
    }

    /// Opens a listener, or closes it with all of its connections.
    pub(super) async fn enable(&self, listener: &str, enabled: bool) -> Result<(), LinkError> {
        let act = format!("{} listener `{listener}`", if enabled { "open" } else { "close" });
        let path = format!("/proxies/{listener}");
        let body = json!({ "enabled": enabled });
        self.ask(&act, Method::PATCH, &path, Some(&body)).await.map(drop)
    }

    async fn ask(
        &self,
        act: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, LinkError> {
        let answer = tokio::time::timeout(self.limit, self.exchange(method, path, body)).await;
        let (status, body) = answer
            .map_err(|_| LinkError::Silent { act: act.to_owned(), limit: self.limit })?
            .map_err(|why| LinkError::Broken { act: act.to_owned(), why: why.to_string() })?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let said = String::from_utf8_lossy(&body).trim().chars().take(WORDS_MAX).collect();
        Err(LinkError::Refused { act: act.to_owned(), status, said })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let body = body.map_or_else(String::new, Value::to_string);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.addr.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))?;
        let stream = TcpStream::connect(self.addr).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = pin!(async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), BODY_MAX).collect().await?;
            Ok((status, body.to_bytes()))
        });
        // The connection moves on only while it is polled. When it ends first, what it has read is still to be had.
        match select(answer, pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        }
    }
}
