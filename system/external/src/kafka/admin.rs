//! What an operator may do to the log, and see of it.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_control::inspect::{BrokerInfo, GroupLag};
use chat_ports::PortError;
use chat_ports::consumer::{HISTORY_WRITER, RECEIPTS, SEQUENCER};
use chat_ports::log::{Partition, Topic};
use chat_ports::observe::{Event, Observer};
use futures_util::future::join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use tokio::time::{Instant, sleep};

use super::context::{Quiet, refused, unknown};
use super::log::Inner;

/// Age kept of a partition, milliseconds: an hour.
const RETENTION_MS: &str = "3600000";
/// Bytes kept of a partition: 2 GiB.
const RETENTION_BYTES: &str = "2147483648";
/// New topics have leaders after this, or their making failed.
const LEADERS: Duration = Duration::from_secs(15);
/// How often the brokers are asked meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at the end of a partition that are remembered; the oldest are forgotten first.
const LOOKS_MAX: usize = 4_096;
/// Every group of the system with the topic it reads.
const GROUPS: [(&str, Topic); 3] =
    [(SEQUENCER, Topic::Messages), (RECEIPTS, Topic::Receipts), (HISTORY_WRITER, Topic::Messages)];

/// The operator's handle of the log. Brokers have the numbers of the cluster.
pub struct KafkaAdmin {
    inner: Arc<Inner>,
    observer: Observer,
    seen: Mutex<Seen>,
}

/// What earlier calls saw.
#[derive(Default)]
struct Seen {
    leaders: BTreeMap<Partition, u32>,
    elections: u64,
    brokers: BTreeSet<u32>,
    /// Bytes of each partition that were attributed to its leader.
    bytes: BTreeMap<Partition, u64>,
    bytes_led: BTreeMap<u32, u64>,
    /// Replicas of each broker.
    replicas: BTreeMap<u32, usize>,
    ends: BTreeMap<Partition, Looks>,
    /// Where the log began and ended.
    spans: BTreeMap<Partition, Heard<(u64, u64)>>,
    /// Positions of a group, partition by partition.
    positions: BTreeMap<&'static str, Heard<Vec<Option<u64>>>>,
}

/// An answer, and when it came.
#[derive(Clone)]
struct Heard<T> {
    at: Instant,
    what: T,
}

impl<T: Clone> Heard<T> {
    /// An answer, or without one what was last heard, if that is not older than `unheard`. Nobody can commit or append where nobody answers,
    /// so it is still so, or was a moment ago.
    fn or_last(
        answer: Result<T, PortError>,
        now: Instant,
        last: Option<&Self>,
        unheard: Duration,
    ) -> Result<Self, PortError> {
        match (answer, last) {
            (Ok(what), _) => Ok(Self { at: now, what }),
            (Err(_), Some(last)) if now.saturating_duration_since(last.at) < unheard => {
                Ok(last.clone())
            }
            (Err(error), _) => Err(error),
        }
    }
}

/// Where a partition's replicas are.
struct Placed {
    partition: Partition,
    leader: Option<u32>,
    replicas: Vec<u32>,
    in_sync: Vec<u32>,
}

impl KafkaAdmin {
    pub(super) fn new(inner: Arc<Inner>, observer: Observer) -> Self {
        Self { inner, observer, seen: Mutex::default() }
    }

