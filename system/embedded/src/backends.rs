//! All backends of one system, and every port of one node.
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chat_ports::blobs::Blobs;
use chat_ports::clock::SharedClock;
use chat_ports::history::History;
use chat_ports::log::EventLog;
use chat_ports::observe::Observer;
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::RelayQueue;
use chat_ports::tables::Tables;
use chat_protocol::limits::{RELAY_QUEUE_MAX, Timers};

use crate::blobs::EmbeddedBlobs;
use crate::desk::BackendThread;
use crate::guard::{Guarded, Hooks};
use crate::history::{EmbeddedHistory, HistoryAdmin};
use crate::log::{EmbeddedLog, LogAdmin, LogConfig};
use crate::store::{EmbeddedStore, StoreAdmin, StoreStop};

/// Why the backends did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread or a folder could not be made.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The files of the history cannot be opened.
    #[error("history: {0}")]
    History(Box<fjall::Error>),
    /// The folder of the blobs cannot be used.
    #[error("blobs: {0}")]
    Blobs(Box<object_store::Error>),
}

impl StartError {
    pub(crate) fn history(error: fjall::Error) -> Self {
        Self::History(Box::new(error))
    }

    pub(crate) fn blobs(error: object_store::Error) -> Self {
        Self::Blobs(Box::new(error))
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct BackendsConfig {
    /// Folder of this system's files; history goes to `history`, blobs to `blobs` below it.
    pub data: PathBuf,
    /// The log.
    pub log: LogConfig,
    /// Items a relay queue holds at most.
    pub relay_queue: u64,
    /// Time limits of calls.
    pub timers: Timers,
    /// Seed of everything random: the jitter of fault hooks.
    pub seed: u64,
}

impl BackendsConfig {
    /// The reference sizes.
    pub fn new(data: PathBuf, partitions: u32, timers: Timers, seed: u64) -> Self {
        Self {
            data,
            log: LogConfig::new(partitions, &timers),
            relay_queue: RELAY_QUEUE_MAX,
            timers,
            seed,
        }
    }
}

/// Every port of one node, guarded.
#[derive(Clone)]
pub struct NodePorts {
    /// Node leases and routes.
    pub registry: Arc<dyn SessionRegistry>,
    /// Relay queues.
    pub relay_queue: Arc<dyn RelayQueue>,
    /// The log; its fetches belong to no group. Consumers take [`Backends::log_of`].
    pub log: Arc<dyn EventLog>,
    /// History.
    pub history: Arc<dyn History>,
    /// Tables.
    pub tables: Arc<dyn Tables>,
    /// Blobs.
    pub blobs: Arc<dyn Blobs>,
}

/// All backends of one system. Dropping them stops and joins every thread.
pub struct Backends {
    log: EmbeddedLog,
    store: EmbeddedStore,
    history: EmbeddedHistory,
    blobs: EmbeddedBlobs,
    hooks: Arc<Hooks>,
    log_admin: LogAdmin,
    store_admin: StoreAdmin,
    observer: Observer,
    timers: Timers,
    threads: Vec<BackendThread>,
    _store_stop: StoreStop,
}

impl Backends {
    /// Starts everything, with the threads `chat-log`, `chat-history`, `chat-histread` and `chat-blobs`.
    pub fn start(
        config: BackendsConfig,
        clock: &SharedClock,
        observer: &Observer,
    ) -> Result<Self, StartError> {
        let BackendsConfig { data, log, relay_queue, timers, seed } = config;
        std::fs::create_dir_all(&data)?;
        let (log, log_admin, log_thread) =
            EmbeddedLog::start(log, Arc::clone(clock), observer.clone())?;
        let (store, store_admin, store_stop) =
            EmbeddedStore::start(relay_queue, Arc::clone(clock), observer.clone());
        let (history, [reader, writer]) =
            EmbeddedHistory::start(&data.join("history"), observer.clone())?;
        let (blobs, blobs_thread) = EmbeddedBlobs::start(&data.join("blobs"))?;
        Ok(Self {
            log,
            store,
            history,
            blobs,
            hooks: Hooks::new(seed),
            log_admin,
            store_admin,
            observer: observer.clone(),
            timers,
            threads: vec![log_thread, reader, writer, blobs_thread],
            _store_stop: store_stop,
        })
    }

    /// Every port as one node sees it, with that node's hooks, counters and limits.
    pub fn ports_of(&self, node: &str) -> NodePorts {
        let (hooks, observer, timers) = (&*self.hooks, &self.observer, &self.timers);
        let (store, table) = (timers.store_call, timers.table_call);
        NodePorts {
            registry: Arc::new(Guarded::new(self.store.registry(), node, hooks, observer, store)),
            relay_queue: Arc::new(Guarded::new(
                self.store.relay_queue(),
                node,
                hooks,
                observer,
                store,
            )),
            log: Arc::new(Guarded::new(
                self.log.handle(),
                node,
                hooks,
                observer,
                timers.log_append,
            )),
            history: Arc::new(Guarded::new(self.history.history(), node, hooks, observer, table)),
            tables: Arc::new(Guarded::new(self.history.tables(), node, hooks, observer, table)),
            blobs: Arc::new(Guarded::new(self.blobs.handle(), node, hooks, observer, table)),
        }
    }

    /// The log as one group's members on a node see it: [`LogAdmin::consumer_pause`] reaches its fetches.
    pub fn log_of(&self, node: &str, group: &str) -> Arc<dyn EventLog> {
        let limit = self.timers.log_append;
        Arc::new(Guarded::new(self.log.for_group(group), node, &self.hooks, &self.observer, limit))
    }

    /// The bare log.
    pub fn log(&self) -> &EmbeddedLog {
        &self.log
    }

    /// The bare store.
    pub fn store(&self) -> &EmbeddedStore {
        &self.store
    }

    /// The bare history and tables.
    pub fn history(&self) -> &EmbeddedHistory {
        &self.history
    }

    /// The bare blobs.
    pub fn blobs(&self) -> &EmbeddedBlobs {
        &self.blobs
    }

    /// The fault hooks of all ports.
    pub fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }

    /// The operator's handle of the log.
    pub fn log_admin(&self) -> &LogAdmin {
        &self.log_admin
    }

    /// The operator's handle of the store.
    pub fn store_admin(&self) -> &StoreAdmin {
        &self.store_admin
    }

    /// The operator's switch of history and tables.
    pub fn history_admin(&self) -> HistoryAdmin {
        self.history.admin()
    }

    /// Stops and joins every thread; blocks for the commit under way. Calls that wait end as unknown, later ones are refused.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;
    use chat_control::act::PortRule;
    use chat_ports::PortError;
    use chat_ports::clock::SteadyClock;
    use chat_ports::history::Row;
    use chat_ports::log::{Appended, Topic};
    use chat_ports::observe::Event;
    use chat_ports::tables::Table;
    use chat_protocol::{Cid, ConvId, DeviceId, Mid, UserId};
    use uuid::Uuid;

    use super::*;

    fn start(folder: &Path) -> (Backends, Observer) {
        let clock: SharedClock = Arc::new(SteadyClock::new(1_700_000_000_000));
        let observer = Observer::new(Arc::clone(&clock));
        let config = BackendsConfig::new(folder.to_owned(), 4, Timers::short(), 1);
        (Backends::start(config, &clock, &observer).unwrap(), observer)
    }

    #[tokio::test]
    async fn rows_and_blobs_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let conv = ConvId::direct(UserId(1), UserId(2)).unwrap();
        let row = Row {
            conv,
            cseq: 1,
            mid: Mid(Uuid::from_u128(1)),
            cid: Cid(Uuid::from_u128(2)),
            from: DeviceId(256),
            kind: 1,
            client_ms: 1,
            server_ms: 2,
            body: Bytes::from_static(b"sealed"),
        };
        let (backends, _) = start(folder.path());
        let ports = backends.ports_of("services-1");
        ports.history.upsert(vec![row]).await.unwrap();
        ports.blobs.put("fold/1", Bytes::from_static(b"x")).await.unwrap();
        let before = ports.history.digests(&[conv]).await.unwrap();
        drop(ports);
        backends.stop();
        let (backends, _) = start(folder.path());
        let ports = backends.ports_of("services-1");
        assert_eq!(ports.history.digests(&[conv]).await.unwrap(), before);
        assert_eq!(ports.blobs.list("fold/").await.unwrap(), ["fold/1"]);
    }

