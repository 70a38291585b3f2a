//! The `Deliver` stream: acks and pulls of one gateway.
use std::sync::Arc;

use chat_ports::observe::{Counter, Observer};
use chat_ports::registry::NodeKey;
use chat_ports::relay_queue::{QueuePage, RelayQueue};
use chat_ports::streams::kinds::DeliverDownItem;
use chat_ports::streams::{StreamSender, serving};
use chat_protocol::DeviceId;
use chat_protocol::limits::PAGE_ITEMS;
use chat_protocol::node::deliver_server::Deliver;
use chat_protocol::node::{Ack, DeliverDown, DeliverUp, Page, PageItem, Pull, Resume};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::acks::Book;
use crate::gateways::{Gateway, Gateways};
use crate::push_first::PushFirst;
use crate::resume::judge;

/// Pulls of one gateway that may wait; beyond it the gateway's stream is read no further.
pub const PULLS_WAITING: usize = 1_024;
/// Pulls answered by one read of the store.
const READ_PULLS: usize = 64;
/// Payload bytes of a page; one item at least. The rest is pulled again.
const PAGE_BYTES: usize = 128 * 1024;

struct Inner {
    queue: Arc<dyn RelayQueue>,
    gateways: Gateways,
    book: Arc<Book>,
    push_first: Option<Arc<PushFirst>>,
    pulls: Counter,
    unavailable: Counter,
    rebased: Counter,
    gap: Counter,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

/// Serves `Deliver` streams. Cheap to clone.
#[derive(Clone)]
pub struct DeliverService {
    inner: Arc<Inner>,
}

impl DeliverService {
    pub(crate) fn start(
        queue: &Arc<dyn RelayQueue>,
        gateways: &Gateways,
        book: &Arc<Book>,
        push_first: Option<&Arc<PushFirst>>,
        observer: &Observer,
        (tracker, shutdown): (&TaskTracker, &CancellationToken),
    ) -> Self {
        let inner = Inner {
            queue: Arc::clone(queue),
            gateways: gateways.clone(),
            book: Arc::clone(book),
            push_first: push_first.map(Arc::clone),
            pulls: observer.counter("relay.pulls"),
            unavailable: observer.counter("relay.pulls_unavailable"),
            rebased: observer.counter("sometimes.resume-rebased"),
            gap: observer.counter("sometimes.resume-gap"),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        };
        Self { inner: Arc::new(inner) }
    }
}

#[tonic::async_trait]
impl Deliver for DeliverService {
    type OpenStream = ReceiverStream<Result<DeliverDown, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<DeliverUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, stream, pump) = serving::<DeliverDown>();
        let inner = &self.inner;
        let ended = inner.shutdown.child_token();
        inner.tracker.spawn(ended.clone().run_until_cancelled_owned(pump));
        let serve = serve(Arc::clone(inner), request.into_inner(), sender, ended);
        inner.tracker.spawn(serve);
        Ok(Response::new(stream))
    }
}

/// Serves one gateway's stream until either side ends it.
async fn serve(
    inner: Arc<Inner>,
    up: Streaming<DeliverUp>,
    stream: StreamSender<DeliverDown>,
    ended: CancellationToken,
) {
    let (pulls, waiting) = mpsc::channel(PULLS_WAITING);
    let answer = answer(Arc::clone(&inner), waiting, stream.clone());
    inner.tracker.spawn(ended.clone().run_until_cancelled_owned(answer));
    let read = read(&inner, up, stream, &pulls, &ended);
    ended.run_until_cancelled(read).await;
    ended.cancel();
    inner.gateways.clear_ended();
}

async fn read(
    inner: &Inner,
    mut up: Streaming<DeliverUp>,
    stream: StreamSender<DeliverDown>,
    pulls: &mpsc::Sender<Pull>,
    ended: &CancellationToken,
) {
    while let Ok(Some(message)) = up.message().await {
        if let Some(opener) = message.opener {
            let key = NodeKey { name: opener.node.into(), epoch: opener.node_epoch };
            let gateway = Gateway::new(key, stream.clone(), ended.clone());
            let missed = gateway.clone().send_missed(inner.gateways.table());
            inner.tracker.spawn(ended.clone().run_until_cancelled_owned(missed));
            inner.gateways.add(gateway);
        }
        let mut acks = message.acks;
        if !acks.is_empty() {
            if let Some(push_first) = &inner.push_first {
                for ack in &mut acks {
                    ack.up_to = ack.up_to.saturating_sub(push_first.shift(DeviceId(ack.device)));
                }
            }
            inner.book.enter(acks);
        }
        for pull in message.pulls {
            if pulls.send(pull).await.is_err() {
                return;
            }
        }
    }
}

