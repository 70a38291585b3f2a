//! Addresses, sizes, limits of time, and the settings of every client.
use std::sync::Arc;
use std::time::Duration;

use chat_ports::log::{Partition, Topic};
use chat_protocol::limits::Timers;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::meter::AppendMeter;

/// How long the library waits for more records of a batch that we hand over. Ours is complete before, but handing it over takes
/// time, and a batch that is cut in two has two stamps.
const HAND_OVER: Duration = Duration::from_millis(5);
/// The library gives a batch up after this; until then it repeats it, so an append of unknown outcome may land this late.
const DELIVERY: Duration = Duration::from_secs(10);
/// A broker that does not answer a request for this long loses the connection; a frozen one is found only by this.
const REQUEST: Duration = Duration::from_secs(5);
/// Kibibytes that a consumer reads ahead of each partition's reader, plus one fetch of [`FETCH_BYTES`].
const AHEAD_KBYTES: u32 = 1024;
/// Bytes of a partition in one answer of a broker, unless a single batch is larger.
const FETCH_BYTES: u32 = 512 * 1024;
/// How long a broker holds a fetch without records. A partition that is read anew waits for the fetch under way to end.
const FETCH_HOLD: Duration = Duration::from_millis(100);

/// How a log on Kafka is reached and used.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Brokers to begin with, `host:port` separated by commas.
    pub bootstrap: String,
    /// Stands before the names of topics and groups, with a dot; empty for none.
    pub prefix: String,
    /// Partitions of each topic; never changed in place.
    pub partitions: u32,
    /// Replicas of each partition that `KafkaAdmin::create_topics` asks for.
    pub replication: u32,
    /// `min.insync.replicas` of the topics that `KafkaAdmin::create_topics` makes.
    pub min_insync: u32,
    /// A batch gathers at least this long from its first record; brokers pay for batches, not for records.
    pub linger: Duration,
    /// Bytes of values in appends that have no fate yet; a further append is refused.
    pub log_buffer: u64,
    /// How long an append may take before its caller is answered without its fate.
    pub append: Duration,
    /// A group member without heartbeat for this long is out; raised to what the brokers accept.
    pub session: Duration,
    /// Period of the heartbeats to the brokers; also how soon a member hears of a change.
    pub heartbeat: Duration,
    /// Every other call ends within this, the wait of a fetch for its first record aside.
    pub call: Duration,
    /// What was appended; clones of a configuration share it.
    pub meter: Arc<AppendMeter>,
}

impl KafkaConfig {
    /// The log of the reference system: replication 3, `min.insync` 2, batches of 20 ms, a buffer of 64 MiB. A call has the limit of
    /// an append, but never less than 2 s: the first one after an election has to find its broker.
    pub fn new(
        bootstrap: impl Into<String>,
        prefix: impl Into<String>,
        partitions: u32,
        timers: &Timers,
    ) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            prefix: prefix.into(),
            partitions,
            replication: 3,
            min_insync: 2,
            linger: Duration::from_millis(20),
            log_buffer: 64 * 1024 * 1024,
            append: timers.log_append,
            session: timers.log_session,
            heartbeat: timers.log_heartbeat,
            call: timers.log_append.max(Duration::from_secs(2)),
            meter: Arc::default(),
        }
    }

    /// Every partition.
    pub(super) fn all(&self) -> impl Iterator<Item = Partition> + use<> {
        let partitions = self.partitions;
        Topic::ALL.into_iter().flat_map(move |topic| (0..partitions).map(move |p| (topic, p)))
    }

    /// A topic's name in the cluster.
    pub(super) fn topic(&self, topic: Topic) -> String {
        self.prefixed(topic.name())
    }

    /// A group's name in the cluster.
    pub(super) fn group(&self, group: &str) -> String {
        self.prefixed(group)
    }

    fn prefixed(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Settings of every client.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", "chatstorm")
            .set("socket.timeout.ms", ms(REQUEST))
            .set("socket.connection.setup.timeout.ms", "3000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // The return of a broker must not be hidden by a long pause.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// Settings of a producer: its own queues hold one batch a partition, so ours is the limit that counts.
    pub(super) fn producer(&self) -> ClientConfig {
        let kbytes = (self.log_buffer / 1024).saturating_mul(2).clamp(65_536, 2_097_151);
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", ms(HAND_OVER))
            .set("message.timeout.ms", ms(DELIVERY))
            .set("request.timeout.ms", ms(REQUEST))
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", kbytes.to_string())
            .set("batch.num.messages", "10000")
            .set("compression.codec", "none");
        config
    }

    /// Settings of a consumer of a group; nothing is committed but by call.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", self.group(group))
            .set("group.protocol", "classic")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A jump over lost data must be an error, never silent.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", ms(FETCH_HOLD))
            .set("fetch.message.max.bytes", FETCH_BYTES.to_string())
            .set("fetch.max.bytes", (8 * FETCH_BYTES).to_string())
            .set("fetch.error.backoff.ms", "100")
            // How often a full queue is looked at again; a second would be a stall of its reader.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", AHEAD_KBYTES.to_string());
        config
    }

    /// Settings of a group member. Membership is dynamic: a static member says no farewell, and a drain would wait for its session.
    pub(super) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        config
            .set("session.timeout.ms", ms(self.session))
            .set("heartbeat.interval.ms", ms(self.heartbeat))
            // Also how long the brokers wait for this member in a change of the group.
            .set("max.poll.interval.ms", ms(self.session))
            .set("partition.assignment.strategy", "cooperative-sticky");
        config
    }
}

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}
