//! The one writer: gathers rows of many callers and commits them with one sync.
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::history::Row;
use chat_ports::observe::{Counter, Observer};
use chat_ports::tables::Table;
use fjall::{Database, Keyspace, PersistMode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::rows;
use crate::desk::answer;

/// A commit waits at most this long for more rows.
const GATHER: Duration = Duration::from_millis(10);
/// A commit does not wait for more once it has this many rows.
const GATHER_ROWS: usize = 500;

/// One write.
pub(super) enum Write {
    Upsert(Vec<Row>, oneshot::Sender<Result<(), PortError>>),
    CompareAndSet {
        table: Table,
        key: u64,
        old: Option<Bytes>,
        new: Bytes,
        reply: oneshot::Sender<Result<bool, PortError>>,
    },
}

/// The files both sides work on.
#[derive(Clone)]
pub(super) struct Files {
    pub db: Database,
    pub messages: Keyspace,
    pub tables: Keyspace,
}

/// Key of a table's row.
pub(super) fn table_key(table: Table, key: u64) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[0] = match table {
        Table::DevicesByUser => 1,
    };
    bytes[1..].copy_from_slice(&key.to_be_bytes());
    bytes
}

/// Serves writes until the stop.
pub(super) async fn run(
    files: Files,
    observer: Observer,
    mut writes: mpsc::Receiver<Write>,
    stop: CancellationToken,
) {
    let (commits, rows) = (observer.counter("history.commits"), observer.counter("history.rows"));
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        let mut group = Group::new(&files);
        tokio::select! {
            biased;
            () = &mut stopped => return,
            write = writes.recv() => match write {
                Some(write) => group.take(write),
                None => return,
            },
        }
        let full = tokio::time::sleep(GATHER);
        tokio::pin!(full);
        while group.rows < GATHER_ROWS {
            tokio::select! {
                biased;
                () = &mut full => break,
                write = writes.recv() => match write {
                    Some(write) => group.take(write),
                    None => break,
                },
            }
        }
        group.commit(&commits, &rows);
    }
}

/// Writes that are committed together, and who waits for them.
struct Group<'a> {
    files: &'a Files,
    batch: fjall::OwnedWriteBatch,
    rows: usize,
    /// Table rows of this group, which a comparison must see although they are not committed yet.
    set: BTreeMap<[u8; 9], Bytes>,
    upserts: Vec<oneshot::Sender<Result<(), PortError>>>,
    compared: Vec<(bool, oneshot::Sender<Result<bool, PortError>>)>,
}

impl<'a> Group<'a> {
    fn new(files: &'a Files) -> Self {
        let batch = files.db.batch().durability(Some(PersistMode::SyncData));
        Self {
            files,
            batch,
            rows: 0,
            set: BTreeMap::new(),
            upserts: Vec::new(),
            compared: Vec::new(),
        }
    }

    fn take(&mut self, write: Write) {
        match write {
            Write::Upsert(rows, reply) => {
                self.rows += rows.len();
                for row in &rows {
                    self.batch.insert(
                        &self.files.messages,
                        rows::key(row.conv, row.cseq),
                        rows::value(row),
                    );
                }
                self.upserts.push(reply);
            }
            Write::CompareAndSet { table, key, old, new, reply } => {
                self.rows += 1;
                let key = table_key(table, key);
                match self.present(&key) {
                    Err(error) => answer(reply, Err(PortError::Refused(error.to_string()))),
                    Ok(present) => {
                        let equal = present == old;
                        if equal {
                            self.batch.insert(&self.files.tables, key, &new[..]);
                            self.set.insert(key, new);
                        }
                        self.compared.push((equal, reply));
                    }
                }
            }
        }
    }

    fn present(&self, key: &[u8; 9]) -> fjall::Result<Option<Bytes>> {
        if let Some(set) = self.set.get(key) {
            return Ok(Some(set.clone()));
        }
        Ok(self.files.tables.get(key)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn commit(self, commits: &Counter, rows: &Counter) {
        let done = self.batch.commit().map_err(|error| PortError::Unknown(error.to_string()));
        commits.add(1);
        rows.add(self.rows as u64);
        for reply in self.upserts {
            answer(reply, done.clone());
        }
        for (equal, reply) in self.compared {
            answer(reply, done.clone().map(|()| equal));
        }
    }
}
