//! One place in one partition, read sequentially from a consumer's queue.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::{Partition, Record};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::Offset;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::context::{Quiet, refused, unknown};
use super::keeper::{Keeper, Kept};
use super::readers::Ends;

/// Records of a page, however small they are.
const PAGE_RECORDS: usize = 10_000;

/// A consumer whose partitions are assigned by hand.
pub(super) type Consumer = Arc<Kept<Arc<BaseConsumer<Quiet>>>>;

/// What came of placing a cursor.
pub(super) enum Placed {
    /// It reads from there.
    There,
    /// The log does not reach that far yet.
    Beyond,
}

/// A place in a partition. Parked, it fetches nothing.
pub(super) struct Cursor {
    partition: Partition,
    topic: String,
    number: i32,
    consumer: Consumer,
    /// Whom to ask where the log begins and ends.
    questions: Consumer,
    queue: Arc<Kept<PartitionQueue<Quiet>>>,
    /// The queue has something.
    news: Arc<Notify>,
    /// Offset of the record that comes next; `None` while parked.
    next: Option<u64>,
    /// Taken from the queue, but too large for the page before.
    ahead: Option<Record>,
    /// When it was used last.
    pub(super) used: Instant,
}

impl Cursor {
    /// A parked cursor of a consumer, which may have one a partition.
    pub(super) fn new(
        partition: Partition,
        topic: String,
        (consumer, questions): (&Consumer, &Consumer),
        keeper: &Keeper,
    ) -> Result<Self, PortError> {
        let number = i32::try_from(partition.1)
            .map_err(|_| PortError::Refused("there is no such partition".to_owned()))?;
        let queue = consumer.split_partition_queue(&topic, number);
        let mut queue =
            queue.ok_or_else(|| PortError::Refused("there is no such partition".to_owned()))?;
        let news = Arc::<Notify>::default();
        let waker = Arc::clone(&news);
        queue.set_nonempty_callback(move || waker.notify_one());
        Ok(Self {
            partition,
            topic,
            number,
            consumer: Arc::clone(consumer),
            questions: Arc::clone(questions),
            queue: keeper.kept(queue),
            news,
            next: None,
            ahead: None,
            used: Instant::now(),
        })
    }

    /// Whether the record at `offset` is the one that comes next.
    pub(super) fn stands_at(&self, offset: u64) -> bool {
        self.next == Some(offset)
    }

    /// Whether it fetches nothing.
    pub(super) fn parked(&self) -> bool {
        self.next.is_none()
    }

