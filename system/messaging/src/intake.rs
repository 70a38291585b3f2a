//! The `Messages` stream: validate a send, append it to the log by conversation, answer refusals. No other state.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::log::{Appended, EventLog, Topic, Why};
use chat_ports::observe::{Counter, Gauge, Observer};
use chat_ports::registry::NodeKey;
use chat_ports::streams::kinds::MessagesDownItem;
use chat_ports::streams::{StreamSender, serving};
use chat_protocol::frame::RejectCode;
use chat_protocol::ids::partition_of;
use chat_protocol::limits::BODY_MAX;
use chat_protocol::node::messages_server::Messages;
use chat_protocol::node::{LogSend, MessagesDown, MessagesUp, Reject, Send};
use chat_protocol::{Cid, ConvId, DeviceId, UserId};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::answers::Answers;
use crate::directory::{Directory, Found};
use crate::guess::Guesses;
use crate::{AnswerPoint, Deps};

/// Sends that may wait for one partition; a further one is rejected as busy.
pub const WAITING_MAX: usize = 4_096;
/// A partition that has just been appended to gathers for this long, unless [`GATHER_SENDS`] wait.
const GATHER: Duration = Duration::from_millis(5);
/// So many waiting sends are appended without gathering on.
const GATHER_SENDS: usize = 64;
/// Most sends of one append.
const APPEND_SENDS: usize = 512;
/// Bytes of one append; one send at least.
const APPEND_BYTES: usize = 1024 * 1024;

/// A send that waits to be appended.
struct Waiting {
    value: Bytes,
    refusal: Refusal,
}

/// What a refusal of a send needs.
struct Refusal {
    device: u64,
    conn: u64,
    cid: Bytes,
    attempt: u32,
    answers: StreamSender<MessagesDown>,
}

/// Outcome of a refused send.
#[derive(Clone, Copy)]
struct Refused {
    code: RejectCode,
    retryable: bool,
    effect_unknown: bool,
    retry_after: Duration,
}

impl Refused {
    /// Nothing happened, and trying again does not help.
    fn for_good(code: RejectCode) -> Self {
        Self { code, retryable: false, effect_unknown: false, retry_after: Duration::ZERO }
    }

    /// Nothing happened; trying again may help.
    fn for_now(code: RejectCode, retry_after: Duration) -> Self {
        Self { code, retryable: true, effect_unknown: false, retry_after }
    }
}

struct Inner {
    lanes: Vec<mpsc::Sender<Waiting>>,
    directory: Arc<Directory>,
    answers: Answers,
    point: AnswerPoint,
    guesses: Guesses,
    partitions: u32,
    retry_after: Duration,
    sends: Counter,
    waiting: Gauge,
    rejects: Rejects,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

/// Serves `Messages` streams. Cheap to clone.
#[derive(Clone)]
pub struct MessagesService {
    inner: Arc<Inner>,
}

impl MessagesService {
    pub(crate) fn start(
        deps: &Deps,
        directory: Arc<Directory>,
        answers: Answers,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let rejects = Rejects::new(&deps.observer);
        let lane = |partition| {
            let (sender, waiting) = mpsc::channel(WAITING_MAX);
            let lane = Lane {
                log: Arc::clone(&deps.log),
                partition,
                retry_after: deps.timers.log_election,
                appends: deps.observer.counter("intake.appends"),
                rejects: rejects.clone(),
                answered: deps.policies.answer == AnswerPoint::BeforeAppend,
            };
            tracker.spawn(lane.run(waiting, shutdown.clone()));
            sender
        };
        let inner = Inner {
            lanes: (0..deps.partitions.max(1)).map(lane).collect(),
            directory,
            answers,
            point: deps.policies.answer,
            guesses: Guesses::new(Arc::clone(&deps.clock)),
            partitions: deps.partitions.max(1),
            retry_after: deps.timers.log_election,
            sends: deps.observer.counter("intake.sends"),
            waiting: deps.observer.gauge("intake.waiting", WAITING_MAX as u64),
            rejects,
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        };
        Self { inner: Arc::new(inner) }
    }
}

#[tonic::async_trait]
impl Messages for MessagesService {
    type OpenStream = ReceiverStream<Result<MessagesDown, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<MessagesUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, stream, pump) = serving::<MessagesDown>();
        let inner = &self.inner;
        inner.tracker.spawn(inner.shutdown.clone().run_until_cancelled_owned(pump));
        let read = read(Arc::clone(inner), request.into_inner(), sender);
        inner.tracker.spawn(inner.shutdown.clone().run_until_cancelled_owned(read));
        Ok(Response::new(stream))
    }
}

