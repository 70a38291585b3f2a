//! Immutable objects by name: fold snapshots.
use async_trait::async_trait;
use bytes::Bytes;

use crate::PortError;

/// The object store.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Writes an object whole, and never a part of it, be the outcome unknown; an existing one of the same name is kept as it is
    /// when its bytes are equal, else replaced.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), PortError>;

    /// Reads an object; `None` when there is none.
    async fn get(&self, name: &str) -> Result<Option<Bytes>, PortError>;

    /// Names that start with a prefix, ascending.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, PortError>;

    /// Deletes an object; a missing one is no error.
    async fn delete(&self, name: &str) -> Result<(), PortError>;
}
