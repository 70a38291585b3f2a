//! Exercises brokers and Cassandra before a system starts, on topics and tables of its own. Their virtual machines compile as they go:
//! without it the first of two equal runs meets slower backends than the second, and a control run is no control.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_external::kafka::{KafkaConfig, KafkaLog};
use chat_ports::PortError;
use chat_ports::clock::SteadyClock;
use chat_ports::history::Row;
use chat_ports::log::Topic;
use chat_ports::observe::Observer;
use chat_ports::tables::Table;
use chat_protocol::fold::mid_from_bits;
use chat_protocol::{Cid, ConvId, DeviceId, UserId};
use futures_util::future;
use tokio::time::{Instant, sleep};

use super::Contacts;

/// How long.
const WARM: Duration = Duration::from_secs(10);
/// Name of the topics' prefix and of the keyspace.
const APART: &str = "warm";
/// Between two writes of one source.
const PAUSE: Duration = Duration::from_millis(10);
/// Records or rows of a write.
const ITEMS: u64 = 10;
/// Bytes of each, as a sealed message has.
const BODY: usize = 300;
/// Bytes of one fetch.
const FETCH: usize = 512 * 1024;

/// Returns when the time is over. What fails here fails again where it matters, so it is only noted.
pub(super) async fn up(contacts: &Contacts) {
    let until = Instant::now() + WARM;
    let warmed = future::try_join(log(contacts, until), history(contacts, until)).await;
    if let Err(error) = warmed {
        tracing::debug!(%error, "The backends were not warmed to the end.");
    }
}

/// Counters that nobody reads.
fn unread() -> Observer {
    Observer::new(Arc::new(SteadyClock::new(0)))
}

/// Appends to each partition and reads it, as intake and sequencer do.
async fn log(contacts: &Contacts, until: Instant) -> Result<(), PortError> {
    let config =
        KafkaConfig { prefix: APART.to_owned(), meter: Arc::default(), ..contacts.kafka.clone() };
    let partitions = config.partitions;
    let kafka = KafkaLog::connect(config, &unread()).await?;
    kafka.admin(&unread()).create_topics().await?;
    let handle = kafka.handle();
    let sources = (0..partitions).map(|number| {
        let (log, partition) = (Arc::clone(&handle), (Topic::Messages, number));
        async move {
            let mut next = 0;
            while Instant::now() < until {
                let records = (0..ITEMS).map(|_| Bytes::from_static(&[0; BODY])).collect();
                log.append(partition, records).await;
                let page = log.fetch(partition, next, FETCH, PAUSE).await?;
                next = page.records.last().map_or(next, |record| record.offset + 1);
            }
            Ok(())
        }
    });
    future::try_join_all(sources).await.map(drop)
}

/// Writes rows and reads device lists, as the history writer and the directory do.
async fn history(contacts: &Contacts, until: Instant) -> Result<(), PortError> {
    let config = CassandraConfig { keyspace: APART.to_owned(), ..contacts.cassandra.clone() };
    CassandraStore::create_schema(&config).await?;
    let store = CassandraStore::connect(config, &unread()).await?;
    let (history, tables) = (store.history(), store.tables());
    let mut cseq = 0;
    while Instant::now() < until {
        cseq += 1;
        let rows = (0..ITEMS).filter_map(|peer| row(peer, cseq)).collect();
        let keys: Vec<u64> = (0..ITEMS).collect();
        future::try_join(history.upsert(rows), tables.get(Table::DevicesByUser, &keys)).await?;
        sleep(PAUSE).await;
    }
    Ok(())
}

fn row(peer: u64, cseq: u64) -> Option<Row> {
    Some(Row {
        conv: ConvId::direct(UserId(0), UserId(peer + 1))?,
        cseq,
        mid: mid_from_bits(0),
        cid: Cid::from_bytes(&[0; 16])?,
        from: DeviceId(0),
        kind: 0,
        client_ms: 0,
        server_ms: 0,
        body: Bytes::from_static(&[0; BODY]),
    })
}