/// Answers the pulls of one gateway, many by one read.
async fn answer(
    inner: Arc<Inner>,
    mut waiting: mpsc::Receiver<Pull>,
    stream: StreamSender<DeliverDown>,
) {
    let mut pulls = Vec::with_capacity(READ_PULLS);
    while waiting.recv_many(&mut pulls, READ_PULLS).await > 0 {
        inner.pulls.add(pulls.len() as u64);
        for page in inner.pages(std::mem::take(&mut pulls)).await {
            if stream.send(DeliverDownItem::Page(page)).await.is_err() {
                return;
            }
        }
    }
}

impl Inner {
    async fn pages(&self, mut pulls: Vec<Pull>) -> Vec<Page> {
        let shifts: Vec<u64> = pulls
            .iter_mut()
            .map(|pull| {
                let shift =
                    self.push_first.as_ref().map_or(0, |first| first.shift(DeviceId(pull.device)));
                pull.after = pull.after.saturating_sub(shift);
                shift
            })
            .collect();
        let limit = |pull: &Pull| pull.limit.clamp(1, PAGE_ITEMS);
        let asked: Vec<_> =
            pulls.iter().map(|pull| (DeviceId(pull.device), pull.after, limit(pull))).collect();
        let Ok(mut read) = self.queue.read(&asked).await else {
            return self.unavailable(&pulls);
        };
        let mut judged = Vec::with_capacity(pulls.len());
        let mut again = Vec::new();
        for (at, (pull, page)) in pulls.iter_mut().zip(&read).enumerate() {
            if shifts[at] > 0 && pull.epoch == page.state.epoch {
                // What was pushed without being stored cannot be judged by the store.
                pull.after = pull.after.max(page.state.base.saturating_sub(1));
            }
            let (outcome, after) = judge(pull, &page.state);
            if after != asked[at].1 {
                again.push((at, (DeviceId(pull.device), after, limit(pull))));
            }
            judged.push((outcome, after));
        }
        if !again.is_empty() {
            let asked: Vec<_> = again.iter().map(|(_, ask)| *ask).collect();
            let Ok(second) = self.queue.read(&asked).await else {
                return self.unavailable(&pulls);
            };
            for ((at, _), page) in again.into_iter().zip(second) {
                // The judgement holds for the state it was made in; if that has changed, the gateway's next pull shows it.
                read[at].items =
                    if page.state.epoch == read[at].state.epoch { page.items } else { Vec::new() };
            }
        }
        let mut resumed = Vec::new();
        let mut pages = Vec::with_capacity(pulls.len());
        for (((pull, page), (outcome, after)), shift) in
            pulls.iter().zip(read).zip(judged).zip(shifts)
        {
            match outcome {
                Resume::Ok => {
                    let ack = Ack {
                        device: pull.device,
                        epoch: pull.epoch,
                        up_to: after,
                        marks: Vec::new(),
                    };
                    resumed.push(ack);
                }
                Resume::Rebased => self.rebased.add(1),
                Resume::Lost => self.gap.add(1),
                Resume::Continued | Resume::New | Resume::Unavailable => {}
            }
            pages.push(page_of(pull, page, outcome, after, shift));
        }
        if !resumed.is_empty() {
            self.book.enter(resumed);
        }
        pages
    }

    fn unavailable(&self, pulls: &[Pull]) -> Vec<Page> {
        self.unavailable.add(pulls.len() as u64);
        let page = |pull: &Pull| Page {
            device: pull.device,
            conn: pull.conn,
            resume: Resume::Unavailable.into(),
            ..Page::default()
        };
        pulls.iter().map(page).collect()
    }
}

fn page_of(pull: &Pull, page: QueuePage, outcome: Resume, after: u64, shift: u64) -> Page {
    let QueuePage { state, items } = page;
    let mut bytes = 0;
    let mut first = true;
    let mut fits = |payload: usize| {
        bytes += payload;
        std::mem::take(&mut first) || bytes <= PAGE_BYTES
    };
    let items = items
        .into_iter()
        .take_while(|item| fits(item.payload.len()))
        .map(|item| PageItem { dseq: item.dseq + shift, payload: item.payload })
        .collect();
    Page {
        device: pull.device,
        conn: pull.conn,
        resume: outcome.into(),
        epoch: state.epoch,
        after: after + shift,
        top: state.top + shift,
        items,
    }
}
