//! Errors as RFC 9457 problem documents.
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A problem document; a retryable one says after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) retry_after_s: Option<u64>,
    /// For sends: `none` is a promise that nothing of the attempt surfaces.
    pub(crate) effect: Option<&'static str>,
}

impl Problem {
    /// A problem that trying again does not cure.
    pub(crate) fn new(status: StatusCode, title: &'static str) -> Self {
        Self { status, title, retry_after_s: None, effect: None }
    }

    /// Something is not reachable at the moment.
    pub(crate) fn unavailable(title: &'static str) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, title) }
    }

    /// The same with what the attempt may have left behind.
    pub(crate) fn with_effect(self, effect: &'static str) -> Self {
        Self { effect: Some(effect), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = serde_json::json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
        });
        if let Some(effect) = self.effect {
            document["effect"] = effect.into();
        }
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut response = (self.status, [kind], document.to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
