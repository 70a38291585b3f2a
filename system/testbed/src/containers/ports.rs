//! The ports of one node on real backends, each behind its guard.
use std::sync::Arc;

use chat_embedded::NodePorts;
use chat_embedded::guard::{Guarded, Hooks};
use chat_external::cassandra::CassandraStore;
use chat_external::kafka::KafkaLog;
use chat_external::redis::RedisStore;
use chat_external::s3::S3Blobs;
use chat_ports::PortError;
use chat_ports::consumer;
use chat_ports::log::EventLog;
use chat_ports::observe::Observer;

use super::contacts::Contacts;
use super::paused::{GroupLog, Paused};
use crate::substrate::Ports;

/// Connects the clients of a node on the caller's runtime, which they end with.
pub(crate) async fn open(
    node: &str,
    contacts: Contacts,
    hooks: Arc<Hooks>,
    paused: Arc<Paused>,
    observer: &Observer,
) -> Result<Ports, PortError> {
    let redis = RedisStore::connect(contacts.redis, observer).await?;
    let kafka = KafkaLog::connect(contacts.kafka, observer).await?;
    let cassandra = CassandraStore::connect(contacts.cassandra, observer).await?;
    let s3 = S3Blobs::connect(contacts.s3)?;
    let timers = contacts.timers;
    let (store, table, append) = (timers.store_call, timers.table_call, timers.log_append);
    let log_of = |group: &'static str| -> Arc<dyn EventLog> {
        let log: Arc<dyn EventLog> =
            Arc::new(GroupLog { inner: kafka.handle(), group, paused: Arc::clone(&paused) });
        Arc::new(Guarded::new(log, node, &hooks, observer, append))
    };
    Ok(Ports {
        sequencer_log: log_of(consumer::SEQUENCER),
        receipts_log: log_of(consumer::RECEIPTS),
        history_log: log_of(consumer::HISTORY_WRITER),
        node: NodePorts {
            registry: Arc::new(Guarded::new(redis.registry(), node, &hooks, observer, store)),
            relay_queue: Arc::new(Guarded::new(redis.relay_queue(), node, &hooks, observer, store)),
            log: Arc::new(Guarded::new(kafka.handle(), node, &hooks, observer, append)),
            history: Arc::new(Guarded::new(cassandra.history(), node, &hooks, observer, table)),
            tables: Arc::new(Guarded::new(cassandra.tables(), node, &hooks, observer, table)),
            blobs: Arc::new(Guarded::new(s3.handle(), node, &hooks, observer, table)),
        },
    })
}
