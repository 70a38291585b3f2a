//! The `Reads` stream: pages of conversations, with a wait for a row that is not readable yet.
use std::sync::Arc;
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::history::{History, PageRequest, Row};
use chat_ports::observe::{Counter, Gauge, Observer};
use chat_ports::streams::kinds::ReadsDownItem;
use chat_ports::streams::{StreamSender, serving};
use chat_protocol::ConvId;
use chat_protocol::limits::HISTORY_PAGE_MAX;
use chat_protocol::node::reads_server::Reads;
use chat_protocol::node::{self, Call, ReadsDown, ReadsUp, Reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

/// Calls of one node that may be under way; a further one is answered as unavailable.
pub const CALLS_MAX: usize = 1_024;
/// Pages of one node that history reads at a time; a further one waits for a place, up to [`WAIT_MAX`]. When all devices read at once, a
/// store that was asked for everything at once answers nothing in time, and writes wait with the reads.
pub const PAGES_MAX: u32 = 8;
/// How long a call waits for `min_cseq` and for its place.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// How often a call that waits looks again.
const LOOK: Duration = Duration::from_millis(50);
/// Body bytes of a reply; one row at least. The reader goes on behind the last row.
const REPLY_BYTES: usize = 200 * 1024;

struct Inner {
    history: Arc<dyn History>,
    room: Arc<Semaphore>,
    pages: Semaphore,
    calls: Counter,
    unavailable: Counter,
    under_way: Gauge,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

/// Serves `Reads` streams. Cheap to clone.
#[derive(Clone)]
pub struct ReadsService {
    inner: Arc<Inner>,
}

impl ReadsService {
    pub(crate) fn start(
        history: Arc<dyn History>,
        observer: &Observer,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let inner = Inner {
            history,
            room: Arc::new(Semaphore::new(CALLS_MAX)),
            pages: Semaphore::new(PAGES_MAX as usize),
            calls: observer.counter("reads.calls"),
            unavailable: observer.counter("reads.unavailable"),
            under_way: observer.gauge("reads.under_way", CALLS_MAX as u64),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        };
        Self { inner: Arc::new(inner) }
    }
}

#[tonic::async_trait]
impl Reads for ReadsService {
    type OpenStream = ReceiverStream<Result<ReadsDown, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<ReadsUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (sender, stream, pump) = serving::<ReadsDown>();
        let inner = &self.inner;
        inner.tracker.spawn(inner.shutdown.clone().run_until_cancelled_owned(pump));
        let read = read(Arc::clone(inner), request.into_inner(), sender);
        inner.tracker.spawn(inner.shutdown.clone().run_until_cancelled_owned(read));
        Ok(Response::new(stream))
    }
}

/// Reads one gateway's stream until it ends.
async fn read(inner: Arc<Inner>, mut up: Streaming<ReadsUp>, answers: StreamSender<ReadsDown>) {
    while let Ok(Some(message)) = up.message().await {
        for call in message.calls {
            inner.calls.add(1);
            if let Ok(permit) = Arc::clone(&inner.room).try_acquire_owned() {
                inner.under_way.seen((CALLS_MAX - inner.room.available_permits()) as u64);
                let answer = answer(Arc::clone(&inner), call, answers.clone(), permit);
                inner.tracker.spawn(inner.shutdown.clone().run_until_cancelled_owned(answer));
            } else {
                inner.reply(&answers, Reply { id: call.id, ok: false, rows: Vec::new() });
            }
        }
    }
}

async fn answer(
    inner: Arc<Inner>,
    call: Call,
    answers: StreamSender<ReadsDown>,
    permit: OwnedSemaphorePermit,
) {
    let rows = inner.rows(&call).await;
    drop(permit);
    let reply = Reply { id: call.id, ok: rows.is_some(), rows: rows.unwrap_or_default() };
    inner.reply(&answers, reply);
}

impl Inner {
    fn reply(&self, answers: &StreamSender<ReadsDown>, reply: Reply) {
        if !reply.ok {
            self.unavailable.add(1);
        }
        if answers.offer(ReadsDownItem::Reply(reply)).is_err() {
            tracing::debug!("A gateway does not take its answers.");
        }
    }

    /// Rows of a call; `None` when history did not answer or `min_cseq` was not reached in time.
    async fn rows(&self, call: &Call) -> Option<Vec<node::Row>> {
        let conv = ConvId::from_bytes(&call.conv).ok()?;
        let until = Instant::now() + WAIT_MAX;
        if call.min_cseq > 0 && !self.wait_for(conv, call.min_cseq, until).await.ok()? {
            return None;
        }
        let limit = call.limit.min(HISTORY_PAGE_MAX);
        let request = PageRequest { conv, backward: call.backward, from: call.from, limit };
        let rows = self.page(request, until).await.ok()?;
        let (mut bytes, mut first) = (0, true);
        let mut fits = |row: &Row| {
            bytes += row.body.len();
            std::mem::take(&mut first) || bytes <= REPLY_BYTES
        };
        Some(rows.into_iter().take_while(|row| fits(row)).map(row_of).collect())
    }

    /// Reads a page once there is a place for it; refused when there is none by `until`.
    async fn page(&self, request: PageRequest, until: Instant) -> Result<Vec<Row>, PortError> {
        let place = tokio::time::timeout_at(until, self.pages.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(PortError::Refused("too many pages are read".to_owned()));
        };
        self.history.page(request).await
    }

    /// Waits until the row is readable; `false` when it is not by `until`.
    async fn wait_for(&self, conv: ConvId, cseq: u64, until: Instant) -> Result<bool, PortError> {
        let request = PageRequest { conv, backward: false, from: cseq - 1, limit: 1 };
        loop {
            if !self.page(request, until).await?.is_empty() {
                return Ok(true);
            }
            let next = Instant::now() + LOOK;
            if next > until {
                return Ok(false);
            }
            tokio::time::sleep_until(next).await;
        }
    }
}

fn row_of(row: Row) -> node::Row {
    node::Row {
        cseq: row.cseq,
        mid: bytes::Bytes::copy_from_slice(&row.mid.to_bytes()),
        cid: bytes::Bytes::copy_from_slice(&row.cid.to_bytes()),
        from_device: row.from.0,
        kind: row.kind,
        client_ms: row.client_ms,
        server_ms: row.server_ms,
        body: row.body,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chat_ports::clock::SteadyClock;
    use chat_ports::twins::TwinHistory;
    use chat_protocol::{Cid, DeviceId, Mid, UserId};
    use uuid::Uuid;

    use super::*;

    fn conv() -> ConvId {
        ConvId::direct(UserId(1), UserId(2)).unwrap()
    }

    fn row(cseq: u64, body: usize) -> Row {
        Row {
            conv: conv(),
            cseq,
            mid: Mid(Uuid::from_u128(cseq.into())),
            cid: Cid(Uuid::from_u128(cseq.into())),
            from: DeviceId(256),
            kind: 0,
            client_ms: 1,
            server_ms: 1,
            body: Bytes::from(vec![0; body]),
        }
    }

    fn service(rows: Arc<TwinHistory>) -> Arc<Inner> {
        let observer = Observer::new(Arc::new(SteadyClock::new(1)));
        ReadsService::start(rows, &observer, &TaskTracker::new(), &CancellationToken::new()).inner
    }

    fn call(limit: u32, min_cseq: u64) -> Call {
        Call {
            conv: Bytes::copy_from_slice(&conv().to_bytes()),
            limit,
            min_cseq,
            ..Call::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reader_waits_for_the_row_it_has_been_promised() {
        let rows = TwinHistory::new();
        let service = service(Arc::clone(&rows));
        let late = async {
            tokio::time::sleep(Duration::from_millis(900)).await;
            rows.upsert(vec![row(1, 3)]).await.unwrap();
        };
        let call = call(10, 1);
        let (read, ()) = tokio::join!(service.rows(&call), late);
        assert_eq!(read.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn row_that_does_not_come_in_time_is_answered_as_unavailable() {
        let service = service(TwinHistory::new());
        let began = Instant::now();
        assert!(service.rows(&call(10, 1)).await.is_none());
        assert!(began.elapsed() <= WAIT_MAX);
    }

    #[tokio::test]
    async fn page_of_large_bodies_is_cut_and_never_empty() {
        let rows = TwinHistory::new();
        rows.upsert((1..=5).map(|cseq| row(cseq, 90 * 1024)).collect()).await.unwrap();
        let read = service(rows).rows(&call(10, 0)).await.unwrap();
        assert_eq!(read.iter().map(|row| row.cseq).collect::<Vec<_>>(), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn pages_beyond_the_places_wait_and_are_answered() {
        let rows = TwinHistory::new();
        rows.upsert(vec![row(1, 3)]).await.unwrap();
        let service = service(rows);
        let all = service.pages.acquire_many(PAGES_MAX).await.unwrap();
        let call = call(10, 0);
        let freed = async {
            tokio::time::sleep(WAIT_MAX / 2).await;
            drop(all);
        };
        let (read, ()) = tokio::join!(service.rows(&call), freed);
        assert_eq!(read.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn page_without_a_place_in_time_is_answered_as_unavailable() {
        let service = service(TwinHistory::new());
        let _all = service.pages.acquire_many(PAGES_MAX).await.unwrap();
        let began = Instant::now();
        assert!(service.rows(&call(10, 0)).await.is_none());
        assert!(began.elapsed() <= WAIT_MAX);
    }

    #[tokio::test]
    async fn malformed_conversation_is_answered_and_not_a_panic() {
        let call = Call { conv: Bytes::from_static(b"x"), limit: 1, ..Call::default() };
        assert!(service(TwinHistory::new()).rows(&call).await.is_none());
    }
}
