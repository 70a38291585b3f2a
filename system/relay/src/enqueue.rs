//! The `Enqueue` stream: one lane a slot gathers what all sources owe, stores it in one call, pushes it, and answers.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_ports::observe::{Counter, Observer};
use chat_ports::relay_queue::{Enqueue, RelayQueue, SourceOutcome, SourceRange, Stored};
use chat_ports::streams::kinds::EnqueueDownItem;
use chat_ports::streams::{StreamSender, serving};
use chat_protocol::DeviceId;
use chat_protocol::ids::SLOTS;
use chat_protocol::node::enqueue_server;
use chat_protocol::node::{
    EnqueueBatch, EnqueueDown, EnqueueOutcome, EnqueueResult, EnqueueUp, Push,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::gateways::Gateways;
use crate::push_first::PushFirst;

/// Batches that may wait for one lane; beyond it the streams that feed it are read no further.
pub const LANE_BATCHES: usize = 1_024;
/// A lane that has just called the store gathers for this long, unless [`CALL_ITEMS`] wait.
const GATHER: Duration = Duration::from_millis(4);
/// Items after which no further source is added to a call.
const CALL_ITEMS: usize = 64;
/// Source names remembered by a lane; beyond it they are forgotten and learnt again.
const SOURCES_MAX: usize = 4_096;

/// A batch that waits for its lane.
struct Waiting {
    batch: EnqueueBatch,
    answers: StreamSender<EnqueueDown>,
}

impl Waiting {
    /// An answer nobody waits for is dropped: whoever offered it offers it again.
    fn answer(self, outcome: EnqueueOutcome, watermark: u64) {
        let EnqueueBatch { slot, source, .. } = self.batch;
        let result = EnqueueResult { slot, source, outcome: outcome.into(), watermark };
        if self.answers.offer(EnqueueDownItem::EnqueueResult(result)).is_err() {
            tracing::debug!("A sequencer does not take its answers.");
        }
    }
}

struct Inner {
    lanes: Vec<mpsc::Sender<Waiting>>,
    streams: Mutex<Vec<StreamSender<EnqueueDown>>>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

/// Serves `Enqueue` streams. Cheap to clone.
#[derive(Clone)]
pub struct EnqueueService {
    inner: Arc<Inner>,
}

impl EnqueueService {
    pub(crate) fn start(
        queue: &Arc<dyn RelayQueue>,
        gateways: &Gateways,
        push_first: Option<&Arc<PushFirst>>,
        observer: &Observer,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let lane = |slot| {
            let (sender, waiting) = mpsc::channel(LANE_BATCHES);
            let lane = Lane {
                slot,
                queue: Arc::clone(queue),
                gateways: gateways.clone(),
                push_first: push_first.map(Arc::clone),
                sources: HashMap::new(),
                call: 0,
                stored: observer.counter("relay.stored"),
                calls: observer.counter("relay.enqueue_calls"),
                failures: observer.counter("relay.enqueue_failures"),
            };
            tracker.spawn(shutdown.clone().run_until_cancelled_owned(lane.run(waiting)));
            sender
        };
        let inner = Inner {
            lanes: (0..SLOTS).map(lane).collect(),
            streams: Mutex::default(),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Tells every sequencer that the store has another incarnation.
    pub(crate) fn reset(&self, incarnation: u64) {
        let streams = self.inner.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.iter() {
            let result = EnqueueResult {
                slot: 0,
                source: String::new(),
                outcome: EnqueueOutcome::Reset.into(),
                watermark: incarnation,
            };
            if stream.offer(EnqueueDownItem::EnqueueResult(result)).is_err() {
                tracing::debug!("A sequencer does not take its answers.");
            }
        }
    }
}

#[tonic::async_trait]
impl enqueue_server::Enqueue for EnqueueService {
    type OpenStream = ReceiverStream<Result<EnqueueDown, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<EnqueueUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, stream, pump) = serving::<EnqueueDown>();
        let inner = &self.inner;
        inner.tracker.spawn(inner.shutdown.clone().run_until_cancelled_owned(pump));
        let read = read(Arc::clone(inner), request.into_inner(), sender);
        inner.tracker.spawn(inner.shutdown.clone().run_until_cancelled_owned(read));
        Ok(Response::new(stream))
    }
}

/// Reads one sequencer's stream until it ends.
async fn read(inner: Arc<Inner>, mut up: Streaming<EnqueueUp>, answers: StreamSender<EnqueueDown>) {
    inner.streams.lock().unwrap_or_else(PoisonError::into_inner).push(answers.clone());
    while let Ok(Some(message)) = up.message().await {
        for batch in message.batches {
            let waiting = Waiting { batch, answers: answers.clone() };
            let slot = usize::try_from(waiting.batch.slot).ok();
            let Some(lane) = slot.and_then(|slot| inner.lanes.get(slot)) else {
                let prev = waiting.batch.prev;
                waiting.answer(EnqueueOutcome::Failed, prev);
                continue;
            };
            if lane.send(waiting).await.is_err() {
                return;
            }
        }
    }
    let mut streams = inner.streams.lock().unwrap_or_else(PoisonError::into_inner);
    streams.retain(|stream| !stream.is_same(&answers));
}

struct Source {
    name: Arc<str>,
    /// Last call it was part of.
    call: u64,
}

/// Everything of one slot, one store call at a time.
struct Lane {
    slot: u32,
    queue: Arc<dyn RelayQueue>,
    gateways: Gateways,
    push_first: Option<Arc<PushFirst>>,
    sources: HashMap<String, Source>,
    call: u64,
    stored: Counter,
    calls: Counter,
    failures: Counter,
}

impl Lane {
    async fn run(mut self, mut arriving: mpsc::Receiver<Waiting>) {
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut last: Option<Instant> = None;
        loop {
            if waiting.is_empty() && arriving.recv_many(&mut waiting, LANE_BATCHES).await == 0 {
                return;
            }
            let items: usize = waiting.iter().map(|waiting| waiting.batch.items.len()).sum();
            if let Some(gathered) =
                last.map(|last| last + GATHER).filter(|until| *until > Instant::now())
                && items < CALL_ITEMS
            {
                tokio::time::sleep_until(gathered).await;
            }
            while waiting.len() < LANE_BATCHES
                && let Ok(more) = arriving.try_recv()
            {
                waiting.push(more);
            }
            last = Some(Instant::now());
            let chosen = self.choose(&mut waiting);
            self.store(chosen).await;
        }
    }

    /// Takes out what goes into one call: in order, a source at most once, no further one after [`CALL_ITEMS`].
    fn choose(&mut self, waiting: &mut Vec<Waiting>) -> Vec<(Arc<str>, Waiting)> {
        self.call += 1;
        if self.sources.len() > SOURCES_MAX {
            self.sources.clear();
        }
        let (mut items, mut chosen) = (0, Vec::with_capacity(waiting.len()));
        for one in std::mem::take(waiting) {
            // The name is copied only when it is new.
            if !self.sources.contains_key(&one.batch.source) {
                let name = Arc::from(&*one.batch.source);
                self.sources.insert(one.batch.source.clone(), Source { name, call: 0 });
            }
            let source =
                self.sources.get_mut(&one.batch.source).expect("it was put in if it was new");
            if source.call == self.call || items >= CALL_ITEMS {
                source.call = self.call;
                waiting.push(one);
            } else {
                source.call = self.call;
                items += one.batch.items.len();
                chosen.push((Arc::clone(&source.name), one));
            }
        }
        chosen
    }

    async fn store(&self, chosen: Vec<(Arc<str>, Waiting)>) {
        let range = |(source, waiting): &(Arc<str>, Waiting)| SourceRange {
            source: Arc::clone(source),
            prev: waiting.batch.prev,
            last: waiting.batch.last,
            incarnation: waiting.batch.incarnation,
            items: waiting
                .batch
                .items
                .iter()
                .map(|item| (DeviceId(item.device), item.payload.clone()))
                .collect(),
        };
        let mut call = Enqueue { slot: self.slot, sources: chosen.iter().map(range).collect() };
        if let Some(push_first) = &self.push_first {
            push_first.take(&mut call, &self.gateways).await;
        }
        let kept: Option<Vec<Vec<_>>> = self
            .push_first
            .as_ref()
            .map(|_| call.sources.iter().map(|range| range.items.clone()).collect());
        self.calls.add(1);
        let outcomes = match self.queue.enqueue(call).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::debug!(slot = self.slot, %error, "The store did not take a batch; it comes again.");
                self.failures.add(1);
                for (_, waiting) in chosen {
                    let prev = waiting.batch.prev;
                    waiting.answer(EnqueueOutcome::Failed, prev);
                }
                return;
            }
        };
        let present = self.gateways.now();
        for (at, ((_, waiting), outcome)) in chosen.into_iter().zip(outcomes).enumerate() {
            match outcome {
                SourceOutcome::Applied(stored) => {
                    self.stored.add(stored.len() as u64);
                    let push =
                        |device: DeviceId, payload, Stored { epoch, dseq, route }: Stored| {
                            let Some(route) = route else { return };
                            let shift =
                                self.push_first.as_ref().map_or(0, |first| first.shift(device));
                            let push = Push {
                                device: device.0,
                                conn: route.conn,
                                epoch,
                                dseq: dseq + shift,
                                payload,
                            };
                            present.push(&route.node, push);
                        };
                    if let Some(kept) = &kept {
                        for ((device, payload), stored) in kept[at].iter().zip(stored) {
                            push(*device, payload.clone(), stored);
                        }
                    } else {
                        for (item, stored) in waiting.batch.items.iter().zip(stored) {
                            push(DeviceId(item.device), item.payload.clone(), stored);
                        }
                    }
                    let last = waiting.batch.last;
                    waiting.answer(EnqueueOutcome::Applied, last);
                }
                SourceOutcome::Duplicate(watermark) => {
                    waiting.answer(EnqueueOutcome::Duplicate, watermark);
                }
                SourceOutcome::Gap(watermark) => waiting.answer(EnqueueOutcome::Gap, watermark),
            }
        }
    }
}
