//! The consumers that hold cursors, and which cursor serves a fetch.
//!
//! A consumer holds one place a partition, so as many consumers are opened as there are readers of one partition at different
//! places; usually two, the one that orders and the one that writes history. A reader that goes on where it stopped finds its
//! cursor by the offset.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::log::{Fetched, Partition, Record};
use rdkafka::consumer::BaseConsumer;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::KafkaConfig;
use super::blocking::Blocking;
use super::context::{Quiet, drain, refused};
use super::cursor::{Consumer, Cursor, Placed};
use super::keeper::Keeper;

/// Consumers of a log. Where so many places of one partition are in use, the one unused for longest moves; where all are
/// under way, a fetch waits for one, and is refused at the limit of a call.
const READERS_MAX: usize = 4;
/// A cursor unused for so long stops fetching.
const IDLE: Duration = Duration::from_secs(10);
/// A fetch waits no longer than this for its first record.
const FETCH_WAIT_MAX: Duration = Duration::from_mins(1);
/// A broker that did not know is asked again after this.
const AGAIN: Duration = Duration::from_millis(50);
/// The group that consumers without membership name; it has no members.
const READS: &str = "reads";

/// Where each partition begins and ends, as far as somebody here has heard.
pub(super) struct Ends(BTreeMap<Partition, (AtomicU64, AtomicU64)>);

impl Ends {
    pub(super) fn new(config: &KafkaConfig) -> Arc<Self> {
        Arc::new(Self(config.all().map(|partition| (partition, Default::default())).collect()))
    }

    /// The oldest offset kept, and the offset after the newest replicated record.
    pub(super) fn of(&self, partition: Partition) -> (u64, u64) {
        self.0
            .get(&partition)
            .map_or((0, 0), |(start, high)| (start.load(Relaxed), high.load(Relaxed)))
    }

    /// A broker told.
    pub(super) fn told(&self, partition: Partition, start: u64, high: u64) {
        if let Some((known, _)) = self.0.get(&partition) {
            known.fetch_max(start, Relaxed);
        }
        self.reached(partition, high);
    }

    /// Everything below is replicated.
    pub(super) fn reached(&self, partition: Partition, high: u64) {
        if let Some((_, known)) = self.0.get(&partition) {
            known.fetch_max(high, Relaxed);
        }
    }

    fn has(&self, partition: Partition) -> bool {
        self.0.contains_key(&partition)
    }
}

/// One consumer and its cursors; one that is under way is not there.
struct Reader {
    consumer: Consumer,
    cursors: BTreeMap<Partition, Option<Box<Cursor>>>,
}

/// A consumer without membership.
pub(super) fn consumer(config: &KafkaConfig, keeper: &Keeper) -> Result<Consumer, PortError> {
    let created = config.consumer(READS).create_with_context(Quiet::default());
    let consumer: BaseConsumer<Quiet> = created.map_err(|error| refused("no consumer", &error))?;
    Ok(keeper.kept(Arc::new(consumer)))
}

/// All readers of a log.
pub(super) struct Readers {
    config: KafkaConfig,
    keeper: Keeper,
    ends: Arc<Ends>,
    blocking: Blocking,
    /// Asks where partitions begin and end. It reads nothing: a broker answers a connection's questions in turn, and would
    /// hold this one back until its fetch ends.
    questions: Consumer,
    all: Mutex<Vec<Reader>>,
    returned: Notify,
}

impl Readers {
    pub(super) fn new(
        config: &KafkaConfig,
        keeper: &Keeper,
        ends: &Arc<Ends>,
        blocking: &Blocking,
        questions: &Consumer,
    ) -> Arc<Self> {
        Arc::new(Self {
            config: config.clone(),
            keeper: keeper.clone(),
            ends: Arc::clone(ends),
            blocking: blocking.clone(),
            questions: Arc::clone(questions),
            all: Mutex::default(),
            returned: Notify::new(),
        })
    }

