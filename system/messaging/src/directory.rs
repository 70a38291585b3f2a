//! Cached lists of devices. A list that is old is served while the tables are unreachable.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::observe::{Counter, Observer};
use chat_ports::tables::{Table, Tables};
use chat_protocol::UserId;
use tokio::time::Instant;

/// Users remembered; beyond it everything older than the cache time is forgotten, and new ones are read each time.
const USERS_MAX: usize = 1_000_000;
/// Keys of one read of the tables.
const KEYS_MAX: usize = 512;

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Indexes of its devices, ascending.
    Devices(Bytes),
    /// There is no such user.
    Unknown,
    /// Neither cached nor readable at the moment.
    Unreachable,
}

struct Entry {
    devices: Bytes,
    read: Instant,
}

#[derive(Default)]
struct State {
    entries: HashMap<UserId, Entry>,
    /// The tables failed: they are not asked again before.
    quiet_until: Option<Instant>,
}

/// The directory as one node sees it.
pub struct Directory {
    tables: Arc<dyn Tables>,
    cache: Duration,
    state: Mutex<State>,
    failures: Counter,
}

impl Directory {
    /// A directory that asks `tables` at most each `cache` for one user.
    pub fn new(tables: Arc<dyn Tables>, cache: Duration, observer: &Observer) -> Self {
        let failures = observer.counter("directory.failures");
        Self { tables, cache, state: Mutex::default(), failures }
    }

    /// Devices of users, in order. One read of the tables for all that are not cached.
    pub async fn devices(&self, users: &[UserId]) -> Vec<Found> {
        let now = Instant::now();
        let mut found = Vec::with_capacity(users.len());
        let mut missing: Vec<UserId> = Vec::new();
        let mut quiet = false;
        {
            let state = self.lock();
            for user in users {
                let entry = state.entries.get(user);
                if entry.is_none_or(|entry| now.duration_since(entry.read) > self.cache) {
                    missing.push(*user);
                }
                found.push(
                    entry.map_or(Found::Unreachable, |entry| Found::Devices(entry.devices.clone())),
                );
            }
            if !missing.is_empty() {
                quiet = state.quiet_until.is_some_and(|until| now < until);
            }
        }
        if missing.is_empty() || quiet {
            return found;
        }
        missing.sort_unstable();
        missing.dedup();
        let Ok(rows) = self.read(&missing).await else { return found };
        self.remember(now, &rows);
        for (user, found) in users.iter().zip(&mut found) {
            if let Ok(at) = rows.binary_search_by_key(user, |(user, _)| *user) {
                *found = rows[at].1.clone().map_or(Found::Unknown, Found::Devices);
            }
        }
        found
    }

    /// Rows of users, in the order asked.
    async fn read(&self, users: &[UserId]) -> Result<Vec<(UserId, Option<Bytes>)>, PortError> {
        let mut rows = Vec::with_capacity(users.len());
        for part in users.chunks(KEYS_MAX) {
            let keys: Vec<u64> = part.iter().map(|user| user.0).collect();
            match self.tables.get(Table::DevicesByUser, &keys).await {
                Ok(values) => rows.extend(part.iter().copied().zip(values)),
                Err(error) => {
                    self.failures.add(1);
                    self.lock().quiet_until = Some(Instant::now() + self.cache);
                    return Err(error);
                }
            }
        }
        Ok(rows)
    }

    fn remember(&self, read: Instant, rows: &[(UserId, Option<Bytes>)]) {
        let mut state = self.lock();
        state.quiet_until = None;
        if state.entries.len() + rows.len() > USERS_MAX {
            let cache = self.cache;
            state.entries.retain(|_, entry| read.duration_since(entry.read) <= cache);
        }
        for (user, devices) in rows {
            match devices {
                Some(devices)
                    if state.entries.len() < USERS_MAX || state.entries.contains_key(user) =>
                {
                    state.entries.insert(*user, Entry { devices: devices.clone(), read });
                }
                Some(_) => {}
                None => {
                    state.entries.remove(user);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
