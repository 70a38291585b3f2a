//! A system's backends for one story, and helpers that wait for what must come.
use std::sync::Arc;
use std::time::Duration;

use chat_embedded::{Backends, BackendsConfig};
use chat_ports::blobs::Blobs;
use chat_ports::clock::{SharedClock, SteadyClock};
use chat_ports::history::History;
use chat_ports::log::EventLog;
use chat_ports::observe::Observer;
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;
use chat_ports::tables::Tables;
use chat_protocol::limits::Timers;
use tempfile::TempDir;

/// Partitions of each topic.
pub(crate) const PARTITIONS: u32 = 4;
/// Items a relay queue holds.
pub(crate) const QUEUE_MAX: u64 = 8;
/// How long a story waits for what must come; never reached when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// Backends on short timers, below a folder of their own.
pub(crate) struct Arm {
    backends: Backends,
    _folder: TempDir,
}

impl Arm {
    pub(crate) fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let clock: SharedClock = Arc::new(SteadyClock::new(1_700_000_000_000));
        let observer = Observer::new(Arc::clone(&clock));
        let mut config = BackendsConfig::new(folder.path().to_owned(), PARTITIONS, timers(), 1);
        config.relay_queue = QUEUE_MAX;
        let backends = Backends::start(config, &clock, &observer).expect("the backends start");
        Self { backends, _folder: folder }
    }

    pub(crate) fn registry(&self) -> Arc<dyn SessionRegistry> {
        self.backends.store().registry()
    }

    pub(crate) fn relay_queue(&self) -> Arc<dyn RelayQueue> {
        self.backends.store().relay_queue()
    }

    pub(crate) fn event_log(&self) -> Arc<dyn EventLog> {
        self.backends.log().handle()
    }

    pub(crate) fn history(&self) -> Arc<dyn History> {
        self.backends.history().history()
    }

    pub(crate) fn tables(&self) -> Arc<dyn Tables> {
        self.backends.history().tables()
    }

    pub(crate) fn blobs(&self) -> Arc<dyn Blobs> {
        self.backends.blobs().handle()
    }
}

/// The timers every arm runs on.
pub(crate) const fn timers() -> Timers {
    Timers::short()
}

/// Asks again until there is an answer; panics after the patience of a story.
pub(crate) async fn eventually<T, Asked: Future<Output = Option<T>>>(
    what: &str,
    ask: impl FnMut() -> Asked,
) -> T {
    within(PATIENCE, what, ask).await
}

/// Asks again until there is an answer; panics after `limit`.
pub(crate) async fn within<T, Asked: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> Asked,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
