//! Small rows by key.
//!
//! A read is not a round of the lightweight transactions: a conditional write whose outcome was unknown may show in a later read
//! only. The next conditional write of that row settles it.
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::tables::{Table, Tables};
use scylla::value::{CqlValue, Row};

use super::failure::unreadable;
use super::store::Handle;
use super::way::Way;

/// Keys of one request: the coordinator reads them one by one.
const KEYS_A_REQUEST: usize = 100;

#[async_trait]
impl Tables for Handle {
    async fn get(&self, table: Table, keys: &[u64]) -> Result<Vec<Option<Bytes>>, PortError> {
        let shared = Arc::clone(&self.shared);
        self.call(shared.call, async {
            let way = shared.way();
            let mut values = BTreeMap::new();
            for keys in keys.chunks(KEYS_A_REQUEST) {
                read(&way, table, keys, &mut values).await?;
            }
            Ok(keys.iter().map(|key| values.get(key).cloned()).collect())
        })
        .await
    }

    async fn compare_and_set(
        &self,
        table: Table,
        key: u64,
        old: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, PortError> {
        let shared = Arc::clone(&self.shared);
        self.call(shared.call, async { set(&shared.way(), table, key, old, new).await }).await
    }
}

/// Reads values; they are few and small, so one answer holds them all.
async fn read(
    way: &Way<'_>,
    table: Table,
    keys: &[u64],
    values: &mut BTreeMap<u64, Bytes>,
) -> Result<(), PortError> {
    let statement = &way.statements().of(table).get;
    let keys: Vec<i64> = keys.iter().map(|key| key.cast_signed()).collect();
    let answer = way.request(way.session().execute_unpaged(statement, (keys,))).await?;
    let rows = answer.into_rows_result().map_err(unreadable)?;
    for row in rows.rows::<(i64, Bytes)>().map_err(unreadable)? {
        let (key, value) = row.map_err(unreadable)?;
        values.insert(key.cast_unsigned(), value);
    }
    Ok(())
}

async fn set(
    way: &Way<'_>,
    table: Table,
    key: u64,
    old: Option<Bytes>,
    new: Bytes,
) -> Result<bool, PortError> {
    let (session, statements) = (way.session(), way.statements().of(table));
    let key = key.cast_signed();
    let answer = match old {
        None => way.request(session.execute_unpaged(&statements.insert, (key, new))).await,
        Some(old) => {
            way.request(session.execute_unpaged(&statements.update, (new, key, old))).await
        }
    }?;
    // What the answer holds behind its first column depends on whether the write was applied. An answer that cannot be read is
    // one to a write that may have been.
    let unread =
        || PortError::Unknown("the answer to a conditional write is not readable".to_owned());
    let rows = answer.into_rows_result().map_err(|_| unread())?;
    let row = rows.first_row::<Row>().map_err(|_| unread())?;
    match row.columns.first() {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        _ => Err(unread()),
    }
}