    /// Stops fetching, and forgets what was fetched.
    pub(super) fn park(&mut self) {
        self.ahead = None;
        if self.next.take().is_none() {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, self.number);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::debug!(%error, partition = ?self.partition, "A cursor was not parked.");
        }
        // Takes what is outdated off the queue: the library does so only when it is asked for more.
        while self.queue.poll(Duration::ZERO).is_some() {}
    }

    /// Asks a broker where the log begins and ends, and goes to `offset` if it lies within. Blocks for the answer, up to `limit`.
    pub(super) fn place(
        &mut self,
        offset: u64,
        limit: Duration,
        ends: &Ends,
    ) -> Result<Placed, PortError> {
        self.ask(limit, ends)?;
        let (start, high) = ends.of(self.partition);
        if offset < start {
            return Err(PortError::Refused(format!(
                "offset {offset} is below the start of the log, {start}"
            )));
        }
        if high < offset {
            return Ok(Placed::Beyond);
        }
        self.park();
        let mut list = TopicPartitionList::new();
        let at = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&self.topic, self.number, at)
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|error| refused("no cursor", &error))?;
        self.next = Some(offset);
        Ok(Placed::There)
    }

    /// Asks a broker where the log begins and ends. Blocks for its answer, up to `limit`.
    pub(super) fn ask(&self, limit: Duration, ends: &Ends) -> Result<(), PortError> {
        let until = Instant::now() + limit;
        let left = || until.saturating_duration_since(Instant::now());
        let mut answer = self.questions.fetch_watermarks(&self.topic, self.number, limit);
        if answer.as_ref().is_err_and(says_there_is_none) {
            // The library says so of a partition without leader too, and from memory: nobody asks the brokers again for a
            // quarter of an hour (`topic.metadata.refresh.interval.ms` times three) but by this.
            self.find_leader(left())?;
            answer = self.questions.fetch_watermarks(&self.topic, self.number, left());
        }
        let (start, high) =
            answer.map_err(|error| unknown("no answer where the log ends", &error))?;
        let offset = |raw| u64::try_from(raw).unwrap_or(0);
        ends.told(self.partition, offset(start), offset(high));
        Ok(())
    }

    /// Has the library hear from a broker who leads the partition. Refused when there is no such partition.
    fn find_leader(&self, limit: Duration) -> Result<(), PortError> {
        let metadata = self.questions.fetch_metadata(Some(&self.topic), limit);
        let metadata = metadata.map_err(|error| unknown("no answer who leads", &error))?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        match partitions.into_iter().find(|found| found.id() == self.number) {
            Some(found) if found.leader() < 0 => {
                Err(PortError::Unknown("the partition has no leader".to_owned()))
            }
            Some(_) => Ok(()),
            None => Err(PortError::Refused("there is no such partition".to_owned())),
        }
    }

    /// The next records, `max_bytes` of values but one record at least. Waits for the first one until `wait`; until `limit`, if it
    /// is known to be there. What a caller that goes away did not get is read again.
    pub(super) async fn read(
        &mut self,
        max_bytes: usize,
        wait: Instant,
        limit: Instant,
        ends: &Ends,
    ) -> Result<Vec<Record>, PortError> {
        loop {
            let records = self.take_page(max_bytes);
            if let Some(last) = records.last() {
                ends.reached(self.partition, last.offset + 1);
                return Ok(records);
            }
            let Some(next) = self.next else {
                return Err(PortError::Unknown("the place in the log was lost".to_owned()));
            };
            let exists = next < ends.of(self.partition).1;
            let due = if exists { limit } else { wait };
            if due <= Instant::now() {
                if exists {
                    self.park();
                    return Err(PortError::Unknown(format!("offset {next} did not come in time")));
                }
                return Ok(records);
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// What is there, without waiting.
    fn take_page(&mut self, max_bytes: usize) -> Vec<Record> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < PAGE_RECORDS
            && let Some(record) = self.ahead.take().or_else(|| self.take_one())
        {
            bytes += record.value.len();
            if max_bytes < bytes && !records.is_empty() {
                self.ahead = Some(record);
                break;
            }
            self.next = Some(record.offset + 1);
            records.push(record);
        }
        records
    }

    /// The next record from the queue, if it is there.
    fn take_one(&mut self) -> Option<Record> {
        loop {
            let wanted = self.next?;
            match self.queue.poll(Duration::ZERO)? {
                Ok(message) => {
                    // Anything else is left over from a place that was given up.
                    if let Some(record) = record(&message).filter(|r| r.offset == wanted) {
                        return Some(record);
                    }
                }
                Err(error) if ends_reading(&error) => {
                    tracing::debug!(%error, partition = ?self.partition, "A cursor lost its place.");
                    self.park();
                    return None;
                }
                Err(error) => {
                    tracing::debug!(%error, partition = ?self.partition, "A cursor has trouble.");
                }
            }
        }
    }
}

fn record(message: &BorrowedMessage<'_>) -> Option<Record> {
    let offset = u64::try_from(message.offset()).ok()?;
    let log_ms = message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok())?;
    let value = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    Some(Record { offset, log_ms, value })
}

/// Whether an answer denies that there is such a partition.
fn says_there_is_none(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition)
    )
}

/// Whether the library stops fetching after this error: the place is not in the log any more.
fn ends_reading(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}