    /// Makes the topics that are missing, and waits until every partition has a leader, up to 15 s. A topic that has another number
    /// of partitions is refused: it is never changed in place.
    pub async fn create_topics(&self) -> Result<(), PortError> {
        let config = &self.inner.config;
        let created = config.client().create_with_context(Quiet::default());
        let client: AdminClient<Quiet> = created.map_err(|error| refused("no client", &error))?;
        let client = self.inner.keeper.kept(client);
        let names = Topic::ALL.map(|topic| config.topic(topic));
        let (replication, min_insync) =
            (i32::try_from(config.replication).unwrap_or(i32::MAX), config.min_insync.to_string());
        let partitions = i32::try_from(config.partitions).unwrap_or(i32::MAX);
        let topics = names.each_ref().map(|name| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(replication))
                .set("min.insync.replicas", &min_insync)
                .set("message.timestamp.type", "LogAppendTime")
                .set("unclean.leader.election.enable", "false")
                .set("retention.ms", RETENTION_MS)
                .set("retention.bytes", RETENTION_BYTES)
        });
        let options =
            AdminOptions::new().request_timeout(Some(LEADERS)).operation_timeout(Some(config.call));
        let answers = client.create_topics(&topics, &options).await;
        for answer in answers.map_err(|error| unknown("no answer about topics", &error))? {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(PortError::Unknown(format!("topic {name} was not made: {code}")));
                }
            }
        }
        let until = Instant::now() + LEADERS;
        loop {
            match self.placed().await {
                Ok((_, placed)) if self.all_led(&placed)? => return Ok(()),
                Err(error) if until <= Instant::now() => return Err(error),
                _ if until <= Instant::now() => {
                    return Err(PortError::Unknown("new topics have no leaders yet".to_owned()));
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Whether there are the right partitions and each has a leader.
    fn all_led(&self, placed: &[Placed]) -> Result<bool, PortError> {
        let wanted: BTreeSet<Partition> = self.inner.config.all().collect();
        if let Some(other) = placed.iter().find(|p| !wanted.contains(&p.partition)) {
            return Err(PortError::Refused(format!(
                "{} is one partition too many: partition counts are never changed in place",
                title(other.partition)
            )));
        }
        Ok(placed.len() == wanted.len() && placed.iter().all(|p| p.leader.is_some()))
    }

    /// Asks a broker for the topics of this log: brokers that are up, and partitions.
    async fn placed(&self) -> Result<(BTreeSet<u32>, Vec<Placed>), PortError> {
        let limit = self.inner.config.call;
        let until = Instant::now() + limit;
        let questions = Arc::clone(&self.inner.questions);
        let topics = Topic::ALL.map(|topic| (topic, self.inner.config.topic(topic)));
        let ask = move || {
            let (mut up, mut placed) = (BTreeSet::new(), Vec::new());
            for (topic, name) in topics {
                let left = until.saturating_duration_since(Instant::now());
                let metadata = questions.fetch_metadata(Some(&name), left);
                let metadata = metadata.map_err(|error| unknown("no broker answers", &error))?;
                up.extend(metadata.brokers().iter().filter_map(|b| u32::try_from(b.id()).ok()));
                for found in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
                    let Ok(number) = u32::try_from(found.id()) else { continue };
                    let ids = |ids: &[i32]| -> Vec<u32> {
                        ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect()
                    };
                    placed.push(Placed {
                        partition: (topic, number),
                        leader: u32::try_from(found.leader()).ok(),
                        replicas: ids(found.replicas()),
                        in_sync: ids(found.isr()),
                    });
                }
            }
            Ok((up, placed))
        };
        self.inner.blocking.run(until, ask).await
    }

    /// All brokers that were ever seen. Elections are those between two calls, and are noted as events; bytes and times are what the
    /// producers with the same meter saw, bytes attributed to the leader at the time of the call.
    pub async fn brokers(&self) -> Result<Vec<BrokerInfo>, PortError> {
        let (up, placed) = self.placed().await?;
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.brokers.extend(up.iter().chain(placed.iter().flat_map(|p| &p.replicas)));
        let mut slowest: BTreeMap<u32, Duration> = BTreeMap::new();
        for Placed { partition, leader, .. } in &placed {
            let Some(leader) = *leader else { continue };
            if let Some(before) = seen.leaders.insert(*partition, leader)
                && before != leader
            {
                seen.elections += 1;
                self.observer.note(Event::LeaderElected(title(*partition), leader));
            }
            let (bytes, took) = self.inner.config.meter.read(now, *partition);
            let before = seen.bytes.insert(*partition, bytes).unwrap_or(0);
            *seen.bytes_led.entry(leader).or_default() += bytes.saturating_sub(before);
            let slow = slowest.entry(leader).or_default();
            *slow = took.max(*slow);
        }
        let count = |held: fn(&Placed) -> &[u32], id: u32| {
            placed.iter().filter(|p| held(p).contains(&id)).count()
        };
        let ids: Vec<u32> = seen.brokers.iter().copied().collect();
        for id in ids {
            seen.replicas.insert(id, count(|p| &p.replicas, id));
        }
        let info = |id: &u32| BrokerInfo {
            id: *id,
            up: up.contains(id),
            leads: placed
                .iter()
                .filter(|p| p.leader == Some(*id))
                .map(|p| title(p.partition))
                .collect(),
            in_sync: count(|p| &p.in_sync, *id),
            replicas: count(|p| &p.replicas, *id),
            bytes_led: seen.bytes_led.get(id).copied().unwrap_or(0),
            leader_epochs: seen.elections,
            append_us: slowest
                .get(id)
                .map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        };
        Ok(seen.brokers.iter().map(info).collect())
    }

    /// The brokers while none answers: all that were ever seen, without leadership and with no replica in sync. Each counts as up, for who
    /// knows better to correct: silence alone proves no death.
    #[must_use]
    pub fn silent(&self) -> Vec<BrokerInfo> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let info = |id: &u32| BrokerInfo {
            id: *id,
            up: true,
            leads: Vec::new(),
            in_sync: 0,
            replicas: seen.replicas.get(id).copied().unwrap_or(0),
            bytes_led: seen.bytes_led.get(id).copied().unwrap_or(0),
            leader_epochs: seen.elections,
            append_us: 0,
        };
        seen.brokers.iter().map(info).collect()
    }

    /// How far the groups of the system are behind, partition by partition. Nothing is read for it: the age of the oldest unread
    /// record is that of the last call which did not see it, so it may be too high by the time between two calls, and a record
    /// that was there before the first call counts from then. What nobody answers for is as it was when last heard, its age too, if that
    /// was less than `unheard` ago; with zero an answer that does not come is an error, as it has to be where no broker is known to be gone.
    /// `unheard` is asked once the answers are due, since a broker may go while they are waited for.
    pub async fn lags(
        &self,
        unheard: impl Fn() -> Duration + Send,
    ) -> Result<Vec<GroupLag>, PortError> {
        let inner = &self.inner;
        // Where the log ends is asked at a place that no log reaches.
        let look = |id| async move {
            let page = inner.readers.fetch(id, u64::MAX, 1, Duration::ZERO).await;
            (id, page.map(|page| (page.start, page.high_watermark)))
        };
        let all: Vec<u32> = (0..inner.config.partitions).collect();
        let position = |(group, topic)| {
            let all = &all;
            async move { (group, topic, inner.groups.committed(group, topic, all).await) }
        };
        let spans = join_all(inner.config.all().map(look)).await;
        let positions = join_all(GROUPS.map(position)).await;
        let (now, unheard) = (Instant::now(), unheard());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, answer) in spans {
            let heard = Heard::or_last(answer, now, seen.spans.get(&id), unheard)?;
            seen.ends.entry(id).or_default().saw(heard.at, heard.what.1);
            seen.spans.insert(id, heard);
        }
        let mut lags = Vec::new();
        for (group, topic, answer) in positions {
            let heard = Heard::or_last(answer, now, seen.positions.get(group), unheard)?;
            for (partition, position) in (0..).zip(&heard.what) {
                let id = (topic, partition);
                let (Some(span), Some(ends)) = (seen.spans.get(&id), seen.ends.get(&id)) else {
                    continue;
                };
                let (start, end) = span.what;
                let position = position.unwrap_or(start);
                let at = heard.at.min(span.at);
                let age = if position < end { ends.age(at, position) } else { Duration::ZERO };
                lags.push(GroupLag {
                    group: group.to_owned(),
                    topic: topic.name().to_owned(),
                    partition,
                    position,
                    end,
                    oldest_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                });
            }
            seen.positions.insert(group, heard);
        }
        Ok(lags)
    }
}

