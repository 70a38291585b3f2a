//! Node-to-node streams of batches.
//!
//! A node opens one bidirectional stream to every live node of a role. Items wait in a bounded queue, leave in batches of
//! at most [`BATCH_ITEMS`], at once on an idle stream and otherwise [`FLUSH_GAP`] after the batch before, so cost goes by
//! batch and not by message. [`BATCHES_UNCONFIRMED`] batches may be on the way; then the queue fills, and a full queue
//! refuses: the caller sees it and says so to its own source.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_protocol::limits::{BATCH_ITEMS, BATCHES_UNCONFIRMED};
use chat_protocol::node::Opener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::nodes::{LiveNode, NodeTable, NodeView};
use crate::registry::{NodeKey, Role};

pub mod kinds;

/// Least time between two batches of a stream that does not stand still.
pub const FLUSH_GAP: Duration = Duration::from_millis(2);
/// Items that may wait for a stream; a further one is refused.
pub const QUEUE_ITEMS: usize = 4_096;
/// Largest message of a stream.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// A message of a stream: a batch that items can be added to.
pub trait Batch: Default + Send + 'static {
    /// What is batched.
    type Item: Send + 'static;

    /// Adds an item.
    fn add(&mut self, item: Self::Item);

    /// Puts the opener into the first message of a stream.
    fn opened_by(&mut self, opener: Opener);
}

/// How a role's stream is opened; one a role, written out because tonic generates a type a service.
#[tonic::async_trait]
pub trait Open: Send + Sync + 'static {
    /// Batches up.
    type Up: Batch;
    /// Messages down.
    type Down: Send + 'static;

    /// Which role is dialled.
    const ROLE: Role;

    /// Opens the stream on a channel.
    async fn open(
        channel: Channel,
        up: ReceiverStream<Self::Up>,
    ) -> Result<Streaming<Self::Down>, Status>;
}

/// What a peer's stream says to its owner.
pub enum PeerEvent<Down> {
    /// The stream is open; what the peer pushes arrives from now on.
    Opened(NodeKey),
    /// A message.
    Message(NodeKey, Down),
    /// The stream is gone; everything unconfirmed on it may be lost.
    Closed(NodeKey),
}

/// The sending side of one open stream. A clone sends on the same stream.
pub struct StreamSender<B: Batch> {
    queue: mpsc::Sender<B::Item>,
}

impl<B: Batch> Clone for StreamSender<B> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<B: Batch> StreamSender<B> {
    /// Hands an item over; gives it back when the queue is full or the stream is gone.
    pub fn offer(&self, item: B::Item) -> Result<(), B::Item> {
        self.queue.try_send(item).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item) => item,
        })
    }

    /// Waits for room; gives the item back when the stream is gone.
    pub async fn send(&self, item: B::Item) -> Result<(), B::Item> {
        self.queue.send(item).await.map_err(|refused| refused.0)
    }

    /// Items that wait at the moment.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Whether both send on the same stream.
    pub fn is_same(&self, other: &Self) -> bool {
        self.queue.same_channel(&other.queue)
    }

    /// Whether the stream has ended.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

/// Both ends of an outgoing half: items in, batches out. The pump ends with the stream or when all senders are gone.
pub fn batching<B: Batch>(
    opener: Option<Opener>,
) -> (StreamSender<B>, ReceiverStream<B>, impl Future<Output = ()> + Send) {
    let (queue, items) = mpsc::channel(QUEUE_ITEMS);
    let (batches, stream) = mpsc::channel(BATCHES_UNCONFIRMED);
    (StreamSender { queue }, ReceiverStream::new(stream), pump(opener, items, batches))
}

/// The same for the serving end of a stream, whose messages are results.
pub fn serving<B: Batch>()
-> (StreamSender<B>, ReceiverStream<Result<B, Status>>, impl Future<Output = ()> + Send) {
    let (queue, items) = mpsc::channel(QUEUE_ITEMS);
    let (batches, stream) = mpsc::channel(BATCHES_UNCONFIRMED);
    (StreamSender { queue }, ReceiverStream::new(stream), pump_with(None, items, batches, Ok))
}

async fn pump<B: Batch>(
    opener: Option<Opener>,
    items: mpsc::Receiver<B::Item>,
    batches: mpsc::Sender<B>,
) {
    pump_with(opener, items, batches, |batch| batch).await;
}