    fn all(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a page.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fetched, PortError> {
        if !self.ends.has(partition) {
            return Err(PortError::Refused("there is no such partition".to_owned()));
        }
        let asked = Instant::now();
        let until = asked + self.config.call;
        let wait_until = asked + wait.min(FETCH_WAIT_MAX);
        let mut taken = self.take(partition, offset, until).await?;
        let placed = if taken.cursor()?.stands_at(offset) {
            // Who does not wait wants to know what is there by now.
            if wait.is_zero() {
                let ask = |cursor: &mut Cursor, limit, ends: &Ends| cursor.ask(limit, ends);
                taken = self.at_the_broker(taken, until, ask).await?.0;
            }
            Placed::There
        } else {
            let place =
                move |cursor: &mut Cursor, limit, ends: &Ends| cursor.place(offset, limit, ends);
            let (back, placed) = self.at_the_broker(taken, until, place).await?;
            taken = back;
            placed
        };
        let records = match placed {
            Placed::There => {
                let limit = wait_until + self.config.call;
                taken.cursor()?.read(max_bytes, wait_until, limit, &self.ends).await?
            }
            Placed::Beyond => {
                drop(taken);
                sleep_until(wait_until).await;
                Vec::new()
            }
        };
        Ok(self.page(partition, records))
    }

    fn page(&self, partition: Partition, records: Vec<Record>) -> Fetched {
        let (start, high_watermark) = self.ends.of(partition);
        Fetched { records, high_watermark, start }
    }

    /// Does something with a cursor that blocks until a broker answers, and again while a broker says that it does not know: after an
    /// election not every broker has heard of it. A caller that goes away leaves the cursor to the call's thread, which gives it
    /// back.
    async fn at_the_broker<T: Send + 'static>(
        &self,
        mut taken: Taken,
        until: Instant,
        ask: impl Fn(&mut Cursor, Duration, &Ends) -> Result<T, PortError> + Copy + Send + 'static,
    ) -> Result<(Taken, T), PortError> {
        loop {
            let ends = Arc::clone(&self.ends);
            let call = move || {
                let limit = until.saturating_duration_since(Instant::now());
                let answer = ask(taken.cursor()?, limit, &ends);
                Ok((taken, answer))
            };
            let (back, answer) = self.blocking.run(until, call).await?;
            match answer {
                Ok(answer) => return Ok((back, answer)),
                Err(PortError::Unknown(_)) if Instant::now() + AGAIN < until => sleep(AGAIN).await,
                Err(error) => return Err(error),
            }
            taken = back;
        }
    }

    /// A cursor for the place; waits until one is free.
    async fn take(
        self: &Arc<Self>,
        partition: Partition,
        offset: u64,
        until: Instant,
    ) -> Result<Taken, PortError> {
        loop {
            let returned = self.returned.notified();
            if let Some(taken) = self.try_take(partition, offset)? {
                return Ok(taken);
            }
            if timeout_at(until, returned).await.is_err() {
                return Err(PortError::Refused("too many readers of this partition".to_owned()));
            }
        }
    }

    /// The cursor that stands there; else one that stands nowhere; else the one unused for longest.
    fn try_take(
        self: &Arc<Self>,
        partition: Partition,
        offset: u64,
    ) -> Result<Option<Taken>, PortError> {
        let mut readers = self.all();
        let free = |reader: &Reader, fits: &dyn Fn(&Cursor) -> bool| {
            reader.cursors.get(&partition).and_then(Option::as_ref).is_some_and(|c| fits(c))
        };
        let mut found = readers.iter().position(|r| free(r, &|c| c.stands_at(offset)));
        if found.is_none() {
            found = readers.iter().position(|r| free(r, &Cursor::parked));
        }
        if found.is_none() {
            found = readers.iter().position(|r| !r.cursors.contains_key(&partition));
            if found.is_none() && readers.len() < READERS_MAX {
                let consumer = consumer(&self.config, &self.keeper)?;
                readers.push(Reader { consumer, cursors: BTreeMap::new() });
                found = Some(readers.len() - 1);
            }
            if let Some(reader) = found.and_then(|index| readers.get_mut(index)) {
                let topic = self.config.topic(partition.0);
                let consumers = (&reader.consumer, &self.questions);
                let cursor = Cursor::new(partition, topic, consumers, &self.keeper)?;
                reader.cursors.insert(partition, Some(Box::new(cursor)));
            }
        }
        if found.is_none() {
            let unused = |r: &Reader| Some(r.cursors.get(&partition)?.as_ref()?.used);
            let all = readers.iter().enumerate();
            let oldest = all.filter_map(|(index, r)| Some((unused(r)?, index))).min();
            found = oldest.map(|(_, index)| index);
        }
        let Some(index) = found else { return Ok(None) };
        let slot = readers.get_mut(index).and_then(|r| r.cursors.get_mut(&partition));
        let cursor = slot.and_then(Option::take);
        Ok(Some(Taken { readers: Arc::clone(self), index, partition, cursor }))
    }

