//! The whole log as a state machine: brokers, partitions, groups. Time comes in as an argument, answers go out as effects.
//!
//! Calls only note what is to be done; [`Cluster::settle`] does it, so that a turn that took many calls replicates and wakes
//! once. [`Cluster::next_due`] says when to settle again without a call.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_control::inspect::{BrokerInfo, GroupLag};
use chat_ports::PortError;
use chat_ports::log::{Appended, Assignment, Fetched, Partition, Topic, Why};

use super::config::LogConfig;
use super::group::Group;
use super::partition::{Around, PartitionState, Pending, Waiter, sooner};

/// Longest wait of a fetch; a longer one is cut to it.
pub const FETCH_WAIT_MAX: Duration = Duration::from_mins(1);
/// Largest delay of a slow broker; a larger one is cut to it.
pub const DELAY_MAX: Duration = Duration::from_mins(1);
/// Groups of one log; a further one is refused.
pub const GROUPS_MAX: usize = 64;
/// How often the log looks for old batches and preferred leaders without any call.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// A moment: since the start of the log, and on the wall.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Since the start of the log.
    pub at: Duration,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// What the cluster wants done: answers to callers by their tokens, and news.
#[derive(Debug)]
pub enum Effect<A, F> {
    /// Answer to an append.
    Appended(A, Appended),
    /// Answer to a fetch.
    Fetched(F, Result<Fetched, PortError>),
    /// A partition has got another leader (its number, from 1).
    Elected(Partition, u32),
}

/// One broker.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub up: bool,
    /// Added to its replication fetches and to the appends it leads.
    pub delay: Duration,
    pub bytes_led: u64,
    /// When the others take it for dead.
    fenced: Option<Duration>,
    /// When it may lead again what it prefers.
    settled: Duration,
    /// (second, longest append) of the present and the last second with an append.
    slowest: [(u64, Duration); 2],
}

impl Broker {
    pub(super) fn appended(&mut self, now: Duration, took: Duration) {
        if self.slowest[0].0 != now.as_secs() {
            self.slowest = [(now.as_secs(), Duration::ZERO), self.slowest[0]];
        }
        self.slowest[0].1 = self.slowest[0].1.max(took);
    }

    fn slowest(&self, now: Duration) -> Duration {
        let recent = self.slowest.iter().filter(|(second, _)| second + 1 >= now.as_secs());
        recent.map(|(_, took)| *took).max().unwrap_or_default()
    }
}

/// The log. `A` and `F` name the callers of appends and fetches.
#[derive(Debug)]
pub struct Cluster<A, F> {
    config: LogConfig,
    brokers: Vec<Broker>,
    partitions: BTreeMap<Partition, PartitionState<A, F>>,
    groups: BTreeMap<(Arc<str>, Topic), Group>,
    paused: BTreeSet<Arc<str>>,
    buffered: u64,
    dirty: BTreeSet<Partition>,
    effects: Vec<Effect<A, F>>,
    next: Option<Duration>,
    housekeeping: Duration,
}

impl<A, F> Cluster<A, F> {
    /// An empty log with all brokers up; leaders are spread over the brokers.
    pub fn new(config: LogConfig) -> Self {
        let count = config.brokers.max(1) as usize;
        let broker = Broker {
            up: true,
            delay: Duration::ZERO,
            bytes_led: 0,
            fenced: None,
            settled: Duration::ZERO,
            slowest: [(0, Duration::ZERO); 2],
        };
        let ids =
            config.partitions.iter().flat_map(|(topic, parts)| (0..*parts).map(|p| (*topic, p)));
        let partitions =
            ids.map(|id| (id, PartitionState::new(id, id.1 as usize % count, count))).collect();
        Self {
            config,
            brokers: vec![broker; count],
            partitions,
            groups: BTreeMap::new(),
            paused: BTreeSet::new(),
            buffered: 0,
            dirty: BTreeSet::new(),
            effects: Vec::new(),
            next: Some(HOUSEKEEPING),
            housekeeping: HOUSEKEEPING,
        }
    }

