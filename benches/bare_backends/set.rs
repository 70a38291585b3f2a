//! Backends of a benchmark: started, reached, counted, removed.
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_external::kafka::{KafkaConfig, KafkaLog};
use chat_external::redis::{RedisConfig, RedisStore};
use chat_ports::clock::SteadyClock;
use chat_ports::history::History;
use chat_ports::log::EventLog;
use chat_ports::observe::Observer;
use chat_ports::relay_queue::RelayQueue;
use chat_protocol::limits::Timers;
use chat_testbed::containers::{BackendSet, Images, preflight};
use tokio::time::{Instant, sleep};

use crate::targets::PARTITIONS;

/// First of the ports; those of a run are elsewhere.
const BASE_PORT: u16 = 8_500;

/// Backends that run, and clients of them.
pub(crate) struct Backends {
    set: BackendSet,
    run: String,
    deadman: Child,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) queue: Arc<dyn RelayQueue>,
    pub(crate) history: Arc<dyn History>,
}

impl Backends {
    pub(crate) async fn start() -> Self {
        let images = Images::with(|variable| std::env::var(variable).ok());
        if let Err(error) = preflight(&images, BASE_PORT).await {
            panic!("{error}; cure: {}", error.cure());
        }
        let run = format!("bare-{}", std::process::id());
        // Removes the containers if this process is gone before it does.
        let deadman = Command::new(env!("CARGO_BIN_EXE_chatstorm"))
            .args(["sweep", "--deadman", &run])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the sweeper starts");
        let set = BackendSet::start(&run, BASE_PORT, &images).await.expect("the backends start");

        let observer = Observer::new(Arc::new(SteadyClock::new(1)));
        let timers = Timers::DEFAULT;
        let kafka = KafkaConfig::new(set.bootstrap(), "bare", PARTITIONS, &timers);
        let log = set.ready("kafka-1", async || {
            let log = KafkaLog::connect(kafka.clone(), &observer).await?;
            log.admin(&observer).create_topics().await?;
            Ok(log.handle())
        });
        let log = log.await.expect("Kafka answers");
        let redis = RedisConfig {
            addr: set.redis(),
            prefix: "bare".to_owned(),
            relay_queue: 10_000,
            call: timers.store_call,
        };
        let queue = set.ready("redis", async || {
            Ok(RedisStore::connect(redis.clone(), &observer).await?.relay_queue())
        });
        let queue = queue.await.expect("Redis answers");
        let cassandra = CassandraConfig {
            contact: set.cassandra(),
            keyspace: "bare".to_owned(),
            replication: 1,
            call: timers.table_call,
        };
        let history = set.ready("cassandra", async || {
            CassandraStore::create_schema(&cassandra).await?;
            Ok(CassandraStore::connect(cassandra.clone(), &observer).await?.history())
        });
        let history = history.await.expect("Cassandra answers");
        Self { set, run, deadman, log, queue, history }
    }

    /// Removes them.
    pub(crate) async fn stop(mut self) {
        self.set.stop().await;
        drop(self.deadman.stdin.take());
        self.deadman.wait().expect("the sweeper ends");
    }

    /// Cores of each container over a time.
    pub(crate) async fn cores(&self, time: Duration) -> BTreeMap<String, f64> {
        let (before, began) = (self.set.cpu().await, Instant::now());
        sleep(time).await;
        let wall = began.elapsed().as_secs_f64();
        let after = self.set.cpu().await.into_iter().zip(before);
        let used = after.map(|(after, before)| {
            let used = Duration::from_nanos(after.cpu_ns - before.cpu_ns);
            (after.thread, used.as_secs_f64() / wall)
        });
        used.collect()
    }

    /// Microseconds that the scripts of Redis have taken so far, as it says.
    pub(crate) fn script_us(&self) -> Option<f64> {
        let redis = format!("chatstorm-{}-redis", self.run);
        let asked = Command::new("docker")
            .args(["exec", &redis, "redis-cli", "INFO", "commandstats"])
            .stdin(Stdio::null())
            .output();
        let said = String::from_utf8(asked.ok()?.stdout).ok()?;
        let line = said.lines().find(|line| line.starts_with("cmdstat_evalsha:"))?;
        let usec = line.split(',').find_map(|field| field.strip_prefix("usec="))?;
        usec.parse().ok()
    }
}
