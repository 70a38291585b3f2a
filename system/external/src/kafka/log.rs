//! The port over producers, readers and groups.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::{Appended, Assignment, EventLog, Fetched, Partition, Topic};
use chat_ports::observe::Observer;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::Consumer as _;
use rdkafka::metadata::MetadataBroker;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::blocking::Blocking;
use super::context::{Quiet, refused, unknown};
use super::cursor::Consumer;
use super::groups::Groups;
use super::keeper::{Keeper, Tend};
use super::lane::{Buffer, Lanes, Shared};
use super::producer::Producers;
use super::readers::{Ends, Readers, consumer};
use super::{KafkaAdmin, KafkaConfig};

/// Questions to brokers that may be open at a time; a further one waits, up to the limit of a call.
const BLOCKING_MAX: usize = 8;
/// The brokers' lower limit of a session.
const SESSION_MIN: &str = "group.min.session.timeout.ms";

/// The log of one node. Its tasks run on the runtime that connected it; clients are closed by a thread of ours after the last
/// handle is gone.
#[derive(Clone)]
pub struct KafkaLog {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: KafkaConfig,
    pub(super) keeper: Keeper,
    pub(super) blocking: Blocking,
    pub(super) questions: Consumer,
    pub(super) ends: Arc<Ends>,
    pub(super) readers: Arc<Readers>,
    pub(super) groups: Groups,
    lanes: Lanes,
    /// Aborted when the log goes.
    _tasks: Mutex<JoinSet<()>>,
}

impl Tend for Inner {
    fn tend(&self) {
        self.readers.tend();
        self.groups.tend();
    }
}

impl KafkaLog {
    /// Connects, on the runtime that is to carry the log: finds a broker and asks it for the shortest session it accepts. Answers
    /// within two limits of a call. Topics may be missing yet; `KafkaAdmin::create_topics` makes them.
    ///
    /// Counts `kafka.batches` (appends that gathered and went together) and `kafka.records` (records in them).
    pub async fn connect(config: KafkaConfig, observer: &Observer) -> Result<Self, PortError> {
        let keeper = Keeper::start()
            .map_err(|error| PortError::Refused(format!("no thread for Kafka: {error}")))?;
        let blocking = Blocking::new(BLOCKING_MAX);
        let questions = consumer(&config, &keeper)?;
        let shortest = shortest_session(&config, &questions, &keeper, &blocking).await?;
        let session = config.session.max(shortest);
        let config = KafkaConfig { session, ..config };
        let ends = Ends::new(&config);
        let gauge = observer.gauge("log.buffer_bytes", config.log_buffer);
        let shared = Arc::new(Shared {
            producers: Producers::start(&config, &keeper)?,
            buffer: Buffer::new(config.log_buffer, gauge),
            ends: Arc::clone(&ends),
            batches: observer.counter("kafka.batches"),
            records: observer.counter("kafka.records"),
            config: config.clone(),
        });
        let (lanes, tasks) = Lanes::new(&shared);
        let mut running = JoinSet::new();
        for task in tasks {
            running.spawn(task);
        }
        let inner = Arc::new(Inner {
            readers: Readers::new(&config, &keeper, &ends, &blocking, &questions),
            groups: Groups::new(&config, &keeper, &blocking),
            _tasks: Mutex::new(running),
            config,
            blocking,
            questions,
            ends,
            lanes,
            keeper: keeper.clone(),
        });
        let tended: Arc<dyn Tend> = Arc::clone(&inner) as _;
        keeper.tend(Arc::downgrade(&tended));
        Ok(Self { inner })
    }

    /// The port.
    pub fn handle(&self) -> Arc<dyn EventLog> {
        Arc::new(self.clone())
    }

    /// The operator's handle. Elections that it sees are noted with `observer`.
    pub fn admin(&self, observer: &Observer) -> KafkaAdmin {
        KafkaAdmin::new(Arc::clone(&self.inner), observer.clone())
    }
}

/// Asks a broker for the shortest session it accepts.
async fn shortest_session(
    config: &KafkaConfig,
    questions: &Consumer,
    keeper: &Keeper,
    blocking: &Blocking,
) -> Result<Duration, PortError> {
    let (asker, limit) = (Arc::clone(questions), config.call);
    let topic = config.topic(Topic::Messages);
    let ask = move || {
        // The topic may be missing; its brokers are what is wanted.
        let metadata = asker.fetch_metadata(Some(&topic), limit);
        let metadata = metadata.map_err(|error| unknown("no broker answers", &error))?;
        let broker = metadata.brokers().first().map(MetadataBroker::id);
        broker.ok_or_else(|| PortError::Unknown("the cluster shows no brokers".to_owned()))
    };
    let broker = blocking.run(Instant::now() + limit, ask).await?;
    let created = config.client().create_with_context(Quiet::default());
    let client: AdminClient<Quiet> = created.map_err(|error| refused("no client", &error))?;
    let client = keeper.kept(client);
    let options = AdminOptions::new().request_timeout(Some(limit));
    let asked = [ResourceSpecifier::Broker(broker)];
    let answer = client.describe_configs(&asked, &options).await;
    let answer = answer.map_err(|error| unknown("no broker tells its limits", &error))?;
    let found = answer.into_iter().flatten().find_map(|resource| {
        resource.get(SESSION_MIN).and_then(|entry| entry.value.as_ref()?.parse().ok())
    });
    found
        .map(Duration::from_millis)
        .ok_or_else(|| PortError::Refused(format!("broker {broker} does not tell {SESSION_MIN}")))
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn append(&self, partition: Partition, values: Vec<Bytes>) -> Appended {
        if values.is_empty() {
            return Appended::Ok { base: self.inner.ends.of(partition).1, log_ms: 0 };
        }
        self.inner.lanes.append(partition, values).await
    }

    async fn fetch(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fetched, PortError> {
        self.inner.readers.fetch(partition, offset, max_bytes, wait).await
    }

    async fn beat(&self, group: &str, topic: Topic, member: &str) -> Result<Assignment, PortError> {
        self.inner.groups.beat(group, topic, member)
    }

    async fn leave(&self, group: &str, topic: Topic, member: &str) -> Result<(), PortError> {
        self.inner.groups.leave(group, topic, member).await
    }

    async fn commit(
        &self,
        group: &str,
        topic: Topic,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        self.inner.groups.commit(group, topic, generation, positions).await
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<Vec<Option<u64>>, PortError> {
        self.inner.groups.committed(group, topic, partitions).await
    }
}
