//! An event log without brokers.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::PortError;
use crate::clock::SharedClock;
use crate::log::{Appended, Assignment, EventLog, Fetched, Partition, Record, Topic};

#[derive(Default)]
struct Kept {
    start: u64,
    records: Vec<Record>,
}

#[derive(Default)]
struct Members {
    generation: u64,
    names: Vec<String>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<Partition, Kept>,
    positions: BTreeMap<(String, Partition), u64>,
    groups: BTreeMap<(String, Topic), Members>,
    answer: Option<Appended>,
    everybody_owns: bool,
    commits_refused: bool,
}

/// A log of one replica; groups have no session, members come and go by call.
pub struct TwinLog {
    clock: SharedClock,
    partitions: u32,
    state: Mutex<State>,
    appended: Notify,
    held: watch::Sender<Option<Partition>>,
}

impl TwinLog {
    /// An empty log.
    pub fn new(clock: SharedClock, partitions: u32) -> Arc<Self> {
        Arc::new(Self {
            clock,
            partitions,
            state: Mutex::default(),
            appended: Notify::new(),
            held: watch::Sender::default(),
        })
    }

    /// From now on appends do nothing and are answered so; `None`: they work again.
    pub fn answer_appends(&self, answer: Option<Appended>) {
        self.lock().answer = answer;
    }

    /// From now on appends and commits of this partition wait before they have their effect; `None`: they all go on.
    pub fn hold(&self, partition: Option<Partition>) {
        self.held.send_replace(partition);
    }

    /// Calls that are held.
    pub fn holds(&self) -> usize {
        self.held.receiver_count()
    }

    async fn pass(&self, partition: Partition) {
        // The sender lives as long as the log.
        if self.held.borrow().as_ref() == Some(&partition) {
            let mut held = self.held.subscribe();
            _ = held.wait_for(|held| *held != Some(partition)).await;
        }
    }

    /// Every member is told that it owns every partition.
    pub fn let_everybody_own(&self) {
        self.lock().everybody_owns = true;
    }

    /// Commits are refused from now on, or work again.
    pub fn refuse_commits(&self, refused: bool) {
        self.lock().commits_refused = refused;
    }

    /// Forgets everything below an offset.
    pub fn truncate(&self, partition: Partition, start: u64) {
        let mut state = self.lock();
        let kept = state.partitions.entry(partition).or_default();
        kept.start = start;
        kept.records.retain(|record| record.offset >= start);
    }

    /// Sets a committed position.
    pub fn set_position(&self, group: &str, partition: Partition, position: u64) {
        self.lock().positions.insert((group.to_owned(), partition), position);
    }

    /// The committed position of a group.
    pub fn position(&self, group: &str, partition: Partition) -> Option<u64> {
        self.lock().positions.get(&(group.to_owned(), partition)).copied()
    }

    /// The records of a partition.
    pub fn records(&self, partition: Partition) -> Vec<Record> {
        self.lock().partitions.get(&partition).map(|kept| kept.records.clone()).unwrap_or_default()
    }

    /// Appends at once, whatever [`TwinLog::answer_appends`] says.
    pub fn put(&self, partition: Partition, values: Vec<Bytes>) -> Appended {
        let log_ms = self.clock.wall_ms();
        let mut state = self.lock();
        let kept = state.partitions.entry(partition).or_default();
        let base = kept.records.last().map_or(kept.start, |record| record.offset + 1);
        kept.records.extend((base..).zip(values).map(|(offset, value)| Record {
            offset,
            log_ms,
            value,
        }));
        drop(state);
        self.appended.notify_waiters();
        Appended::Ok { base, log_ms }
    }

    fn read(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Fetched, PortError> {
        let state = self.lock();
        let Some(kept) = state.partitions.get(&partition) else {
            return Ok(Fetched { records: Vec::new(), high_watermark: 0, start: 0 });
        };
        if offset < kept.start {
            return Err(PortError::Refused("below the start of the log".into()));
        }
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let first = bytes == 0;
            bytes += record.value.len();
            first || bytes <= max_bytes
        };
        let from = kept.records.partition_point(|record| record.offset < offset);
        let records = kept.records[from..].iter().take_while(fits).cloned().collect();
        let high_watermark = kept.records.last().map_or(kept.start, |record| record.offset + 1);
        Ok(Fetched { records, high_watermark, start: kept.start })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventLog for TwinLog {
    async fn append(&self, partition: Partition, values: Vec<Bytes>) -> Appended {
        self.pass(partition).await;
        let answer = self.lock().answer.clone();
        answer.unwrap_or_else(|| self.put(partition, values))
    }

    async fn fetch(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fetched, PortError> {
        let deadline = Instant::now() + wait;
        loop {
            let appended = self.appended.notified();
            let page = self.read(partition, offset, max_bytes)?;
            if !page.records.is_empty()
                || tokio::time::timeout_at(deadline, appended).await.is_err()
            {
                return Ok(page);
            }
        }
    }

    async fn beat(&self, group: &str, topic: Topic, member: &str) -> Result<Assignment, PortError> {
        let mut state = self.lock();
        let everybody_owns = state.everybody_owns;
        let members = state.groups.entry((group.to_owned(), topic)).or_default();
        let joined = !members.names.iter().any(|name| name == member);
        if joined {
            members.names.push(member.to_owned());
            members.generation += 1;
        }
        let mine = |partition: &u32| {
            let at = usize::try_from(*partition).unwrap_or(0) % members.names.len();
            everybody_owns || members.names[at] == member
        };
        let partitions = (0..self.partitions).filter(mine).collect();
        Ok(Assignment { generation: members.generation, partitions, joined })
    }

    async fn leave(&self, group: &str, topic: Topic, member: &str) -> Result<(), PortError> {
        let mut state = self.lock();
        let members = state.groups.entry((group.to_owned(), topic)).or_default();
        members.names.retain(|name| name != member);
        members.generation += 1;
        Ok(())
    }

    async fn commit(
        &self,
        group: &str,
        topic: Topic,
        _: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        for (partition, _) in positions {
            self.pass((topic, *partition)).await;
        }
        let mut state = self.lock();
        if state.commits_refused {
            return Err(PortError::Refused("commits are refused".into()));
        }
        for (partition, position) in positions {
            state.positions.insert((group.to_owned(), (topic, *partition)), *position);
        }
        Ok(())
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<Vec<Option<u64>>, PortError> {
        Ok(partitions.iter().map(|partition| self.position(group, (topic, *partition))).collect())
    }
}
