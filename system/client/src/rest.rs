//! The REST calls: tokens and pages of history, over a connection that is kept while there is more to ask.
use bytes::Bytes;
use chat_protocol::frame::DeviceClass;
use chat_protocol::rest::{MessagePage, TokenAnswer, TokenRequest};
use chat_protocol::{ConvId, DeviceId};
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest answer that is read, bytes: a full page of largest messages in base64, and some.
pub const ANSWER_MAX: usize = 40 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The connection broke.
    #[error("the connection broke")]
    Connection(#[source] hyper::Error),
    /// The connection ended before the answer.
    #[error("the connection ended before the answer")]
    Ended,
    /// Another status than was asked for, with the seconds of `Retry-After`.
    #[error("the server answered {0}")]
    Status(StatusCode, Option<u64>),
    /// An answer that is too large or breaks off.
    #[error("the answer cannot be read")]
    Body,
    /// An answer that is not what was asked for.
    #[error("the answer is not what was asked for")]
    Json(#[source] serde_json::Error),
}

/// A kept connection for REST calls, one at a time.
pub struct Rest {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    ended: bool,
}

impl Rest {
    /// Speaks HTTP/1.1 on a fresh connection.
    pub async fn start(stream: TcpStream) -> Result<Self, RestError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(RestError::Connection)?;
        Ok(Self { sender, connection, ended: false })
    }

    /// Registers a device and returns its token.
    pub async fn token(
        &mut self,
        device: DeviceId,
        class: DeviceClass,
    ) -> Result<String, RestError> {
        let ask = TokenRequest { user: device.user(), device, class };
        let body = serde_json::to_vec(&ask).map_err(RestError::Json)?;
        let answer = self.call(Method::POST, "/v1/tokens", None, body).await?;
        let answer: TokenAnswer = serde_json::from_slice(&answer).map_err(RestError::Json)?;
        Ok(answer.token)
    }

    /// Messages of a conversation above `after`, oldest first. With `min_cseq` the server waits until that one is readable.
    pub async fn page(
        &mut self,
        token: &str,
        conv: ConvId,
        after: u64,
        limit: u32,
        min_cseq: Option<u64>,
    ) -> Result<MessagePage, RestError> {
        let least = min_cseq.map(|cseq| format!("&min_cseq={cseq}")).unwrap_or_default();
        let path = format!("/v1/conversations/{conv}/messages?after={after}&limit={limit}{least}");
        let answer = self.call(Method::GET, &path, Some(token), Vec::new()).await?;
        serde_json::from_slice(&answer).map_err(RestError::Json)
    }

    async fn call(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Bytes, RestError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "chat");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(body.into())).expect("method, path and headers are well-formed");
        if self.ended {
            return Err(RestError::Ended);
        }
        let Self { sender, connection, ended } = self;
        let exchange = async {
            sender.ready().await.map_err(RestError::Connection)?;
            let response = sender.send_request(request).await.map_err(RestError::Connection)?;
            let status = response.status();
            let seconds =
                response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), ANSWER_MAX)
                .collect()
                .await
                .map_err(|_| RestError::Body)?;
            if status.is_success() {
                Ok(body.to_bytes())
            } else {
                Err(RestError::Status(status, seconds))
            }
        };
        // The connection is driven only while a call is under way: nobody has to own a task for it.
        match select(std::pin::pin!(exchange), connection).await {
            Either::Left((answer, _)) => answer,
            Either::Right((result, exchange)) => {
                *ended = true;
                result.map_err(RestError::Connection)?;
                exchange.await
            }
        }
    }
}
