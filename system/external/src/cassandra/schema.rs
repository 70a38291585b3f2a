//! Keyspace and tables, made once before the nodes start.
use std::time::Duration;

use chat_ports::PortError;
use scylla::client::session::Session;

use super::link::builder;
use super::store::CassandraConfig;

/// Keyspace and tables must be there, and every server must know of them, after this long. A cold server needs seconds for each.
pub const SCHEMA_MAX: Duration = Duration::from_secs(30);
/// How often the servers are asked whether they know the same schema.
const AGREEMENT_LOOK: Duration = Duration::from_millis(50);

/// Sealed bodies do not compress, so a codec would only cost; nothing is read twice as a way to hide a slow server.
const TABLE: &str = "compression = {'enabled': false} AND speculative_retry = 'NEVER'";

fn statements(config: &CassandraConfig) -> [String; 4] {
    let CassandraConfig { keyspace, replication, .. } = config;
    [
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication}}}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.messages (conv blob, seg bigint, cseq bigint, \
             head frozen<tuple<uuid, uuid, bigint, int, bigint, bigint>>, body blob, \
             PRIMARY KEY ((conv, seg), cseq)) WITH {TABLE}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.segments (conv blob, seg bigint, \
             PRIMARY KEY (conv, seg)) WITH {TABLE}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.devices_by_user (key bigint PRIMARY KEY, value blob) \
             WITH {TABLE}"
        ),
    ]
}

/// Makes what is not there yet and waits until all servers agree on it.
pub(super) async fn create(config: &CassandraConfig) -> Result<(), PortError> {
    config.check()?;
    let made = tokio::time::timeout(SCHEMA_MAX, Box::pin(make(config))).await;
    made.map_err(|_| PortError::Unknown(format!("the schema did not stand within {SCHEMA_MAX:?}")))?
}

async fn make(config: &CassandraConfig) -> Result<(), PortError> {
    let failed = |error: &dyn std::error::Error| PortError::Unknown(error.to_string());
    let session: Session = builder(config, SCHEMA_MAX)
        .schema_agreement_interval(AGREEMENT_LOOK)
        .schema_agreement_timeout(SCHEMA_MAX)
        .refresh_metadata_on_auto_schema_agreement(false)
        .build()
        .await
        .map_err(|error| PortError::Refused(error.to_string()))?;
    for statement in statements(config) {
        // The driver waits for agreement behind each of them.
        session.query_unpaged(statement, ()).await.map_err(|error| failed(&error))?;
    }
    Ok(())
}
