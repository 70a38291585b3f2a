//! One set of backends for the whole test binary, started by the first story that needs one.
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_external::kafka::{KafkaConfig, KafkaLog};
use chat_external::redis::{RedisConfig, RedisStore};
use chat_external::s3::{S3Blobs, S3Config};
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use chat_testbed::containers::engine::EngineError;
use chat_testbed::containers::{BackendSet, Images, preflight};

use crate::arm::timers;

/// Away from the ports of a run, so that both fit beside each other.
const BASE_PORT: u16 = 8_300;
/// With it a missing engine is a failure; without, the stories of the real arm are skipped, and say so.
const WANTED: &str = "CHATSTORM_CONTAINERS";

struct Started {
    set: BackendSet,
    /// Removes the containers once this process is gone; nothing runs at the end of a test binary that could.
    _deadman: Child,
    /// Carries the connection to the engine.
    _runtime: tokio::runtime::Runtime,
}

static STARTED: OnceLock<Result<Started, String>> = OnceLock::new();

/// The backends; `None` where there are none and nobody insists.
#[expect(clippy::print_stderr, reason = "a skipped story says why")]
pub(crate) fn set() -> Option<&'static BackendSet> {
    // A story has a runtime of its own and cannot wait for another one on its thread.
    let start = || std::thread::spawn(start).join().expect("the start does not panic");
    match STARTED.get_or_init(start) {
        Ok(started) => Some(&started.set),
        Err(why) if std::env::var(WANTED).is_ok_and(|wanted| wanted == "1") => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped, since {WANTED} is not 1: {why}");
            None
        }
    }
}

fn start() -> Result<Started, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let run = format!("conformance-{}", std::process::id());
    let images = Images::with(|variable| std::env::var(variable).ok());
    runtime
        .block_on(preflight(&images, BASE_PORT))
        .map_err(|error| format!("{error}; cure: {}", error.cure()))?;
    let deadman = Command::new(env!("CARGO_BIN_EXE_chatstorm"))
        .args(["sweep", "--deadman", &run])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let set = runtime.block_on(async {
        let set = BackendSet::start(&run, BASE_PORT, &images).await?;
        all_ready(&set).await?;
        Ok::<_, EngineError>(set)
    });
    let set = set.map_err(|error| error.to_string())?;
    Ok(Started { set, _deadman: deadman, _runtime: runtime })
}

/// Every backend answers its protocol; what a story makes of it then is the story's own.
async fn all_ready(set: &BackendSet) -> Result<(), EngineError> {
    let observer = Observer::new(Arc::new(SteadyClock::new(1)));
    let call = Duration::from_secs(2);
    let redis = RedisConfig { addr: set.redis(), prefix: "ready".to_owned(), relay_queue: 1, call };
    let kafka = KafkaConfig::new(set.bootstrap(), "ready", 1, &timers());
    let cassandra = CassandraConfig {
        contact: set.cassandra(),
        keyspace: "ready".to_owned(),
        replication: 1,
        call,
    };
    let s3 = S3Config {
        endpoint: format!("http://{}", set.s3().addr),
        bucket: "ready".to_owned(),
        access_key: set.s3().access_key.to_owned(),
        secret_key: set.s3().secret_key.to_owned(),
        call,
    };
    set.ready("redis", async || RedisStore::connect(redis.clone(), &observer).await.map(drop))
        .await?;
    set.ready("kafka-1", async || {
        let log = KafkaLog::connect(kafka.clone(), &observer).await?;
        log.admin(&observer).create_topics().await
    })
    .await?;
    set.ready("cassandra", async || CassandraStore::create_schema(&cassandra).await).await?;
    set.ready("s3", async || S3Blobs::connect(s3.clone())?.create_bucket().await).await
}
