//! The log as the members of one group see it: while the group is paused, fetches answer that there is nothing.
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::{Appended, Assignment, EventLog, Fetched, Partition, Topic};

/// Groups that read nothing at present.
#[derive(Debug, Default)]
pub(crate) struct Paused(Mutex<BTreeSet<String>>);

impl Paused {
    pub(crate) fn set(&self, group: &str, paused: bool) {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paused {
            groups.insert(group.to_owned());
        } else {
            groups.remove(group);
        }
    }

    fn has(&self, group: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(group)
    }
}

/// The log for one group.
pub(super) struct GroupLog {
    pub(super) inner: Arc<dyn EventLog>,
    pub(super) group: &'static str,
    pub(super) paused: Arc<Paused>,
}

#[async_trait]
impl EventLog for GroupLog {
    async fn append(&self, partition: Partition, values: Vec<Bytes>) -> Appended {
        self.inner.append(partition, values).await
    }

    async fn fetch(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fetched, PortError> {
        if self.paused.has(self.group) {
            tokio::time::sleep(wait).await;
            return Ok(Fetched { records: Vec::new(), high_watermark: offset, start: 0 });
        }
        self.inner.fetch(partition, offset, max_bytes, wait).await
    }

    async fn beat(&self, group: &str, topic: Topic, member: &str) -> Result<Assignment, PortError> {
        self.inner.beat(group, topic, member).await
    }

    async fn leave(&self, group: &str, topic: Topic, member: &str) -> Result<(), PortError> {
        self.inner.leave(group, topic, member).await
    }

    async fn commit(
        &self,
        group: &str,
        topic: Topic,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        self.inner.commit(group, topic, generation, positions).await
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<Vec<Option<u64>>, PortError> {
        self.inner.committed(group, topic, partitions).await
    }
}
