//! The real arm, broken: the engine freezes, kills and starts containers of a set that fault stories have for themselves, one after
//! another. Each begins with a set that is whole, whatever became of the one before.
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chat_control::inspect::BrokerInfo;
use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_external::kafka::{KafkaAdmin, KafkaConfig, KafkaLog};
use chat_external::redis::{RedisConfig, RedisStore};
use chat_external::s3::S3Blobs;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use chat_ports::clock::SteadyClock;
use chat_ports::history::History;
use chat_ports::observe::Observer;
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;
use chat_ports::tables::Tables;
use tokio::sync::{Mutex as TurnMutex, MutexGuard as Turn};

use super::set::{Started, broken};
use crate::arm::{PARTITIONS, QUEUE_MAX, eventually, timers, within};
use crate::faults::{
    APPEND, Breaker, Brokers, FILES_CALL, HEALING, LOG_BUFFER, LogSite, STORE_CALL, Site,
};

/// A lease that no story outlives.
const LEASE: Duration = Duration::from_mins(5);
/// Whose turn it is to break the set.
static TURN: TurnMutex<()> = TurnMutex::const_new(());
/// What a story has broken and not brought back.
static FROZEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// See [`FROZEN`].
static KILLED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn note(broken: &Mutex<BTreeSet<String>>, backend: &str, is: bool) {
    let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
    if is {
        broken.insert(backend.to_owned());
    } else {
        broken.remove(backend);
    }
}

