//! What stands between a guard and an embedded backend: the way on which answers get lost, and the place where a backend that was
//! started again takes over.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use chat_ports::history::{ConvDigest, History, PageRequest, Row};
use chat_ports::registry::{
    NodeKey, NodeLease, Registered, Role, Route, RouteEntry, SessionRegistry,
};
use chat_ports::relay_queue::{Enqueue, QueuePage, QueueState, RelayQueue, SourceOutcome};
use chat_ports::tables::{Table, Tables};
use chat_protocol::{ConvId, DeviceId};

/// The present backend, and whether its answers get lost.
pub(super) struct Front<P: ?Sized> {
    backend: RwLock<Arc<P>>,
    deaf: AtomicBool,
}

impl<P: ?Sized> Front<P> {
    pub(super) fn new(backend: Arc<P>) -> Arc<Self> {
        Arc::new(Self { backend: RwLock::new(backend), deaf: AtomicBool::new(false) })
    }

    /// From now on calls have their effect and are not answered; or they are again. A lost answer never comes.
    pub(super) fn deafen(&self, deaf: bool) {
        self.deaf.store(deaf, Relaxed);
    }

    /// Another backend takes over.
    pub(super) fn replace(&self, backend: Arc<P>) {
        *self.backend.write().unwrap() = backend;
    }

    fn backend(&self) -> Arc<P> {
        Arc::clone(&self.backend.read().unwrap())
    }

    async fn through<T: Send>(
        &self,
        work: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        let answer = work.await;
        if self.deaf.load(Relaxed) {
            drop(answer);
            return std::future::pending().await;
        }
        answer
    }
}

macro_rules! fronts {
    ($($port:ident { $(fn $call:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+ })+) => {$(
        #[async_trait]
        impl $port for Front<dyn $port> {
            $(
                async fn $call(&self, $($arg: $type),*) -> Result<$answer, PortError> {
                    let backend = self.backend();
                    self.through(backend.$call($($arg),*)).await
                }
            )+
        }
    )+};
}

fronts! {
    SessionRegistry {
        fn join(name: &str, addr: SocketAddr, roles: &[Role], ttl: Duration) -> u64;
        fn renew(node: &NodeKey, ttl: Duration) -> bool;
        fn leave(node: &NodeKey) -> ();
        fn nodes() -> Vec<NodeLease>;
        fn register(node: &NodeKey, devices: &[(DeviceId, u64)]) -> Vec<Registered>;
        fn unregister(routes: &[(DeviceId, Route)]) -> Vec<bool>;
        fn routes(devices: &[DeviceId]) -> Vec<Option<Route>>;
        fn routes_of(node: &NodeKey, limit: usize) -> Vec<RouteEntry>;
        fn claim_dead(sweeper: &str, claim: Duration) -> Option<NodeKey>;
        fn forget(node: &NodeKey) -> bool;
    }
    RelayQueue {
        fn enqueue(call: Enqueue) -> Vec<SourceOutcome>;
        fn trim(acks: &[(DeviceId, u64, u64)]) -> ();
        fn read(pages: &[(DeviceId, u64, u32)]) -> Vec<QueuePage>;
        fn states(devices: &[DeviceId]) -> Vec<QueueState>;
        fn watermarks() -> Vec<(Arc<str>, u32, u64)>;
        fn incarnation() -> u64;
    }
    History {
        fn upsert(rows: Vec<Row>) -> ();
        fn page(request: PageRequest) -> Vec<Row>;
        fn digests(convs: &[ConvId]) -> Vec<ConvDigest>;
    }
    Tables {
        fn get(table: Table, keys: &[u64]) -> Vec<Option<Bytes>>;
        fn compare_and_set(table: Table, key: u64, old: Option<Bytes>, new: Bytes) -> bool;
    }
    Blobs {
        fn put(name: &str, bytes: Bytes) -> ();
        fn get(name: &str) -> Option<Bytes>;
        fn list(prefix: &str) -> Vec<String>;
        fn delete(name: &str) -> ();
    }
}
