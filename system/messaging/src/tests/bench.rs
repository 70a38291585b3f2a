//! What every story stands on.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::clock::{Clock as _, SteadyClock};
use chat_ports::consumer::{FoldViews, HISTORY_WRITER};
use chat_ports::log::Topic;
use chat_ports::observe::Observer;
use chat_ports::registry::{NodeKey, Role};
use chat_ports::relay_queue::{Enqueue, RelayQueue as _, SourceOutcome, SourceRange};
use chat_ports::streams::MESSAGE_MAX;
use chat_ports::twins::{TwinBlobs, TwinLog, TwinQueue, TwinTables, eventually, view};
use chat_protocol::limits::Timers;
use chat_protocol::node::enqueue_server::{self, EnqueueServer};
use chat_protocol::node::{
    EnqueueDown, EnqueueOutcome, EnqueueResult, EnqueueUp, Envelope, LogSend, Mark, Message,
    envelope,
};
use chat_protocol::{ConvId, DeviceId, UserId};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{Deps, Policies};

/// Wall clock of all stories, milliseconds since 1970.
pub(super) const T0: u64 = 1_700_000_000_000;
pub(super) const PARTITIONS: u32 = 2;
pub(super) const ANN: UserId = UserId(1);
pub(super) const BOB: UserId = UserId(2);

pub(super) struct Bench {
    pub(super) log: Arc<TwinLog>,
    pub(super) queue: Arc<TwinQueue>,
    pub(super) blobs: Arc<TwinBlobs>,
    pub(super) tables: Arc<TwinTables>,
    pub(super) folds: FoldViews,
    pub(super) observer: Observer,
    pub(super) timers: Timers,
    pub(super) policies: Policies,
    clock: Arc<SteadyClock>,
    relay: (NodeKey, std::net::SocketAddr, Vec<Role>),
}

/// A node that runs the role.
pub(super) struct Node {
    shutdown: CancellationToken,
    tracker: TaskTracker,
    pub(super) handle: crate::Handle,
}

