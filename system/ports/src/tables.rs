//! Small rows by key: the directory of users and devices.
use async_trait::async_trait;
use bytes::Bytes;

use crate::PortError;

/// The tables of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// User to the indexes of its devices, one byte each, ascending.
    DevicesByUser,
}

/// Rows by key.
#[async_trait]
pub trait Tables: Send + Sync {
    /// Values of keys, in order; `None` where there is no row.
    async fn get(&self, table: Table, keys: &[u64]) -> Result<Vec<Option<Bytes>>, PortError>;

    /// Writes `new` if the present value is `old`; answers whether it did. A write of unknown outcome may show only in a later
    /// read; the next conditional write of the row settles it, whatever that one is answered.
    async fn compare_and_set(
        &self,
        table: Table,
        key: u64,
        old: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, PortError>;
}
