//! The guard in front of the event log.
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::consumer::FETCH_WAIT;
use chat_ports::log::{Appended, Assignment, EventLog, Fetched, Partition, Topic, Why};

use super::guarded::{Guarded, Port};

impl Port for dyn EventLog {
    const NAME: &'static str = "log";
    const OPS: &'static [&'static str] =
        &["append", "fetch", "beat", "leave", "commit", "committed"];

    fn longest(op: usize, limit: Duration) -> Duration {
        match Self::OPS[op] {
            // The log's own limit begins when the hook lets the append go.
            "append" => limit * 2,
            // The reader's wait for a first record comes on top.
            "fetch" => limit + FETCH_WAIT,
            _ => limit,
        }
    }
}

#[async_trait]
impl EventLog for Guarded<dyn EventLog> {
    async fn append(&self, partition: Partition, values: Vec<Bytes>) -> Appended {
        self.passed(values.iter().map(Bytes::len).sum());
        let work = async {
            // The log's own time limit ends the wait, because it alone knows whether the append reached a leader.
            let outcome = match self.pass(self.limit).await {
                Ok(()) => self.inner.append(partition, values).await,
                Err(_) => return Appended::Unknown(Why::TimedOut),
            };
            if self.is_reset() { Appended::Unknown(Why::TimedOut) } else { outcome }
        };
        let failed = |outcome: &Appended| !matches!(outcome, Appended::Ok { .. });
        self.measured(0, failed, |_| Appended::NotAppended(Why::BufferFull), work).await
    }

    async fn fetch(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fetched, PortError> {
        let fetched = self
            .call_within(1, self.limit + wait, self.inner.fetch(partition, offset, max_bytes, wait))
            .await;
        if let Ok(fetched) = &fetched {
            self.passed(fetched.records.iter().map(|r| r.value.len()).sum());
        }
        fetched
    }

    async fn beat(&self, group: &str, topic: Topic, member: &str) -> Result<Assignment, PortError> {
        self.call(2, self.inner.beat(group, topic, member)).await
    }

    async fn leave(&self, group: &str, topic: Topic, member: &str) -> Result<(), PortError> {
        self.call(3, self.inner.leave(group, topic, member)).await
    }

    async fn commit(
        &self,
        group: &str,
        topic: Topic,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        self.call(4, self.inner.commit(group, topic, generation, positions)).await
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<Vec<Option<u64>>, PortError> {
        self.call(5, self.inner.committed(group, topic, partitions)).await
    }
}