/// Where a partition ended when it was looked at, oldest first.
#[derive(Default)]
struct Looks(VecDeque<(Instant, u64)>);

impl Looks {
    fn saw(&mut self, now: Instant, end: u64) {
        if self.0.back().is_some_and(|(_, known)| *known == end) {
            self.0.pop_back();
        }
        self.0.push_back((now, end));
        if self.0.len() > LOOKS_MAX {
            self.0.pop_front();
        }
    }

    /// How long the record at `position` has been there, at most; at least, if it was there at the first look.
    fn age(&self, now: Instant, position: u64) -> Duration {
        let without = self.0.iter().rev().find(|(_, end)| *end <= position);
        let since = without.or(self.0.front()).map_or(now, |(at, _)| *at);
        now.saturating_duration_since(since)
    }
}

/// `topic/partition`, as events and reports write it.
fn title((topic, partition): Partition) -> String {
    format!("{}/{partition}", topic.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_record_is_as_old_as_the_last_look_that_did_not_see_it() {
        let (mut looks, start) = (Looks::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        for (second, end) in [(0, 5), (1, 5), (2, 9), (3, 12)] {
            looks.saw(at(second), end);
        }
        assert_eq!(looks.age(at(4), 5), Duration::from_secs(3));
        assert_eq!(looks.age(at(4), 10), Duration::from_secs(2));
        // It was there before anybody looked.
        assert_eq!(looks.age(at(4), 2), Duration::from_secs(3));
    }

    #[test]
    fn what_nobody_answers_for_is_as_it_was_for_as_long_as_allowed() {
        let (start, minute) = (Instant::now(), Duration::from_mins(1));
        let dead = || Err(PortError::Unknown("no broker answers".to_owned()));
        let heard = Heard::or_last(Ok(7), start, None, Duration::ZERO).unwrap();
        let later = start + Duration::from_secs(59);
        let later = Heard::or_last(dead(), later, Some(&heard), minute).unwrap();
        assert_eq!((later.what, later.at), (7, start), "it does not get younger by being repeated");
        assert!(Heard::or_last(dead(), start + minute, Some(&later), minute).is_err());
        assert!(
            Heard::or_last(dead(), start, Some(&heard), Duration::ZERO).is_err(),
            "not allowed"
        );
        assert!(Heard::or_last(dead(), start, None, minute).is_err(), "nothing was ever heard");
    }
}
