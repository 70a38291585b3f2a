//! Blobs, tables and history in maps.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chat_protocol::digest::message_hash;
use chat_protocol::{ConvId, UserId};

use crate::PortError;
use crate::blobs::Blobs;
use crate::history::{ConvDigest, History, PageRequest, Row};
use crate::tables::{Table, Tables};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Objects in a map.
#[derive(Default)]
pub struct TwinBlobs {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl TwinBlobs {
    /// An empty store.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All names.
    pub fn names(&self) -> Vec<String> {
        locked(&self.objects).keys().cloned().collect()
    }
}

#[async_trait]
impl Blobs for TwinBlobs {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), PortError> {
        locked(&self.objects).insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, PortError> {
        Ok(locked(&self.objects).get(name).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        Ok(locked(&self.objects).keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        locked(&self.objects).remove(name);
        Ok(())
    }
}

#[derive(Default)]
struct Directory {
    values: BTreeMap<u64, Bytes>,
    unreachable: bool,
    reads: u32,
}

/// The directory in a map.
#[derive(Default)]
pub struct TwinTables {
    state: Mutex<Directory>,
}

impl TwinTables {
    /// Users with so many devices each.
    pub fn with_users(users: &[(UserId, u8)]) -> Arc<Self> {
        let tables = Arc::<Self>::default();
        for (user, devices) in users {
            locked(&tables.state).values.insert(user.0, (0..*devices).collect::<Vec<u8>>().into());
        }
        tables
    }

    /// Whether reads fail.
    pub fn set_unreachable(&self, unreachable: bool) {
        locked(&self.state).unreachable = unreachable;
    }

    /// Reads so far, failed ones included.
    pub fn reads(&self) -> u32 {
        locked(&self.state).reads
    }
}

#[async_trait]
impl Tables for TwinTables {
    async fn get(&self, _: Table, keys: &[u64]) -> Result<Vec<Option<Bytes>>, PortError> {
        let mut state = locked(&self.state);
        state.reads += 1;
        if state.unreachable {
            return Err(PortError::Unknown("told to fail".into()));
        }
        Ok(keys.iter().map(|key| state.values.get(key).cloned()).collect())
    }

    async fn compare_and_set(
        &self,
        _: Table,
        key: u64,
        old: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, PortError> {
        let mut state = locked(&self.state);
        let equal = state.values.get(&key).cloned() == old;
        if equal {
            state.values.insert(key, new);
        }
        Ok(equal)
    }
}

#[derive(Default)]
struct Kept {
    rows: BTreeMap<(ConvId, u64), Row>,
    failures: u32,
    upserts: u32,
    rows_max: Option<usize>,
}

/// Conversations in a map.
#[derive(Default)]
pub struct TwinHistory {
    state: Mutex<Kept>,
}

impl TwinHistory {
    /// An empty store.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next calls of `upsert` fail without effect.
    pub fn fail_upserts(&self, calls: u32) {
        locked(&self.state).failures = calls;
    }

    /// A call of `upsert` with more rows fails without effect.
    pub fn take_at_most(&self, rows: usize) {
        locked(&self.state).rows_max = Some(rows);
    }

    /// All rows, by conversation and `cseq`.
    pub fn rows(&self) -> Vec<Row> {
        locked(&self.state).rows.values().cloned().collect()
    }

    /// Successful calls of `upsert`.
    pub fn upserts(&self) -> u32 {
        locked(&self.state).upserts
    }
}

#[async_trait]
impl History for TwinHistory {
    async fn upsert(&self, rows: Vec<Row>) -> Result<(), PortError> {
        let mut state = locked(&self.state);
        if state.failures > 0 {
            state.failures -= 1;
            return Err(PortError::Unknown("told to fail".into()));
        }
        if state.rows_max.is_some_and(|most| rows.len() > most) {
            return Err(PortError::Unknown("too many rows for the time".into()));
        }
        state.upserts += 1;
        state.rows.extend(rows.into_iter().map(|row| ((row.conv, row.cseq), row)));
        Ok(())
    }

    async fn page(&self, request: PageRequest) -> Result<Vec<Row>, PortError> {
        let state = locked(&self.state);
        let of_conv = state.rows.values().filter(|row| row.conv == request.conv);
        let limit = request.limit as usize;
        Ok(if request.backward {
            of_conv.rev().filter(|row| row.cseq < request.from).take(limit).cloned().collect()
        } else {
            of_conv.filter(|row| row.cseq > request.from).take(limit).cloned().collect()
        })
    }

    async fn digests(&self, convs: &[ConvId]) -> Result<Vec<ConvDigest>, PortError> {
        let state = locked(&self.state);
        let of = |conv: &ConvId| {
            let rows = state.rows.values().filter(|row| row.conv == *conv);
            rows.fold(ConvDigest::default(), |sum, row| ConvDigest {
                rows: sum.rows + 1,
                top: sum.top.max(row.cseq),
                digest: sum.digest.wrapping_add(message_hash(row.conv, row.cseq, row.mid)),
            })
        };
        Ok(convs.iter().map(of).collect())
    }
}
