//! The intake over a real `Messages` stream: what is refused, and what is answered.
use bytes::Bytes;
use chat_ports::log::{Appended, Topic, Why};
use chat_ports::nodes::NodeView;
use chat_ports::registry::{NodeKey, Role};
use chat_ports::streams::kinds::MessagesStream;
use chat_ports::streams::{PeerEvent, Peers, StreamSender};
use chat_ports::twins::{eventually, view};
use chat_protocol::frame::RejectCode;
use chat_protocol::limits::BODY_MAX;
use chat_protocol::node::{MessagesDown, MessagesUp, Reject, Send, Sent};
use chat_protocol::{ConvId, UserId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::bench::{ANN, BOB, Bench, Node, T0, partition};
use crate::AnswerPoint;

/// A gateway with its stream to the node under test.
struct Gateway {
    stream: StreamSender<MessagesUp>,
    events: mpsc::Receiver<PeerEvent<MessagesDown>>,
    _peers: Peers<MessagesStream>,
    _view: NodeView,
}

impl Gateway {
    async fn of(bench: &Bench, node: &Node) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(node.handle.service.clone())
            .serve_with_incoming(TcpListenerStream::new(listener));
        let tracker = TaskTracker::new();
        tracker.spawn(async move { server.await.unwrap() });
        let own = NodeKey { name: "gateway-1".into(), epoch: 7 };
        let key = NodeKey { name: "services-1".into(), epoch: 1 };
        let view = view(&own, &[(key.clone(), addr, vec![Role::Messaging])]);
        let (sender, mut events) = mpsc::channel(16);
        let keepalive = bench.timers.stream_keepalive;
        let peers = Peers::start(&view, keepalive, sender, &tracker, &CancellationToken::new());
        assert!(matches!(events.recv().await, Some(PeerEvent::Opened(_))));
        eventually("the stream", || peers.to(&key).is_some()).await;
        let stream = peers.to(&key).unwrap();
        Self { stream, events, _peers: peers, _view: view }
    }

    async fn answers(&mut self) -> MessagesDown {
        match self.events.recv().await {
            Some(PeerEvent::Message(_, down)) => down,
            _ => panic!("the stream ended"),
        }
    }

    async fn sent(&mut self) -> Sent {
        self.answers().await.sent.remove(0)
    }

    async fn reject(&mut self) -> Reject {
        self.answers().await.rejects.remove(0)
    }
}

fn send(number: u128) -> Send {
    Send {
        cid: Bytes::copy_from_slice(Uuid::from_u128(number).as_bytes()),
        conv: Bytes::copy_from_slice(&ConvId::direct(ANN, BOB).unwrap().to_bytes()),
        device: ANN.device(0).0,
        conn: 5,
        attempt: 1,
        client_ms: T0,
        kind: 0,
        body: Bytes::from_static(b"sealed"),
    }
}

#[tokio::test]
async fn sender_is_told_the_numbers_of_the_log_and_a_retry_gets_the_same() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let mut gateway = Gateway::of(&bench, &node).await;
    gateway.stream.offer(send(1)).unwrap();
    let first = gateway.sent().await;
    assert_eq!((first.conn, first.device, first.cseq, first.dup), (5, ANN.device(0).0, 1, false));
    bench.owes(1).await;
    assert_eq!(bench.messages(BOB.device(0))[0].mid, first.mid);
    gateway.stream.offer(Send { attempt: 2, conn: 6, ..send(1) }).unwrap();
    let second = gateway.sent().await;
    assert_eq!(second, Sent { conn: 6, dup: true, ..first });
    node.stop().await;
}

#[tokio::test]
async fn send_that_cannot_be_is_refused_for_good() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let mut gateway = Gateway::of(&bench, &node).await;
    let stranger = ConvId::direct(ANN, UserId(99)).unwrap();
    for (bad, code) in [
        (Send { body: vec![0; BODY_MAX + 1].into(), ..send(1) }, RejectCode::TooLarge),
        (Send { device: UserId(3).device(0).0, ..send(1) }, RejectCode::Forbidden),
        (Send { conv: Bytes::from_static(b"?"), ..send(1) }, RejectCode::Forbidden),
        (
            Send { conv: Bytes::copy_from_slice(&stranger.to_bytes()), ..send(1) },
            RejectCode::UnknownUser,
        ),
    ] {
        gateway.stream.offer(bad).unwrap();
        let reject = gateway.reject().await;
        assert_eq!(
            (reject.code, reject.retryable, reject.effect_unknown),
            (code.to_wire(), false, false)
        );
    }
    let place = (Topic::Messages, partition(ConvId::direct(ANN, BOB).unwrap()));
    assert!(bench.log.records(place).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn log_that_does_not_take_a_send_is_told_apart_from_one_that_may_have() {
    let bench = Bench::new().await;
    let node = bench.start("services-1");
    let mut gateway = Gateway::of(&bench, &node).await;
    for (answer, code, effect_unknown) in [
        (Appended::NotAppended(Why::NotEnoughReplicas), RejectCode::Unavailable, false),
        (Appended::NotAppended(Why::BufferFull), RejectCode::Busy, false),
        (Appended::Unknown(Why::TimedOut), RejectCode::Unavailable, true),
    ] {
        bench.log.answer_appends(Some(answer));
        gateway.stream.offer(send(1)).unwrap();
        let reject = gateway.reject().await;
        assert_eq!(
            (reject.code, reject.effect_unknown, reject.retryable),
            (code.to_wire(), effect_unknown, true)
        );
        assert!(reject.retry_after_ms > 0);
    }
    node.stop().await;
}

#[tokio::test]
async fn cached_list_is_served_while_the_tables_are_unreachable() {
    let mut bench = Bench::new().await;
    bench.timers.directory_cache = std::time::Duration::ZERO;
    let node = bench.start("services-1");
    let mut gateway = Gateway::of(&bench, &node).await;
    gateway.stream.offer(send(1)).unwrap();
    assert_eq!(gateway.sent().await.cseq, 1);
    bench.tables.set_unreachable(true);
    gateway.stream.offer(send(2)).unwrap();
    assert_eq!(gateway.sent().await.cseq, 2);
    let other = ConvId::direct(ANN, UserId(3)).unwrap();
    gateway
        .stream
        .offer(Send { conv: Bytes::copy_from_slice(&other.to_bytes()), ..send(3) })
        .unwrap();
    let reject = gateway.reject().await;
    assert_eq!((reject.code, reject.retryable), (RejectCode::Unavailable.to_wire(), true));
    node.stop().await;
}

#[tokio::test]
async fn answer_before_the_append_comes_even_if_the_log_has_nothing() {
    let mut bench = Bench::new().await;
    bench.policies.answer = AnswerPoint::BeforeAppend;
    let node = bench.start("services-1");
    let mut gateway = Gateway::of(&bench, &node).await;
    bench.log.answer_appends(Some(Appended::NotAppended(Why::NotEnoughReplicas)));
    gateway.stream.offer(send(1)).unwrap();
    assert_eq!(gateway.sent().await.cseq, 1);
    let place = (Topic::Messages, partition(ConvId::direct(ANN, BOB).unwrap()));
    assert!(bench.log.records(place).is_empty());
    node.stop().await;
}
