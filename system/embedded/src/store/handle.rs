//! The two ports in front of the store, which serves each call in its caller's thread.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chat_control::inspect::{LeaseView, QueueView, RouteChange};
use chat_ports::PortError;
use chat_ports::clock::SharedClock;
use chat_ports::observe::{Event, Observer};
use chat_ports::registry::{
    NodeKey, NodeLease, Registered, Role, Route, RouteEntry, SessionRegistry,
};
use chat_ports::relay_queue::{Enqueue, QueuePage, QueueState, RelayQueue, SourceOutcome};
use chat_protocol::DeviceId;
use tokio::sync::oneshot::Sender;
use tokio::time::Instant;

use super::state::{Now, Store};
use crate::desk::{Desk, answer};

/// One call: what to do with the store, its answer included.
type Call = Box<dyn FnOnce(&mut Store, Now) + Send>;

/// Ends the store on drop: it forgets everything, and later calls are refused.
pub(crate) struct StoreStop {
    state: Arc<Mutex<Option<Store>>>,
}

impl Drop for StoreStop {
    fn drop(&mut self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Both ports. A clone shares its count of waiting calls; [`Self::registry`] and [`Self::relay_queue`] give fresh ones.
#[derive(Clone)]
pub struct EmbeddedStore {
    desk: Desk<Call>,
}

impl EmbeddedStore {
    /// An empty store. A queue holds at most `relay_queue` items.
    pub(crate) fn start(
        relay_queue: u64,
        clock: SharedClock,
        observer: Observer,
    ) -> (Self, StoreAdmin, StoreStop) {
        let start = Instant::now();
        let now = move || Now { at: start.elapsed(), wall_ms: clock.wall_ms() };
        let state = Arc::new(Mutex::new(Some(Store::new(now(), relay_queue))));
        let store = Arc::clone(&state);
        let longest = observer.gauge("relay_queue.items", relay_queue);
        let desk = Desk::<Call>::here(move |call| {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(store) = &mut *store else { return false };
            call(store, now());
            longest.seen(store.take_longest() as u64);
            for device in store.take_raised() {
                observer.note(Event::FloorRaised(device));
            }
            true
        });
        let admin = StoreAdmin { store: Self { desk: desk.handle() } };
        let stop = StoreStop { state };
        (Self { desk }, admin, stop)
    }

    /// A handle with its own limit of waiting calls.
    pub fn registry(&self) -> Arc<dyn SessionRegistry> {
        Arc::new(Self { desk: self.desk.handle() })
    }

    /// A handle with its own limit of waiting calls.
    pub fn relay_queue(&self) -> Arc<dyn RelayQueue> {
        Arc::new(Self { desk: self.desk.handle() })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store, Now) -> T + Send + 'static,
    ) -> Result<T, PortError> {
        let call = |reply: Sender<T>| -> Call {
            Box::new(move |store, now| answer(reply, work(store, now)))
        };
        self.desk.ask(call).await
    }
}

#[async_trait]
impl SessionRegistry for EmbeddedStore {
    async fn join(
        &self,
        name: &str,
        addr: SocketAddr,
        roles: &[Role],
        ttl: Duration,
    ) -> Result<u64, PortError> {
        let (name, roles) = (name.to_owned(), roles.to_vec());
        self.with(move |store, now| store.join(now, &name, addr, roles, ttl)).await
    }

    async fn renew(&self, node: &NodeKey, ttl: Duration) -> Result<bool, PortError> {
        let node = node.clone();
        self.with(move |store, now| store.renew(now, &node, ttl)).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<(), PortError> {
        let node = node.clone();
        self.with(move |store, now| store.leave(now, &node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeLease>, PortError> {
        self.with(|store, now| store.nodes(now)).await
    }

    async fn register(
        &self,
        node: &NodeKey,
        devices: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError> {
        let (node, devices) = (node.clone(), devices.to_vec());
        self.with(move |store, now| store.register(now, &node, &devices)).await?
    }

    async fn unregister(&self, routes: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
        let routes = routes.to_vec();
        self.with(move |store, now| store.unregister(now, &routes)).await
    }

    async fn routes(&self, devices: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError> {
        let devices = devices.to_vec();
        self.with(move |store, _| store.routes(&devices)).await
    }

    async fn routes_of(&self, node: &NodeKey, limit: usize) -> Result<Vec<RouteEntry>, PortError> {
        let node = node.clone();
        self.with(move |store, _| store.routes_of(&node, limit)).await
    }

    async fn claim_dead(
        &self,
        sweeper: &str,
        claim: Duration,
    ) -> Result<Option<NodeKey>, PortError> {
        let claimed = self.with(move |store, now| store.claim_dead(now, claim)).await?;
        if let Some(node) = &claimed {
            tracing::debug!(sweeper, node = %node.name, epoch = node.epoch, "A dead node is being swept.");
        }
        Ok(claimed)
    }

    async fn forget(&self, node: &NodeKey) -> Result<bool, PortError> {
        let node = node.clone();
        self.with(move |store, now| store.forget(now, &node)).await
    }
}

#[async_trait]
impl RelayQueue for EmbeddedStore {
    async fn enqueue(&self, call: Enqueue) -> Result<Vec<SourceOutcome>, PortError> {
        self.with(move |store, now| store.enqueue(now, call)).await?
    }

    async fn trim(&self, acks: &[(DeviceId, u64, u64)]) -> Result<(), PortError> {
        let acks = acks.to_vec();
        self.with(move |store, _| store.trim(&acks)).await
    }

    async fn read(&self, pages: &[(DeviceId, u64, u32)]) -> Result<Vec<QueuePage>, PortError> {
        let pages = pages.to_vec();
        self.with(move |store, now| store.read(now, &pages)).await
    }

    async fn states(&self, devices: &[DeviceId]) -> Result<Vec<QueueState>, PortError> {
        let devices = devices.to_vec();
        self.with(move |store, _| store.states(&devices)).await
    }

    async fn watermarks(&self) -> Result<Vec<(Arc<str>, u32, u64)>, PortError> {
        self.with(|store, _| store.watermarks()).await
    }

    async fn incarnation(&self) -> Result<u64, PortError> {
        self.with(|store, _| store.incarnation()).await
    }
}

/// What an operator may see of the store.
#[derive(Clone)]
pub struct StoreAdmin {
    store: EmbeddedStore,
}

impl StoreAdmin {
    /// Changes of routes since a cursor, and the next cursor. Cursor 0 lists all present routes; a cursor that fell more than
    /// 131,072 changes behind gets the present state of every device instead, removed routes included.
    pub async fn routes_since(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64), PortError> {
        self.store.with(move |store, _| store.routes_since(cursor)).await
    }

    /// Empties the store: see [`Store::wipe`].
    pub async fn wipe(&self) -> Result<(), PortError> {
        self.store.with(Store::wipe).await
    }

    /// All node leases, ended ones included.
    pub async fn leases(&self) -> Result<Vec<LeaseView>, PortError> {
        self.store.with(|store, now| store.leases(now)).await
    }

    /// Queues of devices, in order; a missing one has epoch 0.
    pub async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>, PortError> {
        let devices = devices.to_vec();
        self.store.with(move |store, now| store.queue_views(now, &devices)).await
    }
}