    /// Takes the events of consumers, and parks what is idle.
    pub(super) fn tend(&self) {
        let now = Instant::now();
        drain(&self.questions);
        for reader in self.all().iter_mut() {
            drain(&reader.consumer);
            for cursor in reader.cursors.values_mut().flatten() {
                if cursor.used + IDLE < now {
                    cursor.park();
                }
            }
        }
    }
}

/// A cursor that is under way; given back on drop.
struct Taken {
    readers: Arc<Readers>,
    index: usize,
    partition: Partition,
    cursor: Option<Box<Cursor>>,
}

impl Taken {
    fn cursor(&mut self) -> Result<&mut Cursor, PortError> {
        self.cursor.as_deref_mut().ok_or_else(|| PortError::Refused("no cursor".to_owned()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(mut cursor) = self.cursor.take() else { return };
        cursor.used = Instant::now();
        let mut readers = self.readers.all();
        if let Some(slot) =
            readers.get_mut(self.index).and_then(|r| r.cursors.get_mut(&self.partition))
        {
            *slot = Some(cursor);
        }
        drop(readers);
        self.readers.returned.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use chat_ports::log::Topic;
    use chat_protocol::limits::Timers;
    use rdkafka::mocking::MockCluster;

    use super::*;

    const P0: Partition = (Topic::Receipts, 0);

    #[tokio::test]
    async fn partition_that_was_without_leader_is_read_as_soon_as_it_has_one() {
        let brokers = MockCluster::new(1).unwrap();
        let mut config = KafkaConfig::new(brokers.bootstrap_servers(), "", 1, &Timers::short());
        config.call = Duration::from_secs(1);
        let topic = config.topic(P0.0);
        brokers.create_topic(&topic, 1, 1).unwrap();
        brokers.partition_leader(&topic, 0, None).unwrap();
        let (keeper, blocking) = (Keeper::start().unwrap(), Blocking::new(1));
        let questions = consumer(&config, &keeper).unwrap();
        let readers = Readers::new(&config, &keeper, &Ends::new(&config), &blocking, &questions);

        let headless = readers.fetch(P0, 0, 1, Duration::ZERO).await;
        assert!(matches!(headless, Err(PortError::Unknown(_))), "{headless:?}");

        brokers.partition_leader(&topic, 0, Some(1)).unwrap();
        let page = readers.fetch(P0, 0, 1, Duration::ZERO).await.unwrap();
        assert_eq!(page.records, []);
    }

    #[tokio::test]
    async fn partition_that_the_brokers_do_not_have_is_refused() {
        let brokers = MockCluster::new(1).unwrap();
        let config = KafkaConfig::new(brokers.bootstrap_servers(), "", 2, &Timers::short());
        brokers.create_topic(&config.topic(P0.0), 1, 1).unwrap();
        let (keeper, blocking) = (Keeper::start().unwrap(), Blocking::new(1));
        let questions = consumer(&config, &keeper).unwrap();
        let readers = Readers::new(&config, &keeper, &Ends::new(&config), &blocking, &questions);
        let absent = readers.fetch((Topic::Receipts, 1), 0, 1, Duration::ZERO).await;
        assert!(matches!(absent, Err(PortError::Refused(_))), "{absent:?}");
    }
}