    #[tokio::test]
    async fn handle_that_outlives_the_backends_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (backends, _) = start(folder.path());
        let ports = backends.ports_of("gateway-1");
        backends.stop();
        assert!(matches!(ports.registry.nodes().await, Err(PortError::Refused(_))));
        assert!(matches!(ports.relay_queue.incarnation().await, Err(PortError::Refused(_))));
        assert!(matches!(ports.blobs.get("x").await, Err(PortError::Refused(_))));
        let outcome = ports.log.append((Topic::Messages, 0), vec![Bytes::from_static(b"x")]).await;
        assert!(matches!(outcome, Appended::NotAppended(_)));
    }

    #[tokio::test]
    async fn killed_broker_is_seen_to_lose_its_partitions_while_appends_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let (backends, observer) = start(folder.path());
        let log = backends.ports_of("services-1").log;
        backends.log_admin().broker_kill(1).await.unwrap();
        let outcome = log.append((Topic::Messages, 0), vec![Bytes::from_static(b"x")]).await;
        assert!(matches!(outcome, Appended::Ok { base: 0, .. }), "{outcome:?}");
        let elected = |noted: &chat_ports::observe::Noted| matches!(&noted.event, Event::LeaderElected(partition, 2) if partition == "chat.messages/0");
        assert!(observer.events(0).0.iter().any(elected));
        let brokers = backends.log_admin().brokers().await.unwrap();
        assert!(!brokers[0].up && brokers[0].leads.is_empty());
    }

    #[tokio::test]
    async fn ended_history_refuses_every_handle_and_has_its_rows_again() {
        let folder = tempfile::tempdir().unwrap();
        let (backends, _) = start(folder.path());
        let ports = backends.ports_of("services-1");
        let set = || ports.tables.compare_and_set(Table::DevicesByUser, 1, None, Bytes::new());
        assert!(set().await.unwrap());
        backends.history_admin().stop();
        assert!(matches!(set().await, Err(PortError::Refused(_))));
        assert!(matches!(ports.history.digests(&[]).await, Err(PortError::Refused(_))));
        backends.history_admin().start();
        assert_eq!(
            ports.tables.get(Table::DevicesByUser, &[1]).await.unwrap(),
            [Some(Bytes::new())]
        );
    }

    #[tokio::test]
    async fn paused_group_and_cut_port_reach_the_nodes_handles() {
        let folder = tempfile::tempdir().unwrap();
        let (backends, _) = start(folder.path());
        let ports = backends.ports_of("services-1");
        let reader = backends.log_of("services-1", "sequencer");
        let partition = (Topic::Messages, 0);
        ports.log.append(partition, vec![Bytes::from_static(b"x")]).await;
        backends.log_admin().consumer_pause("sequencer", true).await.unwrap();
        let wait = Duration::from_millis(5);
        assert!(reader.fetch(partition, 0, 1_000, wait).await.unwrap().records.is_empty());
        assert_eq!(ports.log.fetch(partition, 0, 1_000, wait).await.unwrap().records.len(), 1);
        backends.hooks().set("registry", Some("services-1"), Some(PortRule::Cut)).unwrap();
        assert!(matches!(ports.registry.nodes().await, Err(PortError::Unknown(_))));
        assert!(backends.ports_of("services-2").registry.nodes().await.is_ok());
    }
}
