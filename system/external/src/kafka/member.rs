//! One member of a consumer group: a consumer that subscribes and reads nothing.
//!
//! A partition that is to move is taken from the next answer first; the heartbeat after that says that its tasks have stopped,
//! and only then the group may give it to somebody else.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_ports::PortError;
use chat_ports::log::Assignment;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::KafkaConfig;
use super::blocking::Blocking;
use super::context::{Counting, commit_failed, complain, drain, refused, say};
use super::keeper::Kept;

/// What a member has, as of the events taken so far.
#[derive(Default)]
struct Held {
    /// Owned partitions, with the generation that gave them.
    owned: BTreeMap<u32, u64>,
    /// To be given up, with the generation that gave them; true once a heartbeat was answered without them.
    leaving: BTreeMap<u32, (u64, bool)>,
    generation: u64,
    /// The session ended; what was owned is lost.
    lost: bool,
}

/// What hears of a member's events.
pub(super) struct Events {
    /// Rises with each change of any member of the group in this log.
    generations: Arc<AtomicU64>,
    held: Mutex<Held>,
    closing: AtomicBool,
    count: AtomicU64,
}

impl Events {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Relaxed) + 1
    }

    fn given(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        // Places are given, so that the library asks nobody for them; it reads nothing, because it pauses at once.
        let mut list = partitions.clone();
        let placed = list.set_all_offsets(Offset::Offset(0));
        let taken = placed
            .and_then(|()| consumer.incremental_assign(&list))
            .and_then(|()| consumer.pause(&list));
        if let Err(error) = taken {
            tracing::debug!(%error, "A group's partitions were not taken.");
        }
        let generation = self.next_generation();
        let mut held = self.held();
        held.generation = generation;
        held.owned.extend(numbers(partitions).map(|number| (number, generation)));
    }

    fn taken_away(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &TopicPartitionList,
        lost: bool,
    ) {
        let generation = self.next_generation();
        let at_once = lost || self.closing.load(Relaxed);
        let mut held = self.held();
        held.generation = generation;
        for number in numbers(partitions) {
            let granted = held.owned.remove(&number);
            if at_once {
                held.leaving.remove(&number);
            } else if let Some(granted) = granted {
                held.leaving.insert(number, (granted, false));
            }
        }
        drop(held);
        if at_once && let Err(error) = consumer.incremental_unassign(partitions) {
            tracing::debug!(%error, "A group's partitions were not given up.");
        }
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.count.fetch_add(1, Relaxed);
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.count.fetch_add(1, Relaxed);
        complain(&error, reason);
    }
}

impl ConsumerContext for Events {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.count.fetch_add(1, Relaxed);
        // Asked before anything is taken or given up, which forgets it.
        let lost = consumer.assignment_lost();
        self.held().lost |= lost;
        match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.given(consumer, partitions);
            }
            _ => self.taken_away(consumer, partitions, lost),
        }
    }
}

impl Counting for Events {
    fn events(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

fn numbers(list: &TopicPartitionList) -> impl Iterator<Item = u32> {
    list.elements().into_iter().filter_map(|element| u32::try_from(element.partition()).ok())
}

/// A member's consumer. Its end blocks until the group was left; the end of `closed` tells it.
pub(super) struct Member {
    consumer: BaseConsumer<Events>,
    topic: String,
    commits: Blocking,
    _closed: oneshot::Sender<()>,
}

impl Member {
    /// Subscribes; the brokers' answer comes with later heartbeats. The receiver ends when the group was left.
    pub(super) fn join(
        config: &KafkaConfig,
        group: &str,
        topic: &str,
        generations: &Arc<AtomicU64>,
    ) -> Result<(Self, oneshot::Receiver<()>), PortError> {
        // Joining is a change of the group as well.
        let generation = generations.fetch_add(1, Relaxed) + 1;
        let events = Events {
            generations: Arc::clone(generations),
            held: Mutex::new(Held { generation, ..Held::default() }),
            closing: AtomicBool::new(false),
            count: AtomicU64::new(0),
        };
        let created = config.member(group).create_with_context(events);
        let consumer: BaseConsumer<Events> =
            created.map_err(|error| refused("no member", &error))?;
        consumer.subscribe(&[topic]).map_err(|error| refused("no subscription", &error))?;
        let (closed, end) = oneshot::channel();
        let (topic, commits) = (topic.to_owned(), Blocking::new(1));
        Ok((Self { consumer, topic, commits, _closed: closed }, end))
    }

    /// The consumer, for questions about its group.
    pub(super) fn consumer(&self) -> &BaseConsumer<Events> {
        &self.consumer
    }

    /// Gives up what the last answer left out, hears what is new, and says what is owned. `fresh`: this heartbeat joined it.
    pub(super) fn beat(&self, fresh: bool) -> Assignment {
        let events = self.consumer.context();
        let told: BTreeSet<u32> = {
            let mut held = events.held();
            let told =
                held.leaving.iter().filter(|(_, (_, told))| *told).map(|(n, _)| *n).collect();
            held.leaving.retain(|_, (_, told)| !*told);
            told
        };
        if !told.is_empty() {
            let list = self.list(told.into_iter().map(|number| (number, 0)));
            if let Err(error) = list.and_then(|list| self.consumer.incremental_unassign(&list)) {
                tracing::debug!(%error, topic = self.topic, "A group's partitions were not given up.");
            }
        }
        drain(&self.consumer);
        let mut held = events.held();
        held.leaving.values_mut().for_each(|(_, told)| *told = true);
        Assignment {
            generation: held.generation,
            partitions: held.owned.keys().copied().collect(),
            joined: std::mem::take(&mut held.lost) || fresh,
        }
    }

    /// Whether this member may commit these partitions in that generation.
    fn may_commit(&self, generation: u64, positions: &[(u32, u64)]) -> bool {
        let held = self.consumer.context().held();
        // What leaves may be committed until it is given up.
        let granted = |number| {
            let leaving = held.leaving.get(number).map(|(granted, _)| granted);
            held.owned.get(number).or(leaving).is_some_and(|granted| *granted <= generation)
        };
        generation <= held.generation && positions.iter().all(|(number, _)| granted(number))
    }

    /// Commits. One at a time: the library may hold a commit back until it finds its broker, and a later one must not overtake it.
    /// `None` if this member may not; the brokers check the generation they gave it as well.
    pub(super) async fn commit(
        member: &Arc<Kept<Self>>,
        generation: u64,
        positions: &[(u32, u64)],
        until: Instant,
    ) -> Option<Result<(), PortError>> {
        drain(&member.consumer);
        if !member.may_commit(generation, positions) {
            return None;
        }
        let list = match member.list(positions.iter().copied()) {
            Ok(list) => list,
            Err(error) => return Some(Err(refused("no such positions", &error))),
        };
        let commits = member.commits.clone();
        let (member, positions) = (Arc::clone(member), positions.to_vec());
        let call = move || {
            // It may have waited for its turn.
            if !member.may_commit(generation, &positions) {
                return Err(PortError::Refused("the partitions have moved".to_owned()));
            }
            // The answer is waited for in here: the library tells nobody else about it.
            let committed = member.consumer.commit(&list, CommitMode::Sync);
            committed.map_err(|error| commit_failed(&error))
        };
        Some(commits.run(until, call).await)
    }

    fn list(&self, positions: impl Iterator<Item = (u32, u64)>) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (number, position) in positions {
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            let offset = Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.topic, number, offset)?;
        }
        Ok(list)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // What is taken away from now on is given up at once; nobody will beat again.
        self.consumer.context().closing.store(true, Relaxed);
    }
}