impl Node {
    /// Stops it and waits for its tasks.
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Bench {
    pub(super) async fn new() -> Self {
        let clock = Arc::new(SteadyClock::new(T0));
        let tracker = TaskTracker::new();
        let queue = TwinQueue::new();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service =
            EnqueueServer::new(Relay { queue: Arc::clone(&queue), tracker: tracker.clone() });
        let server = tonic::transport::Server::builder()
            .add_service(service.max_decoding_message_size(MESSAGE_MAX))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tracker.spawn(async move { server.await.unwrap() });
        let mut timers = Timers::short();
        timers.commit = Duration::from_millis(20);
        timers.log_heartbeat = Duration::from_millis(10);
        timers.receipt_coalesce = Duration::from_millis(30);
        let log = TwinLog::new(Arc::<SteadyClock>::clone(&clock), PARTITIONS);
        for partition in 0..PARTITIONS {
            // History is ahead of everything, unless a story says otherwise.
            log.set_position(HISTORY_WRITER, (Topic::Messages, partition), u64::MAX);
        }
        Self {
            log,
            queue,
            blobs: TwinBlobs::new(),
            tables: TwinTables::with_users(&[
                (ANN, 2),
                (BOB, 2),
                (UserId(3), 1),
                (UserId(4), 1),
                (UserId(5), 3),
            ]),
            folds: FoldViews::default(),
            observer: Observer::new(Arc::<SteadyClock>::clone(&clock)),
            timers,
            policies: Policies::default(),
            clock,
            relay: (NodeKey { name: "relay-1".into(), epoch: 1 }, addr, vec![Role::Relay]),
        }
    }

    pub(super) fn start(&self, name: &str) -> Node {
        let own = NodeKey { name: name.into(), epoch: 1 };
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let deps = Deps {
            view: view(&own, std::slice::from_ref(&self.relay)),
            log: Arc::<TwinLog>::clone(&self.log),
            sequencer_log: Arc::<TwinLog>::clone(&self.log),
            receipts_log: Arc::<TwinLog>::clone(&self.log),
            tables: Arc::<TwinTables>::clone(&self.tables),
            blobs: Arc::<TwinBlobs>::clone(&self.blobs),
            queue: Arc::<TwinQueue>::clone(&self.queue),
            clock: Arc::<SteadyClock>::clone(&self.clock),
            timers: self.timers,
            observer: self.observer.clone(),
            folds: self.folds.clone(),
            partitions: PARTITIONS,
            policies: self.policies,
        };
        let handle = crate::start(deps, &tracker, &shutdown);
        Node { shutdown, tracker, handle }
    }

    /// Appends sends from ann to bob, numbered so that a number is a `cid`.
    pub(super) fn send(&self, numbers: impl IntoIterator<Item = u128>) {
        let conv = ConvId::direct(ANN, BOB).unwrap();
        let record = |number| send_record(conv, ANN.device(0), number, self.clock.wall_ms());
        self.log.put((Topic::Messages, partition(conv)), numbers.into_iter().map(record).collect());
    }

    /// `cseq`s of the messages a device is owed, in order.
    pub(super) fn owed(&self, device: DeviceId) -> Vec<u64> {
        self.messages(device).iter().map(|message| message.cseq).collect()
    }

    pub(super) fn messages(&self, device: DeviceId) -> Vec<Message> {
        let item = |payload: Bytes| match Envelope::decode(payload).unwrap().item {
            Some(envelope::Item::Message(message)) => Some(message),
            _ => None,
        };
        self.queue.payloads(device).into_iter().filter_map(item).collect()
    }

    /// Receipts a device is owed, in order.
    pub(super) fn receipts(&self, device: DeviceId) -> Vec<Mark> {
        let item = |payload: Bytes| match Envelope::decode(payload).unwrap().item {
            Some(envelope::Item::Receipt(mark)) => Some(mark),
            _ => None,
        };
        self.queue.payloads(device).into_iter().filter_map(item).collect()
    }

    /// Waits until every device of bob and ann's second one are owed exactly `1..=last`.
    pub(super) async fn owes(&self, last: u64) {
        let everybody = [BOB.device(0), BOB.device(1), ANN.device(1)];
        let what = format!("delivery of 1 to {last}");
        eventually(&what, || {
            everybody.iter().all(|device| self.owed(*device).last() == Some(&last))
        })
        .await;
        for device in everybody {
            assert_eq!(self.owed(device), (1..=last).collect::<Vec<_>>(), "{device}");
        }
        assert_eq!(self.owed(ANN.device(0)), [0; 0], "the sending device is owed nothing");
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.observer.counter(name).get()
    }
}

pub(super) fn partition(conv: ConvId) -> u32 {
    chat_protocol::ids::partition_of(conv, PARTITIONS)
}

pub(super) fn send_record(conv: ConvId, from: DeviceId, number: u128, client_ms: u64) -> Bytes {
    let send = LogSend {
        cid: Bytes::copy_from_slice(Uuid::from_u128(number).as_bytes()),
        conv: Bytes::copy_from_slice(&conv.to_bytes()),
        device: from.0,
        client_ms,
        body: Bytes::from_static(b"sealed"),
        origin: "gateway-1".into(),
        origin_epoch: 7,
        conn: 11,
        attempt: 1,
        ..LogSend::default()
    };
    send.encode_to_vec().into()
}

/// A relay node that stores and does nothing else.
struct Relay {
    queue: Arc<TwinQueue>,
    tracker: TaskTracker,
}

#[tonic::async_trait]
impl enqueue_server::Enqueue for Relay {
    type OpenStream = ReceiverStream<Result<EnqueueDown, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<EnqueueUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (down, stream) = mpsc::channel(8);
        let (queue, mut up) = (Arc::clone(&self.queue), request.into_inner());
        self.tracker.spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                let mut results = Vec::new();
                for batch in message.batches {
                    let range = SourceRange {
                        source: Arc::from(&*batch.source),
                        prev: batch.prev,
                        last: batch.last,
                        incarnation: batch.incarnation,
                        items: batch
                            .items
                            .into_iter()
                            .map(|item| (DeviceId(item.device), item.payload))
                            .collect(),
                    };
                    let outcome =
                        queue.enqueue(Enqueue { slot: batch.slot, sources: vec![range] }).await;
                    let (outcome, watermark) = match outcome.map(|mut outcomes| outcomes.remove(0))
                    {
                        Ok(SourceOutcome::Applied(_)) => (EnqueueOutcome::Applied, batch.last),
                        Ok(SourceOutcome::Duplicate(watermark)) => {
                            (EnqueueOutcome::Duplicate, watermark)
                        }
                        Ok(SourceOutcome::Gap(watermark)) => (EnqueueOutcome::Gap, watermark),
                        Err(_) => (EnqueueOutcome::Failed, batch.prev),
                    };
                    let (slot, source) = (batch.slot, batch.source);
                    results.push(EnqueueResult {
                        slot,
                        source,
                        outcome: outcome.into(),
                        watermark,
                    });
                }
                if down.send(Ok(EnqueueDown { results })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