fn noted(broken: &Mutex<BTreeSet<String>>) -> BTreeSet<String> {
    broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The set, while it is this story's turn.
struct Mine {
    started: &'static Started,
    _turn: Turn<'static, ()>,
}

impl Mine {
    /// Waits for its turn, and brings back what the story before has left broken.
    async fn take() -> Option<Self> {
        let started = broken()?;
        let mine = Self { started, _turn: TURN.lock().await };
        for backend in noted(&FROZEN) {
            mine.thaw(&backend).await;
        }
        for backend in noted(&KILLED) {
            mine.revive(&backend).await;
        }
        Some(mine)
    }

    /// The engine's own command: the set has no call that freezes.
    async fn docker(&self, verb: &'static str, backend: &str) {
        let name = format!("chatstorm-{}-{backend}", self.started.run);
        let run = move || {
            let mut command = Command::new("docker");
            command.args([verb, &name]).stdin(Stdio::null()).output()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap().expect("docker can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {verb} {backend}: {said}");
    }

    async fn freeze(&self, backend: &str) {
        note(&FROZEN, backend, true);
        self.docker("pause", backend).await;
    }

    async fn thaw(&self, backend: &str) {
        self.docker("unpause", backend).await;
        note(&FROZEN, backend, false);
    }

    async fn kill(&self, backend: &str) {
        note(&KILLED, backend, true);
        let (set, backend) = (&self.started.set, backend.to_owned());
        // The connection to the engine belongs to the set's runtime.
        let kill = self.started.runtime.spawn(async move { set.kill(&backend).await });
        kill.await.unwrap().expect("the engine kills");
    }

    async fn revive(&self, backend: &str) {
        let (set, started) = (&self.started.set, backend.to_owned());
        let start = self.started.runtime.spawn(async move { set.revive(&started).await });
        start.await.unwrap().expect("the engine starts");
        note(&KILLED, backend, false);
    }
}

/// Breaks one backend.
pub(super) struct One {
    mine: Mine,
    backend: &'static str,
    /// What a wipe is told to.
    store: Option<RedisStore>,
}

#[async_trait]
impl Breaker for One {
    async fn freeze(&self) {
        self.mine.freeze(self.backend).await;
    }

    async fn thaw(&self) {
        self.mine.thaw(self.backend).await;
    }

    async fn kill(&self) {
        self.mine.kill(self.backend).await;
    }

    async fn revive(&self) {
        self.mine.revive(self.backend).await;
    }

    async fn wipe(&self) {
        let store = self.store.as_ref();
        let store = store.expect("only the registry and the relay queues are ever wiped");
        later(store).await;
        store.admin().wipe().await.expect("Redis forgets");
    }
}

/// Waits for a later millisecond of the server than any before: what is made after a wipe has a higher epoch only then.
pub(super) async fn later(store: &RedisStore) {
    let nobody = "127.0.0.1:9".parse().unwrap();
    store.registry().join("nobody", nobody, &[], LEASE).await.unwrap();
    eventually("a later millisecond", async || {
        let leases = store.admin().leases().await.unwrap();
        let nobody = leases.iter().find(|lease| lease.node == "nobody").unwrap();
        (Duration::from_millis(nobody.left_ms.unsigned_abs()) < LEASE).then_some(())
    })
    .await;
}

fn observer() -> Observer {
    Observer::new(Arc::new(SteadyClock::new(1_700_000_000_000)))
}

/// Connects; a backend that was brought back needs a while.
async fn whole<T, Connecting: Future<Output = Result<T, PortError>>>(
    connect: impl Fn() -> Connecting,
) -> T {
    within(HEALING, "a backend that answers", async || connect().await.ok()).await
}

pub(super) async fn store() -> Option<(RedisStore, Box<One>)> {
    let mine = Mine::take().await?;
    let config = RedisConfig {
        addr: mine.started.set.redis(),
        prefix: super::fresh_name(),
        relay_queue: QUEUE_MAX,
        call: STORE_CALL,
    };
    let observer = observer();
    let store = whole(|| RedisStore::connect(config.clone(), &observer)).await;
    let breaker = One { mine, backend: "redis", store: Some(store.clone()) };
    Some((store, Box::new(breaker)))
}

pub(crate) async fn registry() -> Option<Site<dyn SessionRegistry>> {
    let (store, breaker) = store().await?;
    Some(Site { port: store.registry(), breaker })
}

pub(crate) async fn relay_queue() -> Option<Site<dyn RelayQueue>> {
    let (store, breaker) = store().await?;
    Some(Site { port: store.relay_queue(), breaker })
}

async fn cassandra() -> Option<(CassandraStore, Box<One>)> {
    let mine = Mine::take().await?;
    let config = CassandraConfig {
        contact: mine.started.set.cassandra(),
        keyspace: super::fresh_name(),
        replication: 1,
        call: FILES_CALL,
    };
    whole(|| CassandraStore::create_schema(&config)).await;
    let observer = observer();
    let store = whole(|| CassandraStore::connect(config.clone(), &observer)).await;
    Some((store, Box::new(One { mine, backend: "cassandra", store: None })))
}

pub(crate) async fn history() -> Option<Site<dyn History>> {
    let (store, breaker) = cassandra().await?;
    Some(Site { port: store.history(), breaker })
}

pub(crate) async fn tables() -> Option<Site<dyn Tables>> {
    let (store, breaker) = cassandra().await?;
    Some(Site { port: store.tables(), breaker })
}

pub(crate) async fn blobs() -> Option<Site<dyn Blobs>> {
    let mine = Mine::take().await?;
    let config = super::blobs::config(&mine.started.set, FILES_CALL);
    let store = S3Blobs::connect(config).unwrap();
    whole(|| store.create_bucket()).await;
    let breaker = Box::new(One { mine, backend: "s3", store: None });
    Some(Site { port: store.handle(), breaker })
}

/// A log with topics and groups of its own. Limits of calls are those of a loaded machine, but for the append's.
pub(crate) async fn event_log() -> Option<LogSite> {
    let mine = Mine::take().await?;
    let bootstrap = mine.started.set.bootstrap();
    let mut config = KafkaConfig::new(bootstrap, super::fresh_name(), PARTITIONS, &timers());
    config.append = APPEND;
    config.log_buffer = LOG_BUFFER;
    config.call = Duration::from_secs(10);
    config.session = Duration::from_secs(3);
    let observer = observer();
    let log = whole(|| KafkaLog::connect(config.clone(), &observer)).await;
    // The operator asks somebody else soon, when it asked a broker that is silent.
    let asking = KafkaConfig { call: Duration::from_secs(2), ..config };
    let admin = whole(|| KafkaLog::connect(asking.clone(), &observer)).await.admin(&observer);
    whole(|| admin.create_topics()).await;
    let site = LogSite { port: log.handle(), brokers: Box::new(Cluster { mine, admin }) };
    site.whole().await;
    Some(site)
}

/// The three brokers.
struct Cluster {
    mine: Mine,
    admin: KafkaAdmin,
}

fn container(broker: u32) -> String {
    format!("kafka-{broker}")
}

#[async_trait]
impl Brokers for Cluster {
    async fn all(&self) -> Result<Vec<BrokerInfo>, PortError> {
        self.admin.brokers().await
    }

    async fn freeze(&self, broker: u32) {
        self.mine.freeze(&container(broker)).await;
    }

    async fn thaw(&self, broker: u32) {
        self.mine.thaw(&container(broker)).await;
    }

    async fn kill(&self, broker: u32) {
        self.mine.kill(&container(broker)).await;
    }

    async fn revive(&self, broker: u32) {
        self.mine.revive(&container(broker)).await;
    }
}
