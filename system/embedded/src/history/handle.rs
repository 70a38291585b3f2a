//! The two threads and the two ports in front of them.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::history::{ConvDigest, History, PageRequest, Row};
use chat_ports::observe::Observer;
use chat_ports::tables::{Table, Tables};
use chat_protocol::ConvId;
use fjall::{Database, KeyspaceCreateOptions};
use tokio::sync::oneshot::Sender;

use super::admin::HistoryAdmin;
use super::reader::{self, Read};
use super::writer::{self, Files, Write};
use crate::StartError;
use crate::desk::{BackendThread, Desk, answer, serve};

/// A commit that takes longer than this is reported as unknown: fjall may halt writes for good (fjall-rs/fjall#257).
pub const COMMIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of journal before old memtables are flushed.
const JOURNAL_MAX: u64 = 512 * 1024 * 1024;

/// Both ports. A clone shares its counts of waiting calls; [`Self::history`] and [`Self::tables`] give fresh ones.
#[derive(Clone)]
pub struct EmbeddedHistory {
    writes: Desk<Write>,
    reads: Desk<Read>,
    admin: HistoryAdmin,
}

impl EmbeddedHistory {
    /// Opens the files below `folder` and starts the two threads.
    pub(crate) fn start(
        folder: &Path,
        observer: Observer,
    ) -> Result<(Self, [BackendThread; 2]), StartError> {
        let db = Database::builder(folder)
            .manual_journal_persist(true)
            .worker_threads(1)
            .max_journaling_size(JOURNAL_MAX)
            .open()
            .map_err(StartError::history)?;
        let keyspace =
            |name| db.keyspace(name, KeyspaceCreateOptions::default).map_err(StartError::history);
        let (messages, tables) = (keyspace("messages")?, keyspace("tables")?);
        let files = Files { db, messages, tables };
        let (writes, write_queue) = Desk::open();
        let (reads, read_queue) = Desk::<Read>::open();
        let files_of_reader = files.clone();
        let writer = BackendThread::spawn("chat-history", move |stop| {
            writer::run(files, observer, write_queue, stop)
        })?;
        let reader = BackendThread::spawn("chat-histread", move |stop| async move {
            serve(read_queue, stop, |turn| {
                for read in turn.drain(..) {
                    read(&files_of_reader);
                }
            })
            .await;
        })?;
        let admin = HistoryAdmin::default();
        Ok((Self { writes, reads, admin }, [reader, writer]))
    }

    /// A handle with its own limit of waiting calls.
    pub fn history(&self) -> Arc<dyn History> {
        Arc::new(self.handle())
    }

    /// A handle with its own limit of waiting calls.
    pub fn tables(&self) -> Arc<dyn Tables> {
        Arc::new(self.handle())
    }

    /// The operator's switch of both ports.
    pub fn admin(&self) -> HistoryAdmin {
        self.admin.clone()
    }

    fn handle(&self) -> Self {
        let (writes, reads) = (self.writes.handle(), self.reads.handle());
        Self { writes, reads, admin: self.admin.clone() }
    }

    async fn write<T: Send>(
        &self,
        write: impl FnOnce(Sender<Result<T, PortError>>) -> Write + Send,
    ) -> Result<T, PortError> {
        let work = async {
            let done = tokio::time::timeout(COMMIT_MAX, self.writes.ask(write)).await;
            done.map_err(|_| PortError::Unknown("the commit took too long".to_owned()))??
        };
        self.admin.call(work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let read = |reply: Sender<Result<T, PortError>>| -> Read {
            Box::new(move |files| answer(reply, work(files)))
        };
        self.admin.call(async { self.reads.ask(read).await? }).await
    }
}

#[async_trait]
impl History for EmbeddedHistory {
    async fn upsert(&self, rows: Vec<Row>) -> Result<(), PortError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(|reply| Write::Upsert(rows, reply)).await
    }

    async fn page(&self, request: PageRequest) -> Result<Vec<Row>, PortError> {
        self.read(move |files| reader::page(files, request)).await
    }

    async fn digests(&self, convs: &[ConvId]) -> Result<Vec<ConvDigest>, PortError> {
        let convs = convs.to_vec();
        self.read(move |files| convs.iter().map(|conv| reader::digest(files, *conv)).collect())
            .await
    }
}

#[async_trait]
impl Tables for EmbeddedHistory {
    async fn get(&self, table: Table, keys: &[u64]) -> Result<Vec<Option<Bytes>>, PortError> {
        let keys = keys.to_vec();
        self.read(move |files| reader::get(files, table, &keys)).await
    }

    async fn compare_and_set(
        &self,
        table: Table,
        key: u64,
        old: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, PortError> {
        self.write(|reply| Write::CompareAndSet { table, key, old, new, reply }).await
    }
}