/// Reads one gateway's stream until it ends.
async fn read(
    inner: Arc<Inner>,
    mut up: Streaming<MessagesUp>,
    answers: StreamSender<MessagesDown>,
) {
    let Ok(Some(first)) = up.message().await else { return };
    let Some(opener) = first.opener else { return };
    let gateway = NodeKey { name: opener.node.into(), epoch: opener.node_epoch };
    inner.answers.add(gateway.clone(), answers.clone());
    let mut record = LogSend {
        origin: gateway.name.to_string(),
        origin_epoch: gateway.epoch,
        ..LogSend::default()
    };
    inner.take(&mut record, first.sends, &answers).await;
    while let Ok(Some(message)) = up.message().await {
        inner.take(&mut record, message.sends, &answers).await;
    }
    drop(answers);
    inner.answers.clear_ended();
}

impl Inner {
    /// Takes a batch of sends of one gateway. `record` carries the gateway's name from batch to batch.
    async fn take(
        &self,
        record: &mut LogSend,
        sends: Vec<Send>,
        answers: &StreamSender<MessagesDown>,
    ) {
        if sends.is_empty() {
            return;
        }
        self.sends.add(sends.len() as u64);
        let mut users = Vec::with_capacity(sends.len() * 2);
        let shapes: Vec<_> = sends.iter().map(shape).collect();
        for (from, to, _) in shapes.iter().flatten() {
            users.extend([*from, *to]);
        }
        let found = self.directory.known(&users).await;
        let mut found = found.chunks_exact(2);
        for (send, shape) in sends.into_iter().zip(shapes) {
            let judged = shape.and_then(|(_, _, conv)| {
                let known = found.next().expect("two users were looked up for every send in shape");
                self.known(known).map(|()| conv)
            });
            let refusal = Refusal {
                device: send.device,
                conn: send.conn,
                cid: send.cid.clone(),
                attempt: send.attempt,
                answers: answers.clone(),
            };
            match judged {
                Ok(conv) => self.hand_over(record, send, conv, refusal),
                Err(refused) => self.rejects.send(&refusal, refused),
            }
        }
    }

    fn known(&self, users: &[Found]) -> Result<(), Refused> {
        if users.contains(&Found::Unreachable) {
            Err(Refused::for_now(RejectCode::Unavailable, self.retry_after))
        } else if users.contains(&Found::Unknown) {
            Err(Refused::for_good(RejectCode::UnknownUser))
        } else {
            Ok(())
        }
    }

    /// Puts a valid send into the lane of its partition.
    fn hand_over(&self, record: &mut LogSend, send: Send, conv: ConvId, refusal: Refusal) {
        record.cid = send.cid;
        record.conv = send.conv;
        record.device = send.device;
        record.client_ms = send.client_ms;
        record.kind = send.kind;
        record.body = send.body;
        record.conn = send.conn;
        record.attempt = send.attempt;
        let partition = partition_of(conv, self.partitions);
        let lane = usize::try_from(partition).ok().and_then(|lane| self.lanes.get(lane));
        let lane = lane.expect("there is a lane for every partition");
        let Ok(room) = lane.try_reserve() else {
            self.rejects.send(&refusal, Refused::for_now(RejectCode::Busy, self.retry_after));
            return;
        };
        if self.point == AnswerPoint::BeforeAppend {
            self.guesses.answer(conv, &refusal.cid, refusal.device, refusal.conn, &refusal.answers);
        }
        room.send(Waiting { value: record.encode_to_vec().into(), refusal });
        self.waiting.seen((lane.max_capacity() - lane.capacity()) as u64);
    }
}

