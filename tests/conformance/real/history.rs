//! History and tables on Cassandra, in a keyspace of the story's own.
use std::sync::Arc;
use std::time::Duration;

use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_ports::clock::SteadyClock;
use chat_ports::history::History;
use chat_ports::observe::Observer;
use chat_ports::tables::Tables;

/// The limit of a call in the reference system (`Timers::DEFAULT`): short timers would test the host.
const CALL: Duration = Duration::from_secs(2);

pub(crate) async fn history() -> Option<Arc<dyn History>> {
    Some(store().await?.history())
}

pub(crate) async fn tables() -> Option<Arc<dyn Tables>> {
    Some(store().await?.tables())
}

async fn store() -> Option<CassandraStore> {
    let contact = super::set::quiet()?.cassandra();
    let config =
        CassandraConfig { contact, keyspace: super::fresh_name(), replication: 1, call: CALL };
    CassandraStore::create_schema(&config).await.unwrap();
    let observer = Observer::new(Arc::new(SteadyClock::new(1_700_000_000_000)));
    Some(CassandraStore::connect(config, &observer).await.unwrap())
}
