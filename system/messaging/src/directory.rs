//! Cached lists of devices. Those in use are read again before their time is over, so that a slow table holds no message up; one that
//! is old is served while the tables are unreachable.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::observe::{Counter, Observer};
use chat_ports::tables::{Table, Tables};
use chat_protocol::UserId;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Users remembered; beyond it everything older than the cache time is forgotten, and new ones are read each time.
const USERS_MAX: usize = 1_000_000;
/// Keys of one read of the tables.
const KEYS_MAX: usize = 512;
/// A list that nobody asked for in so many cache times is not read again until somebody does.
const IN_USE: u32 = 12;
/// The least pause between two rounds of reading again.
const ROUND_MIN: Duration = Duration::from_millis(10);

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
    /// When somebody asked for it last.
    used: Instant,
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
    /// A directory that asks `tables` for a user whose list is older than `cache`, and for one in use at most twice in that time.
    pub fn new(tables: Arc<dyn Tables>, cache: Duration, observer: &Observer) -> Self {
        let failures = observer.counter("directory.failures");
        Self { tables, cache, state: Mutex::default(), failures }
    }

    /// Devices of users, in order, no older than the cache time while the tables answer. One read of the tables for all that
    /// are not cached.
    pub async fn devices(&self, users: &[UserId]) -> Vec<Found> {
        self.find(users, Some(self.cache)).await
    }

    /// Like `devices`, for a caller who only asks whether users exist: a user that was there stays, so a list of any age will do.
    pub async fn known(&self, users: &[UserId]) -> Vec<Found> {
        self.find(users, None).await
    }

    /// Lists that are at most `age` old, of any age for `None`.
    async fn find(&self, users: &[UserId], age: Option<Duration>) -> Vec<Found> {
        let now = Instant::now();
        let mut found = Vec::with_capacity(users.len());
        let mut missing: BTreeSet<UserId> = BTreeSet::new();
        {
            let mut state = self.lock();
            let State { entries, quiet_until } = &mut *state;
            for user in users {
                let entry = entries.get_mut(user).map(|entry| {
                    entry.used = now;
                    &*entry
                });
                let old = entry.map(|entry| now.duration_since(entry.read));
                if old.is_none_or(|old| age.is_some_and(|age| old > age)) {
                    missing.insert(*user);
                }
                found.push(
                    entry.map_or(Found::Unreachable, |entry| Found::Devices(entry.devices.clone())),
                );
            }
            if missing.is_empty() || quiet_until.is_some_and(|until| now < until) {
                return found;
            }
        }
        let missing: Vec<UserId> = missing.into_iter().collect();
        let Ok(rows) = self.read(&missing).await else { return found };
        self.remember(now, &rows);
        for (user, found) in users.iter().zip(&mut found) {
            if let Ok(at) = rows.binary_search_by_key(user, |(user, _)| *user) {
                *found = rows[at].1.clone().map_or(Found::Unknown, Found::Devices);
            }
        }
        found
    }

    /// Reads lists in use again when half of their time is over, many in one call, until its caller drops it: a further key of a
    /// call costs the tables far less than a call of its own.
    pub async fn keep_fresh(&self) {
        let mut rounds = interval((self.cache / 4).max(ROUND_MIN));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let now = Instant::now();
            let due = self.due(now);
            if due.is_empty() {
                // Reading nothing succeeds, and would say that the tables answer again.
                continue;
            }
            if let Ok(rows) = self.read(&due).await {
                self.remember(now, &rows);
            }
        }
    }

    /// Lists past half of their time that somebody still asks for; none while the tables are left alone.
    fn due(&self, now: Instant) -> Vec<UserId> {
        let state = self.lock();
        if state.quiet_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let due = |entry: &Entry| {
            now.duration_since(entry.read) >= self.cache / 2
                && now.duration_since(entry.used) <= self.cache * IN_USE
        };
        let due = state.entries.iter().filter(|(_, entry)| due(entry));
        let mut due: Vec<UserId> = due.map(|(user, _)| *user).collect();
        due.sort_unstable();
        due
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
            let Some(devices) = devices else {
                state.entries.remove(user);
                continue;
            };
            if let Some(entry) = state.entries.get_mut(user) {
                (entry.devices, entry.read) = (devices.clone(), read);
            } else if state.entries.len() < USERS_MAX {
                state.entries.insert(*user, Entry { devices: devices.clone(), read, used: read });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chat_ports::clock::SteadyClock;
    use chat_ports::twins::TwinTables;
    use tokio::time::timeout;

    use super::*;

    const CACHE: Duration = Duration::from_secs(5);

    fn directory() -> (Arc<TwinTables>, Directory) {
        let tables = TwinTables::with_users(&[(UserId(1), 1), (UserId(2), 1)]);
        let observer = Observer::new(Arc::new(SteadyClock::new(0)));
        (Arc::clone(&tables), Directory::new(tables, CACHE, &observer))
    }

    #[tokio::test(start_paused = true)]
    async fn lists_in_use_are_read_again_together_before_their_time_is_over() {
        let (tables, directory) = directory();
        directory.devices(&[UserId(1), UserId(2)]).await;
        tokio::time::advance(CACHE / 4 * 3).await;
        let twice = async {
            while tables.reads() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = directory.keep_fresh() => {}
            () = twice => {}
        }
        tokio::time::advance(CACHE / 4 * 3).await;
        directory.devices(&[UserId(1), UserId(2)]).await;
        assert_eq!(
            tables.reads(),
            2,
            "one read for both, and nobody waited for a list that was over"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn list_that_nobody_asks_for_is_left_alone_and_is_no_older_than_its_time_when_asked_for()
    {
        let (tables, directory) = directory();
        directory.devices(&[UserId(1)]).await;
        tokio::time::advance(CACHE * (IN_USE + 1)).await;
        assert_eq!(directory.due(Instant::now()), []);
        directory.devices(&[UserId(1)]).await;
        assert_eq!(tables.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn unreachable_tables_are_asked_once_in_a_cache_time() {
        let (tables, directory) = directory();
        directory.devices(&[UserId(1), UserId(2)]).await;
        tables.set_unreachable(true);
        let ended = timeout(CACHE * 8 + CACHE / 8, directory.keep_fresh()).await;
        assert!(ended.is_err(), "it goes on as long as it is asked to");
        assert_eq!(tables.reads() - 1, 8, "one failed read in each of eight cache times");
    }

    #[tokio::test(start_paused = true)]
    async fn user_that_was_there_is_known_however_old_the_list_is() {
        let (tables, directory) = directory();
        directory.devices(&[UserId(1)]).await;
        tokio::time::advance(CACHE * 10).await;
        let known = directory.known(&[UserId(1), UserId(3)]).await;
        assert_eq!(known, [Found::Devices(Bytes::from_static(&[0])), Found::Unknown]);
        assert_eq!(tables.reads(), 2, "only the stranger was asked for");
    }
}