/// (sender, recipient, conversation) of a send that can be appended at all.
fn shape(send: &Send) -> Result<(UserId, UserId, ConvId), Refused> {
    let forbidden = || Refused::for_good(RejectCode::Forbidden);
    if send.body.len() > BODY_MAX {
        return Err(Refused::for_good(RejectCode::TooLarge));
    }
    if Cid::from_bytes(&send.cid).is_none() {
        return Err(forbidden());
    }
    let conv = ConvId::from_bytes(&send.conv).map_err(|_| forbidden())?;
    let from = DeviceId(send.device).user();
    let to = conv.peer(from).ok_or_else(forbidden)?;
    Ok((from, to, conv))
}

/// Sends rejects and counts them by code.
#[derive(Clone)]
struct Rejects {
    by_code: [Counter; RejectCode::ALL.len()],
    dropped: Counter,
}

impl Rejects {
    fn new(observer: &Observer) -> Self {
        let counter =
            |code: RejectCode| observer.counter(format!("intake.rejects.{}", code.name()));
        Self {
            by_code: RejectCode::ALL.map(counter),
            dropped: observer.counter("messaging.answers_dropped"),
        }
    }

    fn send(&self, refusal: &Refusal, refused: Refused) {
        let code = refused.code.to_wire();
        if let Some(counter) = usize::try_from(code).ok().and_then(|code| self.by_code.get(code)) {
            counter.add(1);
        }
        let reject = Reject {
            device: refusal.device,
            conn: refusal.conn,
            cid: refusal.cid.clone(),
            attempt: refusal.attempt,
            code,
            retryable: refused.retryable,
            effect_unknown: refused.effect_unknown,
            retry_after_ms: u32::try_from(refused.retry_after.as_millis()).unwrap_or(u32::MAX),
        };
        // A gateway that does not take its answers gets none: the client retries.
        if refusal.answers.offer(MessagesDownItem::Reject(reject)).is_err() {
            self.dropped.add(1);
        }
    }
}

/// Appends the sends of one partition: one append at a time, gathering while it is in flight.
struct Lane {
    log: Arc<dyn EventLog>,
    partition: u32,
    retry_after: Duration,
    appends: Counter,
    rejects: Rejects,
    /// Senders were answered before.
    answered: bool,
}

impl Lane {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>, shutdown: CancellationToken) {
        let mut buffer = Vec::with_capacity(GATHER_SENDS);
        let mut last: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                got = waiting.recv_many(&mut buffer, APPEND_SENDS) => if got == 0 { return },
            }
            if let Some(gathered) =
                last.map(|last| last + GATHER).filter(|until| *until > Instant::now())
                && buffer.len() < GATHER_SENDS
            {
                tokio::time::sleep_until(gathered).await;
                while buffer.len() < APPEND_SENDS
                    && let Ok(more) = waiting.try_recv()
                {
                    buffer.push(more);
                }
            }
            last = Some(Instant::now());
            while !buffer.is_empty() {
                let mut bytes = 0;
                let mut fits = |send: &Waiting| {
                    bytes += send.value.len();
                    bytes <= APPEND_BYTES
                };
                let count = buffer.iter().take_while(|send| fits(send)).count().max(1);
                self.append(buffer.drain(..count).collect()).await;
            }
        }
    }

    async fn append(&self, sends: Vec<Waiting>) {
        self.appends.add(1);
        let values = sends.iter().map(|send| send.value.clone()).collect();
        let refused = match self.log.append((Topic::Messages, self.partition), values).await {
            Appended::Ok { .. } => return,
            Appended::NotAppended(Why::BufferFull | Why::ReadersLag) => {
                Refused::for_now(RejectCode::Busy, self.retry_after)
            }
            Appended::NotAppended(_) => Refused::for_now(RejectCode::Unavailable, self.retry_after),
            Appended::Unknown(_) => Refused {
                effect_unknown: true,
                ..Refused::for_now(RejectCode::Unavailable, self.retry_after)
            },
        };
        if !self.answered {
            for send in &sends {
                self.rejects.send(&send.refusal, refused);
            }
        }
    }
}
