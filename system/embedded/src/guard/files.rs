//! The guard in front of history, tables and blobs.
use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use chat_ports::history::{ConvDigest, History, PageRequest, Row};
use chat_ports::tables::{Table, Tables};
use chat_protocol::ConvId;

use super::guarded::{Guarded, Port};

impl Port for dyn History {
    const NAME: &'static str = "history";
    const OPS: &'static [&'static str] = &["upsert", "page", "digests"];
}

#[async_trait]
impl History for Guarded<dyn History> {
    async fn upsert(&self, rows: Vec<Row>) -> Result<(), PortError> {
        self.passed(rows.iter().map(|row| row.body.len()).sum());
        self.call(0, self.inner.upsert(rows)).await
    }

    async fn page(&self, request: PageRequest) -> Result<Vec<Row>, PortError> {
        let page = self.call(1, self.inner.page(request)).await;
        if let Ok(rows) = &page {
            self.passed(rows.iter().map(|row| row.body.len()).sum());
        }
        page
    }

    async fn digests(&self, convs: &[ConvId]) -> Result<Vec<ConvDigest>, PortError> {
        self.call(2, self.inner.digests(convs)).await
    }
}

impl Port for dyn Tables {
    const NAME: &'static str = "tables";
    const OPS: &'static [&'static str] = &["get", "compare_and_set"];
}

#[async_trait]
impl Tables for Guarded<dyn Tables> {
    async fn get(&self, table: Table, keys: &[u64]) -> Result<Vec<Option<Bytes>>, PortError> {
        let values = self.call(0, self.inner.get(table, keys)).await;
        if let Ok(values) = &values {
            self.passed(values.iter().flatten().map(Bytes::len).sum());
        }
        values
    }

    async fn compare_and_set(
        &self,
        table: Table,
        key: u64,
        old: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, PortError> {
        self.passed(new.len());
        self.call(1, self.inner.compare_and_set(table, key, old, new)).await
    }
}

impl Port for dyn Blobs {
    const NAME: &'static str = "blobs";
    const OPS: &'static [&'static str] = &["put", "get", "list", "delete"];
}

#[async_trait]
impl Blobs for Guarded<dyn Blobs> {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), PortError> {
        self.passed(bytes.len());
        self.call(0, self.inner.put(name, bytes)).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, PortError> {
        let bytes = self.call(1, self.inner.get(name)).await;
        if let Ok(Some(bytes)) = &bytes {
            self.passed(bytes.len());
        }
        bytes
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        self.call(2, self.inner.list(prefix)).await
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        self.call(3, self.inner.delete(name)).await
    }
}
