//! The containers substrate: three Kafka brokers, Redis, Cassandra and an S3 server, started through testcontainers.
//!
//! - [`Images`] which image serves which backend.
//! - [`BackendSet`] the containers of one run.
//! - [`engine`] what testcontainers does not do: networks, signals, logs.
//! - [`leftovers`] what runs leave behind when they cannot clean up.
//! - `account` CPU time of a container as the kernel counts it.
//! - `acts` what is done to the container of a node.
//! - `contacts` the clients of a node, or of the operator; `ports` the ports on them.
//! - `nodes` the chat nodes, a container each.
//! - `recipe` how each backend is started.
//! - `substrate` the operator's side of the backends.
//! - `down` brokers that were ended here.
//! - `leaders` notes when partitions get other leaders.
//! - `preflight` what has to be there before anything is started.
//! - `paused` the log of a group that was told to read nothing.
//! - `versions` what the servers say of their version.
//! - `toxiproxy` links that faults condition.
//! - `warm` exercises the virtual machines before a system starts.
mod account;
mod acts;
mod contacts;
mod down;
pub mod engine;
mod images;
mod leaders;
pub mod leftovers;
mod nodes;
mod paused;
mod ports;
mod preflight;
mod recipe;
#[cfg(test)]
mod scripted;
mod set;
mod substrate;
mod toxiproxy;
mod versions;
mod warm;

pub use acts::LOG_CUT;
pub use images::Images;
pub use nodes::{doors, preflight as preflight_nodes};
pub use preflight::preflight;
pub use set::{BackendSet, S3Contact};
pub use toxiproxy::Backend;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use chat_external::cassandra::CassandraStore;
use chat_external::kafka::{KafkaAdmin, KafkaLog};
use chat_external::redis::{RedisAdmin, RedisStore};
use chat_external::s3::S3Blobs;
use chat_ports::history::History;
use chat_ports::observe::Observer;
use futures_util::future;

use crate::config::Config;
use crate::host::Host;
use crate::substrate::Substrate;
use crate::unit::{Kind, Unit};
pub(crate) use contacts::{Contacts, Wanted};
use down::Down;
use engine::{Engine, EngineError};
use leaders::Leaders;
pub(crate) use paused::Paused;
pub(crate) use ports::open as open_ports;
use toxiproxy::{LinkPlan, Links};

/// What containers are started from.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    /// Label and part of every name.
    pub run: String,
    /// Images.
    pub images: Images,
    /// Backends that every node reaches through a listener of its own, so that rules on their ports can be kept. Without one no
    /// Toxiproxy is started; with one every call takes the way through it.
    pub conditioned: BTreeSet<Backend>,
    /// Folder for the logs of all containers, made when they are written at the end; none are without one.
    pub logs: Option<PathBuf>,
}

/// Starts the backends; the nodes stand ready to be started. The order of the nodes is that of `units`.
pub(crate) async fn start(
    config: &Config,
    wanted: &ContainersConfig,
    units: Vec<Unit>,
    observer: &Observer,
) -> Result<(Arc<dyn Substrate>, Arc<dyn Host>), EngineError> {
    let callers = units.iter().filter(|unit| unit.kind != Kind::Balancer);
    let callers: Vec<_> = callers.map(|unit| unit.name.clone()).collect();
    let plan = LinkPlan::new(config.base_port, &callers, &wanted.conditioned)?;
    let engine = Engine::connect().await?;
    let nodes = nodes::Nodes::new(engine, config, wanted, units, plan.clone(), observer)?;
    let backends = Box::pin(Containers::start(config, wanted, plan, observer)).await?;
    Ok((Arc::new(backends), Arc::new(nodes)))
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
    doors: Doors,
    links: Option<Links>,
    down: Down,
    /// Versions by server.
    servers: BTreeMap<String, String>,
    _leaders: Leaders,
}

impl Containers {
    /// Starts all backends beside each other and waits until each answers its protocol; the logs of those that do not are saved.
    async fn start(
        config: &Config,
        wanted: &ContainersConfig,
        plan: LinkPlan,
        observer: &Observer,
    ) -> Result<Self, EngineError> {
        let (run, images) = (&wanted.run, &wanted.images);
        let set = BackendSet::start_with(run, config.base_port, images, plan).await?;
        let contacts = Contacts::new(Wanted::here(config, &set));
        let opened = future::try_join(open(&set, &contacts, observer), set.links(observer)).await;
        let (doors, links) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                if let Some(folder) = &wanted.logs {
                    set.save_logs(folder).await;
                }
                set.stop().await;
                return Err(error);
            }
        };
        let (servers, ()) = future::join(set.versions(), warm::up(&contacts)).await;
        Ok(Self {
            _leaders: Leaders::watch(Arc::clone(&doors.kafka)),
            set,
            doors,
            links,
            down: Down::default(),
            servers,
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