async fn pump_with<B: Batch, M>(
    opener: Option<Opener>,
    mut items: mpsc::Receiver<B::Item>,
    batches: mpsc::Sender<M>,
    wrap: impl Fn(B) -> M,
) {
    if let Some(opener) = opener {
        let mut first = B::default();
        first.opened_by(opener);
        if batches.send(wrap(first)).await.is_err() {
            return;
        }
    }
    let mut buffer = Vec::with_capacity(BATCH_ITEMS);
    let mut last = Instant::now() - FLUSH_GAP;
    loop {
        let room = tokio::select! {
            got = items.recv_many(&mut buffer, BATCH_ITEMS) => got,
            () = batches.closed() => return,
        };
        if room == 0 {
            return;
        }
        // A stream that has just sent gathers for the rest of the gap, unless the batch is full before.
        while buffer.len() < BATCH_ITEMS && last.elapsed() < FLUSH_GAP {
            let more = BATCH_ITEMS - buffer.len();
            tokio::select! {
                got = items.recv_many(&mut buffer, more) => if got == 0 { break },
                () = tokio::time::sleep_until(last + FLUSH_GAP) => break,
            }
        }
        let mut batch = B::default();
        for item in buffer.drain(..) {
            batch.add(item);
        }
        if batches.send(wrap(batch)).await.is_err() {
            return;
        }
        last = Instant::now();
    }
}

/// Streams to all live nodes of a role. Cheap to clone.
pub struct Peers<O: Open> {
    senders: watch::Receiver<Arc<BTreeMap<NodeKey, StreamSender<O::Up>>>>,
}

impl<O: Open> Clone for Peers<O> {
    fn clone(&self) -> Self {
        Self { senders: self.senders.clone() }
    }
}

impl<O: Open> Peers<O> {
    /// Opens streams to every node of the role that the view shows, and keeps them open until `shutdown`. Events of all
    /// streams arrive on `events`, whose full queue holds the streams back.
    pub fn start(
        view: &NodeView,
        keepalive: Duration,
        events: mpsc::Sender<PeerEvent<O::Down>>,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let (publish, senders) = watch::channel(Arc::default());
        let opener = Opener { node: view.key.name.to_string(), node_epoch: view.key.epoch };
        let dialler = Arc::new(Dialler::<O> { opener, keepalive, events, publish });
        let (table, shutdown) = (view.table.clone(), shutdown.clone());
        tracker.spawn(dialler.keep_all(table, tracker.clone(), shutdown));
        Self { senders }
    }

    /// The stream to one node incarnation, if it is open.
    pub fn to(&self, node: &NodeKey) -> Option<StreamSender<O::Up>> {
        self.senders.borrow().get(node).cloned()
    }

    /// All open streams.
    pub fn open(&self) -> Arc<BTreeMap<NodeKey, StreamSender<O::Up>>> {
        Arc::clone(&self.senders.borrow())
    }

    /// The open stream to the node that takes care of `key`, by rendezvous hashing over the open streams.
    pub fn owner(&self, key: u64) -> Option<(NodeKey, StreamSender<O::Up>)> {
        let open = self.senders.borrow();
        let nodes: Vec<_> = open.iter().collect();
        chat_protocol::ids::rendezvous(key, &nodes, |(node, _)| &node.name)
            .map(|(node, sender)| ((*node).clone(), (*sender).clone()))
    }

    /// Waits until the set of open streams changes; `Err` after shutdown.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.senders.changed().await
    }
}

type Senders<B> = watch::Sender<Arc<BTreeMap<NodeKey, StreamSender<B>>>>;

/// What the streams to all nodes of a role have in common.
struct Dialler<O: Open> {
    opener: Opener,
    keepalive: Duration,
    events: mpsc::Sender<PeerEvent<O::Down>>,
    publish: Senders<O::Up>,
}

impl<O: Open> Dialler<O> {
    async fn keep_all(
        self: Arc<Self>,
        mut table: watch::Receiver<Arc<NodeTable>>,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) {
        let mut running: BTreeMap<NodeKey, CancellationToken> = BTreeMap::new();
        loop {
            let live = Arc::clone(&table.borrow_and_update());
            running.retain(|key, token| {
                let keep = live.has(key);
                if !keep {
                    token.cancel();
                }
                keep
            });
            for node in live.with(O::ROLE) {
                if running.contains_key(&node.key) {
                    continue;
                }
                let token = shutdown.child_token();
                running.insert(node.key.clone(), token.clone());
                tracker.spawn(Arc::clone(&self).keep(node.clone(), token));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = table.changed() => if changed.is_err() { return },
            }
        }
    }

