//! The configuration, the limits, and the two ports.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::history::History;
use chat_ports::observe::{Counter, Observer};
use chat_ports::tables::Tables;
use tokio::sync::Semaphore;

use super::link::Link;
use super::schema;
use super::way::Way;

/// Calls that may wait through one port handle; a further one is refused.
pub const WAITING_MAX: usize = 256;
/// Requests under way over all handles of a store; a further one waits for a place, inside the limit of its call.
pub const REQUESTS_MAX: usize = 128;

/// Where the server is and how long it may take.
#[derive(Clone, Debug)]
pub struct CassandraConfig {
    /// The one address that is dialled, whatever the servers say of themselves.
    pub contact: SocketAddr,
    /// Keyspace: a lower-case letter, then letters, digits and `_`, at most 48 characters.
    pub keyspace: String,
    /// Copies of a row, at least 1.
    pub replication: u32,
    /// A call of a port ends after this long; `History::digests` has a multiple of it (`DIGEST_CALLS`).
    pub call: Duration,
}

impl CassandraConfig {
    /// Refuses a name that would not stand in a statement as it is.
    pub(super) fn check(&self) -> Result<(), PortError> {
        let name = self.keyspace.as_bytes();
        let first = name.first().is_some_and(u8::is_ascii_lowercase);
        let rest = name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_');
        if first && rest && name.len() <= 48 && self.replication > 0 {
            Ok(())
        } else {
            let Self { keyspace, replication, .. } = self;
            Err(PortError::Refused(format!(
                "`{keyspace}` with {replication} copies is no keyspace"
            )))
        }
    }
}

/// History and tables on one keyspace. Belongs to the runtime it was connected on; its background work ends when the last handle
/// is dropped.
#[derive(Clone)]
pub struct CassandraStore {
    shared: Arc<Shared>,
}

impl CassandraStore {
    /// Makes keyspace and tables where they are missing, and waits until all servers know them, [`SCHEMA_MAX`](super::SCHEMA_MAX)
    /// at most. Refused when no server answered; unknown when it failed midway, and may be done again.
    pub async fn create_schema(config: &CassandraConfig) -> Result<(), PortError> {
        schema::create(config).await
    }

    /// Opens a session on the caller's runtime and prepares the statements, within [`CONNECT_MAX`](super::CONNECT_MAX). Refused when
    /// no server answers or the schema is not there.
    ///
    /// Counts `cassandra.requests` (writes of rows), `cassandra.rows` (rows in them) and `cassandra.reconnects`.
    pub async fn connect(config: CassandraConfig, observer: &Observer) -> Result<Self, PortError> {
        config.check()?;
        let call = config.call;
        let link = Link::open(config, observer.counter("cassandra.reconnects")).await?;
        let shared = Shared {
            link,
            call,
            room: Semaphore::new(REQUESTS_MAX),
            requests: observer.counter("cassandra.requests"),
            rows: observer.counter("cassandra.rows"),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A handle with its own limit of waiting calls.
    pub fn history(&self) -> Arc<dyn History> {
        Arc::new(self.handle())
    }

    /// A handle with its own limit of waiting calls.
    pub fn tables(&self) -> Arc<dyn Tables> {
        Arc::new(self.handle())
    }

    fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared), waiting: Semaphore::new(WAITING_MAX) }
    }
}

/// What all handles share.
pub(super) struct Shared {
    link: Link,
    pub(super) call: Duration,
    room: Semaphore,
    pub(super) requests: Counter,
    pub(super) rows: Counter,
}

/// One port handle.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    waiting: Semaphore,
}

impl Handle {
    /// Runs a call: refuses it beyond [`WAITING_MAX`], ends it after `limit`.
    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|_| PortError::Refused("too many calls waiting".to_owned()))?;
        let done = tokio::time::timeout(limit, work).await;
        done.map_err(|_| PortError::Unknown(format!("no answer within {limit:?}")))?
    }
}

impl Shared {
    /// A way for one call, on the present session.
    pub(super) fn way(&self) -> Way<'_> {
        Way::new(&self.link, &self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_keyspaces() {
        let check = |keyspace: &str| {
            let contact = SocketAddr::from(([127, 0, 0, 1], 9_042));
            let (keyspace, call) = (keyspace.to_owned(), Duration::from_secs(2));
            CassandraConfig { contact, keyspace, replication: 1, call }.check().is_ok()
        };
        assert!(check("chatstorm_1"));
        for name in ["", "1a", "a-b", "a.b", "A", "a; DROP", &"a".repeat(49)] {
            assert!(!check(name), "{name:?}");
        }
    }
}
