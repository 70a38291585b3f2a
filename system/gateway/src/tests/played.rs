//! Services played by the test: they answer over real streams and remember what they were told.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::streams::kinds::{
    DeliverDownItem, MessagesDownItem, ReadsDownItem, SessionsDownItem,
};
use chat_ports::streams::{StreamSender, serving};
use chat_ports::tables::{Table, Tables};
use chat_protocol::node::{self, Resume, envelope};
use chat_protocol::{ConvId, DeviceId};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::hub::lock;

/// A device's queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    pub(super) epoch: u64,
    pub(super) base: u64,
    pub(super) items: Vec<(u64, Bytes)>,
}

impl Queue {
    fn top(&self) -> u64 {
        self.items.last().map_or(self.base - 1, |(dseq, _)| *dseq)
    }
}

/// State of all services.
#[derive(Default)]
pub(super) struct Played {
    pub(super) queues: Mutex<BTreeMap<u64, Queue>>,
    pub(super) acks: Mutex<Vec<node::Ack>>,
    pub(super) pulls: Mutex<Vec<node::Pull>>,
    pub(super) registers: Mutex<Vec<node::Register>>,
    pub(super) unregisters: Mutex<Vec<node::Unregister>>,
    pub(super) sends: Mutex<Vec<node::Send>>,
    /// Registrations fail.
    pub(super) refuses: Mutex<bool>,
    /// Pulls stay without answer.
    pub(super) mute: Mutex<bool>,
    /// Answer to store checks; `None` stays silent.
    pub(super) seen: Mutex<Option<bool>>,
    /// Store checks that were asked for.
    pub(super) checks: Mutex<usize>,
    deliver: Mutex<Option<StreamSender<node::DeliverDown>>>,
    sessions: Mutex<Option<StreamSender<node::SessionsDown>>>,
    spawn: Mutex<Option<TaskTracker>>,
}

pub(super) struct Role(Arc<Played>);

impl Played {
    /// Serves all roles on one port.
    pub(super) async fn listen(
        self: &Arc<Self>,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> SocketAddr {
        let listener = chat_ports::net::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        *lock(&self.spawn) = Some(tracker.clone());
        let role = || Role(Arc::clone(self));
        let server = tonic::transport::Server::builder()
            .add_service(node::messages_server::MessagesServer::new(role()))
            .add_service(node::deliver_server::DeliverServer::new(role()))
            .add_service(node::sessions_server::SessionsServer::new(role()))
            .add_service(node::reads_server::ReadsServer::new(role()));
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let stop = shutdown.clone().cancelled_owned();
        tracker.spawn(async move { server.serve_with_incoming_shutdown(incoming, stop).await });
        addr
    }

    fn tracker(&self) -> TaskTracker {
        lock(&self.spawn).clone().unwrap()
    }

    /// Appends an item to a device's queue without pushing it.
    pub(super) fn store(&self, device: DeviceId, conv: ConvId, cseq: u64) -> (u64, u64, Bytes) {
        let (from, _) = conv.users();
        let from = if from == device.user() { conv.users().1 } else { from };
        let message = node::Message {
            mid: vec![1; 16].into(),
            conv: conv.to_bytes().to_vec().into(),
            cseq,
            from_device: from.device(0).0,
            kind: 0,
            server_ms: 1,
            body: Bytes::from_static(b"sealed"),
        };
        let payload = Bytes::from(
            node::Envelope { item: Some(envelope::Item::Message(message)) }.encode_to_vec(),
        );
        let mut queues = lock(&self.queues);
        let queue = queues.entry(device.0).or_insert_with(new_queue);
        let dseq = queue.top() + 1;
        queue.items.push((dseq, payload.clone()));
        (queue.epoch, dseq, payload)
    }

    /// Appends an item and pushes it to the connection that registered last.
    pub(super) fn push(&self, device: DeviceId, conv: ConvId, cseq: u64) -> u64 {
        let (epoch, dseq, payload) = self.store(device, conv, cseq);
        let conn = lock(&self.registers).iter().rev().find(|r| r.device == device.0).unwrap().conn;
        let push = node::Push { device: device.0, conn, epoch, dseq, payload };
        self.tell_deliver(DeliverDownItem::Push(push));
        dseq
    }

    pub(super) fn tell_deliver(&self, item: DeliverDownItem) {
        assert!(lock(&self.deliver).as_ref().unwrap().offer(item).is_ok());
    }

    pub(super) fn tell_sessions(&self, item: SessionsDownItem) {
        assert!(lock(&self.sessions).as_ref().unwrap().offer(item).is_ok());
    }

    fn answer_pull(&self, pull: &node::Pull) -> node::Page {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(pull.device).or_insert_with(new_queue);
        let fits =
            pull.epoch == queue.epoch && pull.after + 1 >= queue.base && pull.after <= queue.top();
        let (resume, after) = match (pull.resume, pull.has_cursor) {
            (false, _) => (Resume::Continued, pull.after),
            (true, false) => (Resume::New, queue.base - 1),
            (true, true) if fits => (Resume::Ok, pull.after),
            (true, true) if pull.epoch != queue.epoch => (Resume::Rebased, queue.base - 1),
            (true, true) => (Resume::Lost, queue.base - 1),
        };
        let items = queue.items.iter().filter(|(dseq, _)| *dseq > after).take(pull.limit as usize);
        let items = items
            .map(|(dseq, payload)| node::PageItem { dseq: *dseq, payload: payload.clone() })
            .collect();
        node::Page {
            device: pull.device,
            conn: pull.conn,
            resume: resume.into(),
            epoch: queue.epoch,
            after,
            top: queue.top(),
            items,
        }
    }
}

fn new_queue() -> Queue {
    Queue { epoch: 5, base: 1, items: Vec::new() }
}

type Down<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl node::messages_server::Messages for Role {
    type OpenStream = Down<node::MessagesDown>;

    async fn open(
        &self,
        request: Request<Streaming<node::MessagesUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, down, pump) = serving::<node::MessagesDown>();
        let (played, mut up) = (Arc::clone(&self.0), request.into_inner());
        let tracker = played.tracker();
        tracker.spawn(pump);
        tracker.spawn(async move {
            while let Ok(Some(batch)) = up.message().await {
                for send in batch.sends {
                    let cseq = {
                        let mut sends = lock(&played.sends);
                        sends.push(send.clone());
                        sends.len() as u64
                    };
                    let sent = node::Sent {
                        device: send.device,
                        conn: send.conn,
                        cid: send.cid,
                        mid: vec![9; 16].into(),
                        cseq,
                        server_ms: 3,
                        dup: send.attempt > 1,
                    };
                    drop(sender.offer(MessagesDownItem::Sent(sent)));
                }
            }
        });
        Ok(Response::new(down))
    }
}

