//! Where the library's own words go, and what its errors mean to a caller.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use chat_ports::PortError;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Events taken from a consumer's queue in one turn; the rest waits for the next one.
const TURN_EVENTS: usize = 1_000;

/// Notes a line of the library.
pub(super) fn say(level: RDKafkaLogLevel, facility: &str, line: &str) {
    tracing::debug!(?level, facility, line, "The Kafka library says something.");
}

/// Notes an error of a whole client, which it lives through.
pub(super) fn complain(error: &KafkaError, reason: &str) {
    tracing::debug!(%error, reason, "A Kafka client has trouble.");
}

/// A context that counts its events.
pub(super) trait Counting: ConsumerContext {
    /// Events so far.
    fn events(&self) -> u64;
}

/// The context of a consumer that only reads.
#[derive(Default)]
pub(super) struct Quiet {
    events: AtomicU64,
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.events.fetch_add(1, Relaxed);
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.fetch_add(1, Relaxed);
        complain(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

impl Counting for Quiet {
    fn events(&self) -> u64 {
        self.events.load(Relaxed)
    }
}

/// Takes a consumer's events, which would pile up otherwise; what they bring goes to its context.
pub(super) fn drain<C: Counting>(consumer: &BaseConsumer<C>) {
    for _ in 0..TURN_EVENTS {
        // A poll that took an event answers like one that found none; the count tells them apart.
        let before = consumer.context().events();
        let got = consumer.poll(std::time::Duration::ZERO);
        if got.is_none() && consumer.context().events() == before {
            return;
        }
    }
}

/// A failure after which the call may have had its effect.
pub(super) fn unknown(what: &str, error: &KafkaError) -> PortError {
    PortError::Unknown(format!("{what}: {error}"))
}

/// A failure before anything was sent.
pub(super) fn refused(what: &str, error: &KafkaError) -> PortError {
    PortError::Refused(format!("{what}: {error}"))
}

/// A failed commit: whether the brokers said no, or nobody knows.
pub(super) fn commit_failed(error: &KafkaError) -> PortError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::FencedInstanceId
            | Code::AssignmentLost
            | Code::NoOffset
            | Code::WaitingForCoordinator
            | Code::UnknownTopicOrPartition,
        ) => refused("the group takes no such commit", error),
        _ => unknown("the commit was not answered", error),
    }
}
