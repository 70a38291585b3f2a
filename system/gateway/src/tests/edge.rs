//! The REST edge.
use std::fmt::Write as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// One request on a connection of its own; answers the status and the whole response.
async fn call(
    bed: &Bed,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, String) {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    if let Some(token) = token {
        write!(request, "Authorization: Bearer {token}\r\n").unwrap();
    }
    write!(
        request,
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut stream = net::dial(bed.addr, LIMIT).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    timeout(LIMIT, stream.read_to_string(&mut response)).await.unwrap().unwrap();
    (response[9..12].parse().unwrap(), response)
}

#[tokio::test]
async fn a_token_registers_its_device_and_lets_it_in() {
    let bed = Bed::start(Setup::default()).await;
    let (status, response) =
        call(&bed, "POST", "/v1/tokens", None, r#"{"user":7,"device":1,"class":"desktop"}"#).await;
    assert_eq!(status, 200, "{response}");
    let body = response.split_once("\r\n\r\n").unwrap().1;
    let granted: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(granted["device"], 7 * 256 + 1);
    let token = granted["token"].as_str().unwrap();
    assert_eq!(bed.key.check(token, 1_700_000_000), Ok(DeviceId(7 * 256 + 1)));
    let foreign =
        call(&bed, "POST", "/v1/tokens", None, r#"{"user":7,"device":2304,"class":"mobile"}"#)
            .await;
    assert_eq!(foreign.0, 422, "{}", foreign.1);
}

#[tokio::test]
async fn a_send_by_rest_is_created_once_and_repeated_after() {
    let bed = Bed::start(Setup::default()).await;
    let token = bed.token(device(1));
    let path = "/v1/conversations/d1-2/messages/01890000-0000-7000-8000-000000000001";
    let body = r#"{"kind":0,"body":"aGVsbG8=","client_ms":5}"#;
    let (status, response) = call(&bed, "PUT", path, Some(&token), body).await;
    assert_eq!(status, 201, "{response}");
    assert!(response.contains(r#""cseq":1"#), "{response}");
    let again = r#"{"kind":0,"body":"aGVsbG8=","client_ms":5,"attempt":2}"#;
    assert_eq!(call(&bed, "PUT", path, Some(&token), again).await.0, 200);
}

#[tokio::test]
async fn faults_are_problem_documents() {
    let bed = Bed::start(Setup::default()).await;
    let token = bed.token(device(1));
    let path = "/v1/conversations/d1-2/messages/01890000-0000-7000-8000-000000000001";
    let foreign = "/v1/conversations/d2-3/messages/01890000-0000-7000-8000-000000000001";
    let body = r#"{"kind":0,"body":"aGVsbG8=","client_ms":5}"#;
    let big = format!(r#"{{"kind":0,"client_ms":5,"body":"{}"}}"#, "A".repeat(200_000));
    for (method, path, token, body, status) in [
        ("GET", "/v2/nothing", None, "", 404),
        ("DELETE", "/v1/tokens", None, "", 405),
        ("GET", "/v1/ws", None, "", 426),
        ("PUT", path, None, body, 401),
        ("PUT", "/v1/conversations/d1-2/messages/none", Some(&*token), body, 400),
        ("GET", "/v1/conversations/d1-2/messages?after=x", Some(&*token), "", 400),
        ("PUT", foreign, Some(&*token), body, 403),
        ("PUT", path, Some(&*token), "{", 400),
        ("PUT", path, Some(&*token), &*big, 413),
        ("GET", "/v1/conversations/d1-2/messages?before=1&after=2", Some(&*token), "", 400),
        ("GET", "/v1/conversations/d1-2/messages?min_cseq=9", Some(&*token), "", 503),
    ] {
        let (got, response) = call(&bed, method, path, token, body).await;
        assert_eq!(got, status, "{method} {path}: {response}");
        assert!(response.contains("application/problem+json"), "{response}");
        assert_eq!(response.to_lowercase().contains("retry-after"), status == 503, "{response}");
    }
}

#[tokio::test]
async fn a_page_is_read_from_history() {
    let bed = Bed::start(Setup::default()).await;
    let token = bed.token(device(1));
    let (status, response) =
        call(&bed, "GET", "/v1/conversations/d1-2/messages?limit=1", Some(&token), "").await;
    assert_eq!(status, 200, "{response}");
    assert!(response.contains(r#""body":"c2VhbGVk""#), "{response}");
}

#[tokio::test]
async fn health_and_readiness_are_told() {
    let bed = Bed::start(Setup::default()).await;
    assert_eq!(call(&bed, "GET", "/healthz", None, "").await.0, 200);
    assert_eq!(call(&bed, "GET", "/readyz", None, "").await.0, 200);
}