    /// Takes an append asked for at `asked`; the answer comes as an effect, at the latest after the append limit.
    pub fn append(
        &mut self,
        now: Now,
        asked: Duration,
        partition: Partition,
        values: Vec<Bytes>,
        token: A,
    ) {
        let bytes = values.iter().map(|v| v.len() as u64).sum();
        let lag = self.readers_lag(now, partition);
        let outcome = match self.partitions.get_mut(&partition) {
            None => Appended::NotAppended(Why::NoLeader),
            Some(_) if self.buffered + bytes > self.config.log_buffer => {
                Appended::NotAppended(Why::BufferFull)
            }
            Some(_) if lag => Appended::NotAppended(Why::ReadersLag),
            Some(state) if values.is_empty() => {
                Appended::Ok { base: state.high_watermark, log_ms: now.wall_ms }
            }
            Some(state) => {
                self.buffered += bytes;
                state.accept(Pending {
                    values,
                    bytes,
                    asked,
                    due: None,
                    reached: false,
                    token: Some(token),
                });
                self.dirty.insert(partition);
                return;
            }
        };
        self.effects.push(Effect::Appended(token, outcome));
    }

    /// Whether some group has left more than half of what a partition may keep unread.
    fn readers_lag(&self, now: Now, partition: Partition) -> bool {
        let Some(state) = self.partitions.get(&partition) else { return false };
        let half_bytes = self.config.retention_bytes / 2;
        let half_ms = u64::try_from(self.config.retention.as_millis() / 2).unwrap_or(u64::MAX);
        let old =
            |stamp: Option<u64>| stamp.is_some_and(|ms| ms.saturating_add(half_ms) < now.wall_ms);
        if state.bytes_kept() <= half_bytes && !old(state.oldest_ms()) {
            return false;
        }
        self.groups.iter().filter(|((_, topic), _)| *topic == partition.0).any(|(_, group)| {
            let (bytes, stamp) = state.unread(group.position(partition.1).unwrap_or(0));
            bytes > half_bytes || old(stamp)
        })
    }

