//! The embedded arm, broken: rules of the fault hooks, answers that get lost, and backends that end and start again.
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_control::inspect::BrokerInfo;
use chat_embedded::guard::guarded::Port;
use chat_embedded::guard::{Guarded, Hooks};
use chat_embedded::log::LogAdmin;
use chat_embedded::{Backends, BackendsConfig};
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use chat_ports::clock::{SharedClock, SteadyClock};
use chat_ports::history::History;
use chat_ports::observe::Observer;
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;
use chat_ports::tables::Tables;
use tempfile::TempDir;

use super::front::Front;
use super::{APPEND, Breaker, Brokers, FILES_CALL, LOG_BUFFER, LogSite, STORE_CALL, Site};
use crate::arm::{PARTITIONS, QUEUE_MAX, timers};

/// What a silent store loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Calls never reach it.
    Requests,
    /// Calls reach it and have their effect; their answers are lost.
    Answers,
}

/// Backends that can be started again on the same folder.
struct House {
    folder: TempDir,
    clock: SharedClock,
    observer: Observer,
}

impl House {
    fn new() -> Self {
        let clock: SharedClock = Arc::new(SteadyClock::new(1_700_000_000_000));
        let observer = Observer::new(Arc::clone(&clock));
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { folder, clock, observer }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Backends {
        let mut config = BackendsConfig::new(self.data(), PARTITIONS, timers(), 1);
        config.relay_queue = QUEUE_MAX;
        config.log.append = APPEND;
        config.log.log_buffer = LOG_BUFFER;
        Backends::start(config, &self.clock, &self.observer).expect("the backends start")
    }
}

/// Breaks one port.
struct Embedded<P: ?Sized> {
    house: House,
    backends: Mutex<Option<Backends>>,
    port_of: fn(&Backends) -> Arc<P>,
    front: Arc<Front<P>>,
    hooks: Arc<Hooks>,
    loss: Loss,
}

impl<P: Port + ?Sized> Embedded<P> {
    fn new(loss: Loss, port_of: fn(&Backends) -> Arc<P>) -> Self {
        let house = House::new();
        let backends = house.start();
        let front = Front::new(port_of(&backends));
        let backends = Mutex::new(Some(backends));
        Self { house, backends, port_of, front, hooks: Hooks::new(1), loss }
    }

    fn silence(&self, silent: bool) {
        match self.loss {
            Loss::Requests => {
                let rule = silent.then_some(PortRule::Cut);
                self.hooks.set(P::NAME, None, rule).unwrap();
            }
            Loss::Answers => self.front.deafen(silent),
        }
    }

    fn end(&self) {
        drop(self.backends.lock().unwrap().take());
    }

    fn begin(&self) {
        let backends = self.house.start();
        self.front.replace((self.port_of)(&backends));
        *self.backends.lock().unwrap() = Some(backends);
    }
}

#[async_trait]
impl<P: Port + ?Sized> Breaker for Embedded<P> {
    async fn freeze(&self) {
        self.silence(true);
    }

    async fn thaw(&self) {
        self.silence(false);
    }

    async fn kill(&self) {
        self.end();
    }

    async fn revive(&self) {
        self.begin();
    }

    async fn wipe(&self) {
        self.end();
        std::fs::remove_dir_all(self.house.data()).unwrap();
        self.begin();
    }
}

macro_rules! sites {
    ($($name:ident: $port:ident, $limit:expr, $of:expr;)+) => {$(
        /// The port behind its guard, with the limit of a call that the real arm has too.
        pub(crate) fn $name(loss: Loss) -> Site<dyn $port> {
            let embedded = Embedded::<dyn $port>::new(loss, $of);
            let front: Arc<dyn $port> = Arc::clone(&embedded.front) as _;
            let (hooks, observer) = (&embedded.hooks, &embedded.house.observer);
            let port = Arc::new(Guarded::new(front, "node", hooks, observer, $limit));
            Site { port, breaker: Box::new(embedded) }
        }
    )+};
}

sites! {
    registry: SessionRegistry, STORE_CALL, |backends| backends.store().registry();
    relay_queue: RelayQueue, STORE_CALL, |backends| backends.store().relay_queue();
    history: History, FILES_CALL, |backends| backends.history().history();
    tables: Tables, FILES_CALL, |backends| backends.history().tables();
    blobs: Blobs, FILES_CALL, |backends| backends.blobs().handle();
}

/// The log. Its stories break brokers, and nothing in between, so there is no loss to choose.
pub(crate) fn event_log(_: Loss) -> LogSite {
    let house = House::new();
    let backends = house.start();
    let (port, admin) = (backends.log().handle(), backends.log_admin().clone());
    LogSite {
        port,
        brokers: Box::new(EmbeddedBrokers { admin, _backends: backends, _house: house }),
    }
}

struct EmbeddedBrokers {
    admin: LogAdmin,
    _backends: Backends,
    _house: House,
}

/// Longer than an append may take, and soon over: what a slow broker was sent it does after so long, healed or not.
const SLOW: Duration = Duration::from_secs(2);

#[async_trait]
impl Brokers for EmbeddedBrokers {
    async fn all(&self) -> Result<Vec<BrokerInfo>, PortError> {
        self.admin.brokers().await
    }

    async fn freeze(&self, broker: u32) {
        self.admin.broker_slow(broker, SLOW).await.unwrap();
    }

    async fn thaw(&self, broker: u32) {
        self.admin.broker_slow(broker, Duration::ZERO).await.unwrap();
    }

    async fn kill(&self, broker: u32) {
        self.admin.broker_kill(broker).await.unwrap();
    }

    async fn revive(&self, broker: u32) {
        self.admin.broker_start(broker).await.unwrap();
    }
}
