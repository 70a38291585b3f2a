//! Sets of backends, each started by the first story that needs one: one for all quiet stories, which share it, and one that fault
//! stories break, one after another.
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_external::kafka::{KafkaConfig, KafkaLog};
use chat_external::redis::{RedisConfig, RedisStore};
use chat_external::s3::S3Blobs;
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use chat_testbed::containers::engine::EngineError;
use chat_testbed::containers::{BackendSet, Images, preflight};

use crate::arm::timers;

/// Ports of the quiet set: away from those of a run, so that both fit beside each other.
const QUIET_PORT: u16 = 8_300;
/// Ports of the set that is broken.
const BROKEN_PORT: u16 = 8_400;
/// With it a missing engine is a failure; without, the stories of the real arm are skipped, and say so.
const WANTED: &str = "CHATSTORM_CONTAINERS";

/// A set that runs.
pub(super) struct Started {
    pub(super) set: BackendSet,
    /// Value of the label, and part of every name.
    pub(super) run: String,
    /// Carries the connection to the engine.
    pub(super) runtime: tokio::runtime::Runtime,
    /// Removes the containers once this process is gone; nothing runs at the end of a test binary that could.
    _deadman: Child,
}

/// The set of the quiet stories; `None` where there is none and nobody insists.
pub(super) fn quiet() -> Option<&'static BackendSet> {
    static STARTED: OnceLock<Result<Started, String>> = OnceLock::new();
    started(&STARTED, "quiet", QUIET_PORT).map(|started| &started.set)
}

/// The set that is broken; `None` where there is none and nobody insists.
pub(super) fn broken() -> Option<&'static Started> {
    static STARTED: OnceLock<Result<Started, String>> = OnceLock::new();
    started(&STARTED, "broken", BROKEN_PORT)
}

#[expect(clippy::print_stderr, reason = "a skipped story says why")]
fn started(
    cell: &'static OnceLock<Result<Started, String>>,
    what: &str,
    base_port: u16,
) -> Option<&'static Started> {
    // A story has a runtime of its own and cannot wait for another one on its thread.
    let start = || {
        std::thread::scope(|scope| scope.spawn(|| start(what, base_port)).join())
            .expect("the start does not panic")
    };
    match cell.get_or_init(start) {
        Ok(started) => Some(started),
        Err(why) if std::env::var(WANTED).is_ok_and(|wanted| wanted == "1") => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped, since {WANTED} is not 1: {why}");
            None
        }
    }
}

/// Whether sets can be started at all, asked once: the second one starts beside the first, which would look like a leftover.
async fn allowed(images: &Images) -> Result<(), EngineError> {
    for base_port in [QUIET_PORT, BROKEN_PORT] {
        preflight(images, base_port).await?;
    }
    Ok(())
}

fn start(what: &str, base_port: u16) -> Result<Started, String> {
    static ALLOWED: OnceLock<Result<(), String>> = OnceLock::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let images = Images::with(|variable| std::env::var(variable).ok());
    let ask = || {
        let said = |error: EngineError| format!("{error}; cure: {}", error.cure());
        runtime.block_on(allowed(&images)).map_err(said)
    };
    ALLOWED.get_or_init(ask).clone()?;
    let run = format!("conformance-{what}-{}", std::process::id());
    let deadman = Command::new(env!("CARGO_BIN_EXE_chatstorm"))
        .args(["sweep", "--deadman", &run])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let set = runtime.block_on(async {
        let set = BackendSet::start(&run, base_port, &images).await?;
        all_ready(&set).await?;
        Ok::<_, EngineError>(set)
    });
    let set = set.map_err(|error| error.to_string())?;
    Ok(Started { set, run, runtime, _deadman: deadman })
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
    let s3 = super::blobs::config(set, call);
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