    /// One peer: dials, serves the stream until it breaks, dials again after a pause that doubles up to a second.
    async fn keep(self: Arc<Self>, node: LiveNode, token: CancellationToken) {
        const PAUSE_MIN: Duration = Duration::from_millis(20);
        const PAUSE_MAX: Duration = Duration::from_secs(1);
        let mut pause = PAUSE_MIN;
        while !token.is_cancelled() {
            let began = Instant::now();
            if let Some(Ok(channel)) =
                token.run_until_cancelled(dial(node.addr, self.keepalive)).await
            {
                self.serve(&node.key, channel, &token).await;
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            token.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Serves one stream to its end. It must not be dropped before, because its owner would not learn of the end.
    async fn serve(&self, node: &NodeKey, channel: Channel, token: &CancellationToken) {
        let Self { opener, events, publish, .. } = self;
        let (sender, batches, pump) = batching::<O::Up>(Some(opener.clone()));
        let serve = async {
            let Ok(mut down) = O::open(channel, batches).await else { return };
            if events.send(PeerEvent::Opened(node.clone())).await.is_err() {
                return;
            }
            // The entry is removed in every case: a cancelled task removes it in the guard's drop.
            let _entry = Published { publish, key: node };
            publish.send_modify(|all| {
                Arc::make_mut(all).insert(node.clone(), sender.clone());
            });
            while let Ok(Some(message)) = down.message().await {
                if events.send(PeerEvent::Message(node.clone(), message)).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = serve => {}
            () = pump => {}
        }
        // Owners learn of every end; a full queue of events is waited for, because losing this event would lose messages.
        if events.send(PeerEvent::Closed(node.clone())).await.is_err() {
            tracing::debug!(node = %node.name, "Nobody listens to the peer any more.");
        }
    }
}

struct Published<'a, B: Batch> {
    publish: &'a Senders<B>,
    key: &'a NodeKey,
}

impl<B: Batch> Drop for Published<'_, B> {
    fn drop(&mut self) {
        self.publish.send_modify(|all| {
            Arc::make_mut(all).remove(self.key);
        });
    }
}

/// Opens an HTTP/2 channel with keepalive, so that a black-holed peer is found.
async fn dial(addr: SocketAddr, keepalive: Duration) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_: tonic::transport::Uri| async move {
        crate::net::dial(addr, DIAL_LIMIT).await.map(hyper_util::rt::TokioIo::new)
    });
    Endpoint::from_shared(format!("http://{addr}"))?
        .connect_timeout(DIAL_LIMIT)
        .http2_keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive + keepalive / 2)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .connect_with_connector(connector)
        .await
}

/// Limit of a TCP connect between nodes.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use chat_protocol::node::enqueue_server::{Enqueue, EnqueueServer};
    use chat_protocol::node::{EnqueueDown, EnqueueUp};
    use tonic::{Request, Response};

    use super::*;
    use crate::registry::NodeLease;

    /// Keeps every stream open and says nothing.
    struct Silent(CancellationToken);

    #[tonic::async_trait]
    impl Enqueue for Silent {
        type OpenStream = ReceiverStream<Result<EnqueueDown, Status>>;

        async fn open(
            &self,
            mut request: Request<Streaming<EnqueueUp>>,
        ) -> Result<Response<Self::OpenStream>, Status> {
            request.get_mut().message().await?;
            let (sender, stream) = mpsc::channel(1);
            let ended = self.0.clone();
            // The test's runtime ends the task with the test.
            TaskTracker::new().spawn(async move {
                ended.cancelled().await;
                drop(sender);
            });
            Ok(Response::new(ReceiverStream::new(stream)))
        }
    }

    fn table(live: &[(&NodeKey, SocketAddr)]) -> Arc<NodeTable> {
        let lease = |(key, addr): &(&NodeKey, SocketAddr)| NodeLease {
            key: (*key).clone(),
            addr: *addr,
            roles: vec![Role::Relay],
            left: Some(Duration::from_secs(1)),
        };
        Arc::new(NodeTable::of(live.iter().map(lease).collect()))
    }

    #[tokio::test]
    async fn owner_learns_of_the_end_of_a_stream_whenever_its_node_leaves_the_table() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let server = tonic::transport::Server::builder()
            .add_service(EnqueueServer::new(Silent(shutdown.clone())))
            .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(server));
        let own = NodeKey { name: "messaging-1".into(), epoch: 1 };
        let relay = NodeKey { name: "relay-1".into(), epoch: 1 };
        let (change, seen) = watch::channel(table(&[]));
        let view = NodeView { table: seen, ..crate::twins::view(&own, &[]) };
        let (events, mut arriving) = mpsc::channel(4);
        let keepalive = Duration::from_secs(2);
        let peers =
            Peers::<kinds::EnqueueStream>::start(&view, keepalive, events, &tracker, &shutdown);
        // Often enough that an end which is told only sometimes is found out.
        for _ in 0..20 {
            change.send_replace(table(&[(&relay, addr)]));
            assert!(
                matches!(arriving.recv().await, Some(PeerEvent::Opened(node)) if node == relay)
            );
            change.send_replace(table(&[]));
            assert!(
                matches!(arriving.recv().await, Some(PeerEvent::Closed(node)) if node == relay)
            );
        }
        assert!(peers.open().is_empty());
        shutdown.cancel();
        tracker.close();
        tracker.wait().await;
    }
}