    /// Takes a fetch; the answer comes as an effect, at the latest after `wait`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the port's own arguments plus time, group and token"
    )]
    pub fn fetch(
        &mut self,
        now: Now,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
        group: Option<Arc<str>>,
        token: F,
    ) {
        let Some(state) = self.partitions.get_mut(&partition) else {
            self.effects.push(Effect::Fetched(
                token,
                Err(PortError::Refused("there is no such partition".to_owned())),
            ));
            return;
        };
        let around = Around {
            config: &self.config,
            brokers: &mut self.brokers,
            paused: &self.paused,
            buffered: &mut self.buffered,
        };
        let deadline = now.at + wait.min(FETCH_WAIT_MAX);
        let waiter = Waiter { group, offset, max_bytes, deadline, token };
        state.fetch(waiter, now.at, &around, &mut self.effects);
        if let Some(due) = state.next {
            sooner(&mut self.next, due);
        }
    }

    /// A heartbeat of a group member; joins it first.
    pub fn beat(
        &mut self,
        now: Now,
        group: &str,
        topic: Topic,
        member: &str,
    ) -> Result<Assignment, PortError> {
        let session = self.config.session;
        let key = (Arc::<str>::from(group), topic);
        if !self.groups.contains_key(&key) && self.groups.len() >= GROUPS_MAX {
            return Err(PortError::Refused("too many groups".to_owned()));
        }
        let count = self.partitions.keys().filter(|(t, _)| *t == topic).count();
        let entry = self.groups.entry(key).or_insert_with(|| Group::new(count));
        let assignment = entry.beat(now.at, session, member);
        if let Some(due) = entry.next_expiry() {
            sooner(&mut self.next, due);
        }
        Ok(assignment)
    }

    /// A member leaves.
    pub fn leave(&mut self, group: &str, topic: Topic, member: &str) {
        if let Some(group) = self.groups.get_mut(&(Arc::from(group), topic)) {
            group.leave(member);
        }
    }

    /// Stores positions of a group, all or none.
    pub fn commit(
        &mut self,
        now: Now,
        group: &str,
        topic: Topic,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        let Some(group) = self.groups.get_mut(&(Arc::from(group), topic)) else {
            return Err(PortError::Refused("there is no such group".to_owned()));
        };
        group.expire(now.at);
        group.commit(generation, positions)
    }

    /// Positions of a group.
    pub fn committed(&self, group: &str, topic: Topic, partitions: &[u32]) -> Vec<Option<u64>> {
        let group = self.groups.get(&(Arc::from(group), topic));
        partitions.iter().map(|p| group.and_then(|g| g.position(*p))).collect()
    }

    /// Stops a broker; the others notice after the election time.
    pub fn broker_kill(&mut self, now: Now, broker: u32) -> Result<(), PortError> {
        let index = self.broker(broker)?;
        if !self.brokers[index].up {
            return Err(PortError::Refused(format!("broker {broker} is down already")));
        }
        let due = now.at + self.config.election;
        self.brokers[index].up = false;
        self.brokers[index].fenced = Some(due);
        sooner(&mut self.next, due);
        for state in self.partitions.values_mut() {
            state.replicas[index].fetch_due = None;
            if state.leader == Some(index) {
                state.lose_leader();
            }
        }
        self.dirty_all();
        Ok(())
    }

    /// Starts a stopped broker: it cuts its copies back to the leaders' and follows; it leads again soon after.
    pub fn broker_start(&mut self, now: Now, broker: u32) -> Result<(), PortError> {
        let index = self.broker(broker)?;
        if self.brokers[index].up {
            return Err(PortError::Refused(format!("broker {broker} is running")));
        }
        // A new incarnation ends the old one at once, noticed or not.
        if self.brokers[index].fenced.take().is_some() {
            self.fence(now, index);
        }
        self.brokers[index].up = true;
        self.brokers[index].settled = now.at + self.config.election;
        for state in self.partitions.values_mut() {
            state.replicas[index].caught_up = now.at;
        }
        self.elect_missing(now);
        self.dirty_all();
        Ok(())
    }

    /// Delays a broker's replication fetches and the appends it leads; zero heals.
    pub fn broker_slow(&mut self, broker: u32, delay: Duration) -> Result<(), PortError> {
        let index = self.broker(broker)?;
        self.brokers[index].delay = delay.min(DELAY_MAX);
        for state in self.partitions.values_mut() {
            state.replicas[index].fetch_due = None;
        }
        self.dirty_all();
        Ok(())
    }

    /// Makes every fetch of a group answer empty, or lets it read again.
    pub fn consumer_pause(&mut self, group: &str, paused: bool) {
        if paused {
            self.paused.insert(Arc::from(group));
        } else {
            self.paused.remove(group);
        }
        self.dirty_all();
    }

    fn broker(&self, broker: u32) -> Result<usize, PortError> {
        let index = broker.checked_sub(1).map(|b| b as usize).filter(|b| *b < self.brokers.len());
        index.ok_or_else(|| PortError::Refused(format!("there is no broker {broker}")))
    }

    fn dirty_all(&mut self) {
        self.dirty.extend(self.partitions.keys());
    }

    fn fence(&mut self, now: Now, broker: usize) {
        for state in self.partitions.values_mut() {
            state.shrink(broker);
        }
        self.elect_missing(now);
        self.dirty_all();
    }

    fn elect_missing(&mut self, now: Now) {
        for state in self.partitions.values_mut().filter(|s| s.leader.is_none()) {
            // A leader that is not known to be dead yet keeps its partitions from moving.
            let known = state.lost.is_none_or(|lost| self.brokers[lost].fenced.is_none());
            if known && state.elect(&self.brokers, now.at) {
                let leader = state.leader.map_or(0, number);
                self.effects.push(Effect::Elected(state.id, leader));
            }
        }
    }

    /// Gives partitions back to the brokers that prefer them, once those have everything.
    fn prefer(&mut self, now: Now) {
        for state in self.partitions.values_mut() {
            let wanted = state.preferred;
            let Some(leader) = state.leader.filter(|l| *l != wanted) else { continue };
            let broker = &self.brokers[wanted];
            let has_all = state.replicas[wanted].end == state.replicas[leader].end;
            if broker.up && broker.settled <= now.at && state.in_sync[wanted] && has_all {
                state.lead(wanted, now.at);
                self.effects.push(Effect::Elected(state.id, number(wanted)));
                self.dirty.insert(state.id);
            }
        }
    }

    /// Does what calls and time have made due.
    pub fn settle(&mut self, now: Now) {
        if self.next.is_some_and(|due| due <= now.at) {
            self.time_passed(now);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        while let Some(id) = dirty.pop_first() {
            let Some(state) = self.partitions.get_mut(&id) else { continue };
            let mut around = Around {
                config: &self.config,
                brokers: &mut self.brokers,
                paused: &self.paused,
                buffered: &mut self.buffered,
            };
            state.advance(now, &mut around, &mut self.effects);
            if let Some(due) = state.next {
                sooner(&mut self.next, due);
            }
        }
        self.dirty = dirty;
    }

    fn time_passed(&mut self, now: Now) {
        for index in 0..self.brokers.len() {
            if self.brokers[index].fenced.is_some_and(|due| due <= now.at) {
                self.brokers[index].fenced = None;
                self.fence(now, index);
            }
        }
        for group in self.groups.values_mut() {
            group.expire(now.at);
        }
        if self.housekeeping <= now.at {
            self.housekeeping = now.at + HOUSEKEEPING;
            self.prefer(now);
            self.dirty_all();
        }
        let due = self.partitions.values().filter(|s| s.next.is_some_and(|due| due <= now.at));
        self.dirty.extend(due.map(|s| s.id));
        let fenced = self.brokers.iter().filter_map(|b| b.fenced);
        let sessions = self.groups.values().filter_map(Group::next_expiry);
        let waiting =
            self.partitions.values().filter(|s| !self.dirty.contains(&s.id)).filter_map(|s| s.next);
        self.next = fenced.chain(sessions).chain(waiting).chain([self.housekeeping]).min();
    }

    /// When [`Self::settle`] is due again, calls aside.
    pub fn next_due(&self) -> Option<Duration> {
        self.next
    }

    /// Takes what is to be done.
    pub fn take_effects(&mut self) -> Vec<Effect<A, F>> {
        std::mem::take(&mut self.effects)
    }

    /// Bytes of appends without answer.
    pub fn buffered(&self) -> u64 {
        self.buffered
    }

    /// All brokers.
    pub fn brokers(&self, now: Now) -> Vec<BrokerInfo> {
        let leader_epochs = self.partitions.values().map(|s| s.epoch).sum();
        let info = |(index, broker): (usize, &Broker)| BrokerInfo {
            id: number(index),
            up: broker.up,
            leads: self
                .partitions
                .values()
                .filter(|s| s.leader == Some(index))
                .map(|s| title(s.id))
                .collect(),
            in_sync: self.partitions.values().filter(|s| s.in_sync[index]).count(),
            replicas: self.partitions.len(),
            bytes_led: broker.bytes_led,
            leader_epochs,
            append_us: u64::try_from(broker.slowest(now.at).as_micros()).unwrap_or(u64::MAX),
        };
        self.brokers.iter().enumerate().map(info).collect()
    }

    /// How far every group is behind, partition by partition.
    pub fn lags(&self, now: Now) -> Vec<GroupLag> {
        let mut lags = Vec::new();
        for ((group, topic), members) in &self.groups {
            for ((_, partition), state) in self.partitions.range((*topic, 0)..=(*topic, u32::MAX)) {
                let position = members.position(*partition).unwrap_or(state.start);
                let behind = position < state.high_watermark;
                let oldest = if behind { state.unread(position).1 } else { None };
                lags.push(GroupLag {
                    group: group.to_string(),
                    topic: topic.name().to_owned(),
                    partition: *partition,
                    position,
                    end: state.high_watermark,
                    oldest_ms: oldest.map_or(0, |ms| now.wall_ms.saturating_sub(ms)),
                });
            }
        }
        lags
    }
}

/// `topic/partition`, as events and reports write it.
pub(super) fn title((topic, partition): Partition) -> String {
    format!("{}/{partition}", topic.name())
}

#[expect(clippy::cast_possible_truncation, reason = "brokers are counted by a u32")]
fn number(index: usize) -> u32 {
    index as u32 + 1
}
