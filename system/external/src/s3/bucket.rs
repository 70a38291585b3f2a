//! Makes the bucket: one signed request, since the client library knows objects only.
use chat_ports::PortError;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody, HttpResponse, HttpService as _};

use super::config::{REGION, S3Config};
use super::failure::{of_http, port_error};
use super::http::Http;
use super::signing::Sha2;

/// What a server says when the bucket is there already and ours.
const OURS: &str = "BucketAlreadyOwnedByYou";
/// Bytes of an answer that are looked at.
const ANSWER_MAX: usize = 64 * 1024;

/// Makes the bucket; one that is ours already is no error. The caller bounds the time.
pub(super) async fn create(config: &S3Config, http: &Http) -> Result<(), PortError> {
    let request = signed(config)?;
    let answer = http.call(request).await.map_err(of_http)?;
    judge(answer).await
}

fn signed(config: &S3Config) -> Result<HttpRequest, PortError> {
    let refused = |what: &dyn std::fmt::Display| PortError::Refused(what.to_string());
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    let address = format!("{}/{}", config.endpoint, config.bucket);
    *request.uri_mut() = address.parse().map_err(|error| refused(&error))?;
    *request.method_mut() = "PUT".parse().map_err(|error| refused(&error))?;
    let credential = AwsCredential {
        key_id: config.access_key.clone(),
        secret_key: config.secret_key.clone(),
        token: None,
    };
    let authorizer = AwsAuthorizer::new(&credential, "s3", REGION).with_crypto(&Sha2);
    authorizer.try_authorize(&mut request, None).map_err(port_error)?;
    Ok(request)
}

async fn judge(answer: HttpResponse) -> Result<(), PortError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = answer.into_body().bytes().await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body[..body.len().min(ANSWER_MAX)]);
    if status.as_u16() == 409 && text.contains(OURS) {
        return Ok(());
    }
    let why = format!("the bucket was not made: {status} {text}");
    Err(if status.is_client_error() { PortError::Refused(why) } else { PortError::Unknown(why) })
}
