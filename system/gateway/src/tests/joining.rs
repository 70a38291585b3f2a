//! From the handshake to the welcome.
use chat_protocol::close;
use chat_protocol::frame::{Cursor, ResumeOutcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::deps::CursorScope;

#[tokio::test]
async fn a_new_device_is_welcomed_and_caught_up() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, welcome) = bed.join(device(1), None).await;
    assert_eq!((welcome.resume, welcome.epoch, welcome.next_dseq), (ResumeOutcome::New, 5, 1));
    assert_eq!(&*welcome.node, "gateway-1");
    assert!(matches!(phone.hear().await, ServerFrame::CaughtUp(up) if up.dseq == 0));
    assert_eq!(bed.gateway.connections(), 1);
}

#[tokio::test]
async fn a_resumed_device_gets_what_it_missed() {
    let bed = Bed::start(Setup::default()).await;
    for cseq in 1..=100 {
        bed.services.store(device(1), conv(1, 2), cseq);
    }
    let (mut phone, welcome) = bed.join(device(1), Some(Cursor { epoch: 5, dseq: 30 })).await;
    assert_eq!((welcome.resume, welcome.next_dseq), (ResumeOutcome::Ok, 31));
    assert_eq!(phone.positions(70).await, (31..=100).collect::<Vec<_>>());
    assert!(matches!(phone.hear().await, ServerFrame::CaughtUp(up) if up.dseq == 100));
}

#[tokio::test]
async fn a_node_that_honours_only_its_own_cursors_skips_the_backlog_of_others() {
    let policies = Policies { cursor: CursorScope::Node, ..Policies::default() };
    let bed = Bed::start(Setup { policies, ..Setup::default() }).await;
    bed.services.store(device(1), conv(1, 2), 1);
    let (_phone, welcome) = bed.join(device(1), Some(Cursor { epoch: 5, dseq: 0 })).await;
    assert_eq!((welcome.resume, welcome.next_dseq), (ResumeOutcome::Ok, 2));
}

#[tokio::test]
async fn a_bad_token_is_refused() {
    let bed = Bed::start(Setup::default()).await;
    let mut phone = bed.connect(Codec::MessagePack).await;
    let ClientFrame::Hello(mut hello) = bed.hello(device(1), None) else { unreachable!() };
    hello.device = device(2);
    phone.say(&ClientFrame::Hello(hello)).await;
    assert_eq!(phone.closed().await, close::UNAUTHORISED);
}

#[tokio::test]
async fn silence_instead_of_hello_ends_the_connection() {
    let timers = Timers { hello: Duration::from_millis(30), ..Timers::DEFAULT };
    let bed = Bed::start(Setup { timers, ..Setup::default() }).await;
    let mut phone = bed.connect(Codec::MessagePack).await;
    assert_eq!(phone.closed().await, close::UNAUTHORISED);
}

#[tokio::test]
async fn malformed_frames_close_with_their_code_and_the_node_lives() {
    let bed = Bed::start(Setup::default()).await;
    let big = vec![0_u8; chat_protocol::limits::FRAME_MAX + 1];
    let early_ack = Codec::MessagePack.encode(&ClientFrame::Ack(Ack { dseq: 1 })).unwrap();
    let cases = [
        (Message::Binary(vec![0xc1, 2, 3].into()), close::PROTOCOL),
        (Message::Binary(early_ack), close::PROTOCOL),
        (Message::Text("{}".into()), close::UNSUPPORTED),
        (Message::Binary(big.into()), close::TOO_BIG),
    ];
    for (message, code) in cases {
        let mut phone = bed.connect(Codec::MessagePack).await;
        phone.socket.send(message).await.unwrap();
        assert_eq!(phone.closed().await, code);
    }
    until(|| bed.count("gateway.closed.1002") == 2).await;
    bed.join(device(1), None).await;
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused() {
    let bed = Bed::start(Setup::default()).await;
    let mut phone = bed.connect(Codec::Json).await;
    // A masked text frame with one byte that no UTF-8 text has.
    let MaybeTlsStream::Plain(stream) = phone.socket.get_mut() else { unreachable!() };
    stream.write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    assert_eq!(phone.closed().await, close::INVALID);
}

#[tokio::test]
async fn json_is_spoken_too() {
    let bed = Bed::start(Setup::default()).await;
    let mut phone = bed.connect(Codec::Json).await;
    phone.say(&bed.hello(device(1), None)).await;
    assert!(matches!(phone.hear().await, ServerFrame::Welcome(_)));
}

#[tokio::test]
async fn handshakes_beyond_the_rate_are_told_when_to_come_back() {
    let limits = Limits { handshakes_per_s: 1, ..Limits::default() };
    let bed = Bed::start(Setup { limits, ..Setup::default() }).await;
    let _first = bed.connect(Codec::MessagePack).await;
    let mut stream = net::dial(bed.addr, LIMIT).await.unwrap();
    stream
        .write_all(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("Retry-After: "), "{answer}");
    assert_eq!(bed.count("gateway.admission_refused"), 1);
}

#[tokio::test]
async fn a_registry_without_answer_sheds_the_connection() {
    let bed = Bed::start(Setup::default()).await;
    *crate::hub::lock(&bed.services.refuses) = true;
    let mut phone = bed.connect(Codec::MessagePack).await;
    phone.say(&bed.hello(device(1), None)).await;
    assert!(matches!(phone.hear().await, ServerFrame::Error(e) if e.retry_after_ms.is_some()));
    assert_eq!(phone.closed().await, close::SHED);
}
