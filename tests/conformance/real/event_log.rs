//! The event log on Kafka.
use std::sync::Arc;
use std::time::Duration;

use chat_external::kafka::{KafkaConfig, KafkaLog};
use chat_ports::clock::{SharedClock, SteadyClock};
use chat_ports::log::EventLog;
use chat_ports::observe::Observer;

use crate::arm::{PARTITIONS, timers};

/// A log with topics and groups of its own. Its limits are those of a loaded machine: no story is about them.
pub(crate) async fn event_log() -> Option<Arc<dyn EventLog>> {
    let bootstrap = super::set::quiet()?.bootstrap();
    let mut config = KafkaConfig::new(bootstrap, super::fresh_name(), PARTITIONS, &timers());
    config.append = Duration::from_secs(10);
    config.call = Duration::from_secs(10);
    config.session = Duration::from_secs(3);
    let clock: SharedClock = Arc::new(SteadyClock::new(1_700_000_000_000));
    let observer = Observer::new(clock);
    let log = KafkaLog::connect(config, &observer).await.expect("Kafka answers");
    log.admin(&observer).create_topics().await.expect("the topics are made");
    Some(log.handle())
}
