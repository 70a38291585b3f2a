//! The containers substrate: three Kafka brokers, Redis, Cassandra and an S3 server, started through testcontainers.
//!
//! - [`Images`] which image serves which backend.
//! - [`BackendSet`] the containers of one run.
//! - [`engine`] what testcontainers does not do: networks, signals, logs.
//! - [`leftovers`] what runs leave behind when they cannot clean up.
//! - `recipe` how each backend is started.
//! - `substrate` the ports of nodes, and the operator's side of the backends.
//! - `leaders` notes when partitions get other leaders.
//! - `paused` the log of a group that was told to read nothing.
pub mod engine;
mod images;
mod leaders;
pub mod leftovers;
mod paused;
mod recipe;
mod set;
mod substrate;

pub use images::Images;
pub use set::{BackendSet, S3Contact};

use std::net::Ipv4Addr;
use std::sync::Arc;

use chat_embedded::guard::Hooks;
use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_external::kafka::{KafkaAdmin, KafkaConfig, KafkaLog};
use chat_external::redis::{RedisAdmin, RedisConfig, RedisStore};
use chat_external::s3::{S3Blobs, S3Config};
use chat_ports::history::History;
use chat_ports::observe::Observer;
use chat_protocol::limits::Timers;
use futures_util::future;

use crate::config::Config;
use engine::{Engine, EngineError};
use leaders::Leaders;
use paused::Paused;
use recipe::Layout;

/// What containers are started from.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    /// Label and part of every name.
    pub run: String,
    /// Images.
    pub images: Images,
}

/// Refuses a start for which something is missing: engine, images, room beside leftovers of other runs, ports above `base_port`.
/// Starts nothing.
pub async fn preflight(images: &Images, base_port: u16) -> Result<(), EngineError> {
    let engine = Engine::connect().await?;
    engine.expect_images(images).await?;
    engine.expect_no_leftovers().await?;
    let layout = Layout { run: String::new(), base_port };
    let taken = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err();
    layout.ports().into_iter().find(taken).map_or(Ok(()), |port| Err(EngineError::PortTaken(port)))
}

/// What the clients of a node, and those of the operator, connect to.
#[derive(Clone)]
struct Contacts {
    redis: RedisConfig,
    kafka: KafkaConfig,
    cassandra: CassandraConfig,
    s3: S3Config,
}

impl Contacts {
    fn new(config: &Config, set: &BackendSet) -> Self {
        let timers = config.timers;
        let s3 = set.s3();
        Self {
            redis: RedisConfig {
                addr: set.redis(),
                prefix: "chat".to_owned(),
                relay_queue: config.relay_queue,
                call: timers.store_call,
            },
            kafka: KafkaConfig {
                log_buffer: config.log_buffer,
                ..KafkaConfig::new(set.bootstrap(), "", config.partitions, &timers)
            },
            cassandra: CassandraConfig {
                contact: set.cassandra(),
                keyspace: "chat".to_owned(),
                replication: 1,
                call: timers.table_call,
            },
            s3: S3Config {
                endpoint: format!("http://{}", s3.addr),
                bucket: "snapshots".to_owned(),
                access_key: s3.access_key.to_owned(),
                secret_key: s3.secret_key.to_owned(),
                call: timers.table_call,
            },
        }
    }
}

/// The operator's handles of the backends.
struct Doors {
    kafka: Arc<KafkaAdmin>,
    redis: RedisAdmin,
    history: Arc<dyn History>,
}

/// The backends in containers.
pub(crate) struct Containers {
    set: BackendSet,
    contacts: Contacts,
    hooks: Arc<Hooks>,
    observer: Observer,
    paused: Arc<Paused>,
    doors: Doors,
    timers: Timers,
    _leaders: Leaders,
}

impl Containers {
    /// Starts all backends beside each other and waits until each answers its protocol.
    pub(crate) async fn start(
        config: &Config,
        wanted: &ContainersConfig,
        observer: &Observer,
    ) -> Result<Self, EngineError> {
        let set = BackendSet::start(&wanted.run, config.base_port, &wanted.images).await?;
        let contacts = Contacts::new(config, &set);
        let doors = match open(&set, &contacts, observer).await {
            Ok(doors) => doors,
            Err(error) => {
                set.stop().await;
                return Err(error);
            }
        };
        Ok(Self {
            _leaders: Leaders::watch(Arc::clone(&doors.kafka)),
            set,
            contacts,
            hooks: Hooks::new(config.seed),
            observer: observer.clone(),
            paused: Arc::default(),
            doors,
            timers: config.timers,
        })
    }
}

/// Waits until all backends are ready; they hold the topics, tables and buckets of the system then.
async fn open(
    set: &BackendSet,
    contacts: &Contacts,
    observer: &Observer,
) -> Result<Doors, EngineError> {
    let (redis, kafka, history, ()) = future::try_join4(
        set.ready("redis", async || {
            Ok(RedisStore::connect(contacts.redis.clone(), observer).await?.admin())
        }),
        set.ready("kafka-1", async || {
            let log = KafkaLog::connect(contacts.kafka.clone(), observer).await?;
            let admin = log.admin(observer);
            admin.create_topics().await?;
            Ok(Arc::new(admin))
        }),
        set.ready("cassandra", async || {
            CassandraStore::create_schema(&contacts.cassandra).await?;
            let store = CassandraStore::connect(contacts.cassandra.clone(), observer).await?;
            Ok(store.history())
        }),
        set.ready("s3", async || S3Blobs::connect(contacts.s3.clone())?.create_bucket().await),
    )
    .await?;
    Ok(Doors { kafka, redis, history })
}
