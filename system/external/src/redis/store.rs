//! One node's client of the store, and its handles.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::observe::{Counter, Event, Gauge, Observer};
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;
use chat_protocol::DeviceId;
use redis::Value;
use tokio::sync::{Semaphore, TryAcquireError};

use super::admin::RedisAdmin;
use super::answer::{self, odd};
use super::keys::Keys;
use super::link::Link;
use super::queue::RedisQueue;
use super::registry::RedisRegistry;
use super::scripts::{Call, Script};

/// Calls that may wait through one handle; a further one is refused.
const WAITING_MAX: usize = 256;

/// Where the store is and what it promises.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Address of the server.
    pub addr: SocketAddr,
    /// What all keys begin with; two systems on one server have different ones. 1 to 64 ASCII letters, digits, `-`, `_` and `.`.
    pub prefix: String,
    /// Items a queue holds, one at least. A full one loses its oldest sixteenth, and its epoch and floor rise.
    pub relay_queue: u64,
    /// Longest duration of a call.
    pub call: Duration,
}

/// The registry and the relay queues in one Redis server, seen from one node.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) keys: Keys,
    pub(super) relay_queue: u64,
    pub(super) call: Duration,
    longest: Gauge,
    /// Enqueueing scripts, and items in them.
    pub(super) scripts: Counter,
    pub(super) items: Counter,
    observer: Observer,
}

impl RedisStore {
    /// Connects, on the present runtime, whose end ends the connection. Floors that calls through this store raise are noted at
    /// `observer`, which also gets the gauge `relay_queue.items`, the longest queue among those that grew, and counts
    /// `redis.scripts` (those that enqueue) and `redis.items` (items in them).
    ///
    /// Refused when the prefix is unusable, or when no server of version 7.0 or newer answers within the limit of a call.
    pub async fn connect(config: RedisConfig, observer: &Observer) -> Result<Self, PortError> {
        let RedisConfig { addr, prefix, relay_queue, call } = config;
        let keys = Keys::new(&prefix).ok_or_else(|| {
            PortError::Refused(format!("`{prefix}` cannot be what keys begin with"))
        })?;
        let adopt = Call::new(Script::Incarnation, &[keys.incarnation()]);
        let link = Link::new(addr, call, adopt)?;
        let relay_queue = relay_queue.max(1);
        let longest = observer.gauge("relay_queue.items", relay_queue);
        let shared = Shared {
            link,
            keys,
            relay_queue,
            call,
            longest,
            scripts: observer.counter("redis.scripts"),
            items: observer.counter("redis.items"),
            observer: observer.clone(),
        };
        shared.link.ready().await?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The registry, with a limit of waiting calls of its own.
    pub fn registry(&self) -> Arc<dyn SessionRegistry> {
        Arc::new(RedisRegistry::new(self.door()))
    }

    /// The relay queues, with a limit of waiting calls of their own.
    pub fn relay_queue(&self) -> Arc<dyn RelayQueue> {
        Arc::new(RedisQueue::new(self.door()))
    }

    /// What an operator may see, with a limit of waiting calls of its own.
    pub fn admin(&self) -> RedisAdmin {
        RedisAdmin::new(self.door())
    }

    pub(super) fn door(&self) -> Door {
        Door { shared: Arc::clone(&self.shared), places: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

/// One handle's way to the store.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

impl Door {
    /// Makes one call.
    pub(super) async fn ask(&self, call: Call) -> Result<Value, PortError> {
        self.ask_all(vec![call]).await?.pop().ok_or_else(odd)
    }

    /// Makes calls in one round trip, each of them atomic. They may be made twice, so they are one or can be repeated.
    pub(super) async fn ask_all(&self, calls: Vec<Call>) -> Result<Vec<Value>, PortError> {
        let _place = self.places.try_acquire().map_err(|error| {
            PortError::Refused(match error {
                TryAcquireError::NoPermits => "too many calls waiting".to_owned(),
                TryAcquireError::Closed => "the store's handle is closed".to_owned(),
            })
        })?;
        self.shared.link.ask(calls).await
    }

    /// Notes floors that a script raised.
    pub(super) fn raised(&self, raised: Value) -> Result<(), PortError> {
        for device in answer::list(raised)? {
            let id = answer::text(&device)?.rsplit_once(':').and_then(|(_, id)| id.parse().ok());
            let id = id.ok_or_else(odd)?;
            self.shared.observer.note(Event::FloorRaised(DeviceId(id)));
        }
        Ok(())
    }

    /// Notes the length of a queue that grew.
    pub(super) fn grew(&self, length: u64) {
        self.shared.longest.seen(length);
    }
}
