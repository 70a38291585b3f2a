//! Memberships by name, commits, and positions.
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_ports::PortError;
use chat_ports::log::{Assignment, Topic};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::KafkaConfig;
use super::blocking::Blocking;
use super::context::{Quiet, drain, refused, unknown};
use super::keeper::{Keeper, Kept};
use super::member::Member;

/// Memberships of a log; a further one is refused.
const MEMBERS_MAX: usize = 64;
/// Groups that are asked for their positions by somebody who is no member; a further one is refused.
const ASKED_MAX: usize = 16;

/// Group, topic, member.
type Key = (String, Topic, String);
type Asker = Arc<Kept<BaseConsumer<Quiet>>>;

struct Membership {
    member: Arc<Kept<Member>>,
    beaten: Instant,
    end: oneshot::Receiver<()>,
}

/// All groups that a log has to do with.
pub(super) struct Groups {
    config: KafkaConfig,
    keeper: Keeper,
    blocking: Blocking,
    members: Mutex<BTreeMap<Key, Membership>>,
    generations: Mutex<BTreeMap<(String, Topic), Arc<AtomicU64>>>,
    askers: Mutex<BTreeMap<String, Asker>>,
}

impl Groups {
    pub(super) fn new(config: &KafkaConfig, keeper: &Keeper, blocking: &Blocking) -> Self {
        Self {
            config: config.clone(),
            keeper: keeper.clone(),
            blocking: blocking.clone(),
            members: Mutex::default(),
            generations: Mutex::default(),
            askers: Mutex::default(),
        }
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<Key, Membership>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins, or beats. A member that was silent for a session joins anew.
    pub(super) fn beat(
        &self,
        group: &str,
        topic: Topic,
        member: &str,
    ) -> Result<Assignment, PortError> {
        let key = (group.to_owned(), topic, member.to_owned());
        let now = Instant::now();
        let mut members = self.members();
        let alive = members.get_mut(&key).filter(|m| now < m.beaten + self.config.session);
        if let Some(membership) = alive {
            membership.beaten = now;
            let member = Arc::clone(&membership.member);
            drop(members);
            return Ok(member.beat(false));
        }
        members.remove(&key);
        if members.len() >= MEMBERS_MAX {
            return Err(PortError::Refused("too many members".to_owned()));
        }
        let generations = self.generations(group, topic);
        let joined = Member::join(&self.config, group, &self.config.topic(topic), &generations);
        let (member, end) = joined?;
        let member = self.keeper.kept(member);
        let membership = Membership { member: Arc::clone(&member), beaten: now, end };
        members.insert(key, membership);
        drop(members);
        Ok(member.beat(true))
    }

    fn generations(&self, group: &str, topic: Topic) -> Arc<AtomicU64> {
        let mut all = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((group.to_owned(), topic)).or_default())
    }

    /// Leaves, and waits until the brokers know. Who is no member has left already.
    pub(super) async fn leave(
        &self,
        group: &str,
        topic: Topic,
        member: &str,
    ) -> Result<(), PortError> {
        let until = Instant::now() + self.config.call;
        let key = (group.to_owned(), topic, member.to_owned());
        let Some(Membership { member, end, .. }) = self.members().remove(&key) else {
            return Ok(());
        };
        drop(member);
        // The sender only ever goes away.
        match timeout_at(until, end).await {
            Ok(_) => Ok(()),
            Err(_) => Err(PortError::Unknown("the group was not left in time".to_owned())),
        }
    }

    /// Commits through the member that owns the partitions, if its generation is not too old and its session has not ended.
    pub(super) async fn commit(
        &self,
        group: &str,
        topic: Topic,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        if positions.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let until = now + self.config.call;
        let alive: Vec<_> = self
            .members()
            .iter()
            .filter(|((g, t, _), m)| {
                g == group && *t == topic && now < m.beaten + self.config.session
            })
            .map(|(_, membership)| Arc::clone(&membership.member))
            .collect();
        for member in alive {
            if let Some(outcome) = Member::commit(&member, generation, positions, until).await {
                return outcome;
            }
        }
        Err(PortError::Refused(format!("generation {generation} may not commit these partitions")))
    }

    /// Positions of a group, member or not.
    pub(super) async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<Vec<Option<u64>>, PortError> {
        let until = Instant::now() + self.config.call;
        let mut list = TopicPartitionList::new();
        for number in partitions {
            list.add_partition(
                &self.config.topic(topic),
                i32::try_from(*number).unwrap_or(i32::MAX),
            );
        }
        let member = self.members().iter().find_map(|((g, _, _), membership)| {
            (g == group).then(|| Arc::clone(&membership.member))
        });
        let found = if let Some(member) = member {
            let ask = move || positions(member.consumer(), list, until);
            self.blocking.run(until, ask).await?
        } else {
            let asker = self.asker(group)?;
            self.blocking.run(until, move || positions(&asker, list, until)).await?
        };
        Ok(partitions.iter().map(|number| found.get(number).copied()).collect())
    }

    fn asker(&self, group: &str) -> Result<Asker, PortError> {
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = askers.get(group) {
            return Ok(Arc::clone(asker));
        }
        if askers.len() >= ASKED_MAX {
            return Err(PortError::Refused("too many groups".to_owned()));
        }
        let created = self.config.consumer(group).create_with_context(Quiet::default());
        let asker = self.keeper.kept(created.map_err(|error| refused("no consumer", &error))?);
        askers.insert(group.to_owned(), Arc::clone(&asker));
        Ok(asker)
    }

    /// Ends the sessions of silent members, and takes the events of consumers that nobody beats for. Members leave their group when
    /// the keeper closes them, wherever the library stands with them.
    pub(super) fn tend(&self) {
        let now = Instant::now();
        self.members().retain(|_, membership| now < membership.beaten + self.config.session);
        let askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        for asker in askers.values() {
            drain(asker);
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // A log that goes away without leaving its groups is a node that died: its sessions end by themselves, not at once.
        for membership in std::mem::take(&mut *self.members()).into_values() {
            let end = membership.beaten + self.config.session;
            self.keeper.close_at(end, Box::new(membership.member));
        }
    }
}

/// Asks the brokers for a group's positions. Blocks for their answer.
fn positions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: TopicPartitionList,
    until: Instant,
) -> Result<BTreeMap<u32, u64>, PortError> {
    let limit = until.saturating_duration_since(Instant::now());
    let failed = |error| unknown("no answer about positions", &error);
    let list = consumer.committed_offsets(list, limit).map_err(failed)?;
    let mut found = BTreeMap::new();
    for element in list.elements() {
        element.error().map_err(failed)?;
        if let (Offset::Offset(position), Ok(number)) =
            (element.offset(), u32::try_from(element.partition()))
        {
            found.insert(number, u64::try_from(position).unwrap_or(0));
        }
    }
    Ok(found)
}
