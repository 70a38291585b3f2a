//! Records on their way to the brokers, and the thread that hears of their fate.
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::log::{Appended, Why};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use tokio::sync::Notify;

use super::KafkaConfig;
use super::context::{complain, refused, say};
use super::keeper::{Keeper, Kept};

/// How long the thread waits for news in one go, and so how late it sees that it is to end.
const LISTEN: Duration = Duration::from_millis(100);

/// The records of one partition that are on their way together.
#[derive(Default)]
pub(super) struct Batch {
    open: AtomicUsize,
    landed: Notify,
}

impl Batch {
    /// Waits until the fate of every record is known.
    pub(super) async fn landed(&self) {
        while self.open.load(Ordering::Acquire) > 0 {
            self.landed.notified().await;
        }
    }

    fn lands(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.landed.notify_one();
        }
    }
}

/// One append within a batch.
pub(super) struct Flight {
    batch: Arc<Batch>,
    fate: Mutex<Fate>,
}

/// What is known of an append's records.
#[derive(Default)]
struct Fate {
    /// Records that the library took.
    taken: usize,
    /// Offset and stamp of the first record.
    first: Option<(u64, u64)>,
    why: Option<Why>,
}

impl Flight {
    pub(super) fn new(batch: &Arc<Batch>) -> Arc<Self> {
        Arc::new(Self { batch: Arc::clone(batch), fate: Mutex::default() })
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome, once the batch has landed. Part of an append may be in the log when its outcome is unknown.
    pub(super) fn outcome(&self) -> Appended {
        let fate = self.fate();
        match (fate.why, fate.first) {
            (None, Some((base, log_ms))) => Appended::Ok { base, log_ms },
            (Some(why), _) if fate.taken == 0 => Appended::NotAppended(why),
            (why, _) => Appended::Unknown(why.unwrap_or(Why::TimedOut)),
        }
    }

    fn landed(&self, result: &DeliveryResult<'_>) {
        let mut fate = self.fate();
        match result {
            Ok(message) => {
                let stamp = message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok());
                match (u64::try_from(message.offset()), stamp) {
                    (Ok(offset), Some(log_ms)) => {
                        if fate.first.is_none_or(|(first, _)| offset < first) {
                            fate.first = Some((offset, log_ms));
                        }
                    }
                    // A broker that recognises a repeat too old for its memory says neither.
                    _ => fate.why = Some(Why::TimedOut),
                }
            }
            Err((error, _)) => fate.why = Some(why(error)),
        }
        drop(fate);
        self.batch.lands();
    }
}

/// Why records may or may not be in the log. What a broker says of the last attempt does not tell what became of those before.
fn why(error: &KafkaError) -> Why {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend) => {
            Why::NotEnoughReplicas
        }
        Some(Code::LeaderNotAvailable | Code::NotLeaderForPartition) => Why::NoLeader,
        Some(Code::KafkaStorageError) => Why::DiskFull,
        _ => Why::TimedOut,
    }
}

/// What hears of deliveries.
#[derive(Default)]
struct Deliveries {
    /// The producer will never send again.
    dead: AtomicBool,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.dead.store(true, Ordering::Relaxed);
        }
        complain(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Flight>;

    fn delivery(&self, result: &DeliveryResult<'_>, flight: Arc<Flight>) {
        flight.landed(result);
    }
}

/// A producer and its thread.
pub(super) struct Producer {
    client: Arc<BaseProducer<Deliveries>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Producer {
    fn start(config: &KafkaConfig) -> Result<Self, PortError> {
        let created = config.producer().create_with_context(Deliveries::default());
        let client: Arc<BaseProducer<Deliveries>> =
            Arc::new(created.map_err(|error| refused("no producer", &error))?);
        let stop = Arc::new(AtomicBool::new(false));
        let (listener, end) = (Arc::clone(&client), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("kafka-acks".to_owned())
            .spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    listener.poll(LISTEN);
                }
            })
            .map_err(|error| PortError::Refused(format!("no thread for a producer: {error}")))?;
        Ok(Self { client, stop, thread: Some(thread) })
    }

    fn dead(&self) -> bool {
        self.client.context().dead.load(Ordering::Relaxed)
    }

    /// Hands an append over, in order. What the library does not take is marked in the flight.
    pub(super) fn send(&self, topic: &str, partition: i32, values: &[Bytes], flight: &Arc<Flight>) {
        for value in values {
            flight.batch.open.fetch_add(1, Ordering::AcqRel);
            let record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Arc::clone(flight))
                .partition(partition)
                .payload(value);
            // Counted before it is sent: its fate may be known before the call returns.
            flight.fate().taken += 1;
            if let Err((error, _)) = self.client.send(record) {
                tracing::debug!(%error, topic, partition, "A record was not taken.");
                let mut fate = flight.fate();
                fate.taken -= 1;
                fate.why = Some(Why::BufferFull);
                drop(fate);
                flight.batch.lands();
                // What follows would stand in the log without this one.
                return;
            }
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("The thread of a Kafka producer panicked.");
        }
    }
}

/// The producer of a log, made anew when the library declares it dead.
pub(super) struct Producers {
    config: KafkaConfig,
    keeper: Keeper,
    current: Mutex<Arc<Kept<Producer>>>,
}

impl Producers {
    pub(super) fn start(config: &KafkaConfig, keeper: &Keeper) -> Result<Self, PortError> {
        let current = Mutex::new(keeper.kept(Producer::start(config)?));
        Ok(Self { config: config.clone(), keeper: keeper.clone(), current })
    }

    /// The producer to send with.
    pub(super) fn get(&self) -> Arc<Kept<Producer>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.dead() {
            match Producer::start(&self.config) {
                Ok(producer) => *current = self.keeper.kept(producer),
                Err(error) => tracing::warn!(%error, "A dead Kafka producer is not replaced yet."),
            }
        }
        Arc::clone(&current)
    }
}