#[tonic::async_trait]
impl node::deliver_server::Deliver for Role {
    type OpenStream = Down<node::DeliverDown>;

    async fn open(
        &self,
        request: Request<Streaming<node::DeliverUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, down, pump) = serving::<node::DeliverDown>();
        let (played, mut up) = (Arc::clone(&self.0), request.into_inner());
        let tracker = played.tracker();
        *lock(&played.deliver) = Some(sender.clone());
        tracker.spawn(pump);
        tracker.spawn(async move {
            while let Ok(Some(batch)) = up.message().await {
                lock(&played.acks).extend(batch.acks);
                for pull in batch.pulls {
                    lock(&played.pulls).push(pull);
                    if !*lock(&played.mute) {
                        drop(sender.offer(DeliverDownItem::Page(played.answer_pull(&pull))));
                    }
                }
            }
        });
        Ok(Response::new(down))
    }
}

#[tonic::async_trait]
impl node::sessions_server::Sessions for Role {
    type OpenStream = Down<node::SessionsDown>;

    async fn open(
        &self,
        request: Request<Streaming<node::SessionsUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, down, pump) = serving::<node::SessionsDown>();
        let (played, mut up) = (Arc::clone(&self.0), request.into_inner());
        let tracker = played.tracker();
        *lock(&played.sessions) = Some(sender.clone());
        tracker.spawn(pump);
        tracker.spawn(async move {
            while let Ok(Some(batch)) = up.message().await {
                for register in batch.registers {
                    let ok = !*lock(&played.refuses);
                    let conn_epoch = {
                        let mut registers = lock(&played.registers);
                        registers.push(register);
                        100 + registers.len() as u64
                    };
                    let answer = node::Registered {
                        device: register.device,
                        conn: register.conn,
                        ok,
                        conn_epoch,
                    };
                    drop(sender.offer(SessionsDownItem::Registered(answer)));
                }
                lock(&played.unregisters).extend(batch.unregisters);
                *lock(&played.checks) += batch.checks.len();
                let seen = *lock(&played.seen);
                for (check, seen) in batch.checks.iter().zip(seen.into_iter().cycle()) {
                    drop(sender.offer(SessionsDownItem::StoreSeen(node::StoreSeen {
                        id: check.id,
                        seen,
                    })));
                }
            }
        });
        Ok(Response::new(down))
    }
}

#[tonic::async_trait]
impl node::reads_server::Reads for Role {
    type OpenStream = Down<node::ReadsDown>;

    async fn open(
        &self,
        request: Request<Streaming<node::ReadsUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, down, pump) = serving::<node::ReadsDown>();
        let (played, mut up) = (Arc::clone(&self.0), request.into_inner());
        let tracker = played.tracker();
        tracker.spawn(pump);
        tracker.spawn(async move {
            while let Ok(Some(batch)) = up.message().await {
                for call in batch.calls {
                    let row = node::Row {
                        cseq: 1,
                        mid: vec![9; 16].into(),
                        cid: vec![8; 16].into(),
                        from_device: 256,
                        kind: 0,
                        client_ms: 1,
                        server_ms: 2,
                        body: Bytes::from_static(b"sealed"),
                    };
                    let reply =
                        node::Reply { id: call.id, ok: call.min_cseq <= 1, rows: vec![row] };
                    drop(sender.offer(ReadsDownItem::Reply(reply)));
                }
            }
        });
        Ok(Response::new(down))
    }
}

/// An in-memory directory.
#[derive(Default)]
pub(super) struct Directory(Mutex<BTreeMap<u64, Bytes>>);

#[async_trait]
impl Tables for Directory {
    async fn get(&self, _: Table, keys: &[u64]) -> Result<Vec<Option<Bytes>>, PortError> {
        let rows = lock(&self.0);
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    async fn compare_and_set(
        &self,
        _: Table,
        key: u64,
        old: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, PortError> {
        let mut rows = lock(&self.0);
        let same = rows.get(&key) == old.as_ref();
        if same {
            rows.insert(key, new);
        }
        Ok(same)
    }
}
