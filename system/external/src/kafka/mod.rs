//! The event log on Kafka, by `rdkafka`. Start at [`KafkaLog`].
//!
//! - `config` addresses, sizes, limits of time, and the settings of every client.
//! - `meter` how many bytes were appended to each partition, and how long that took.
//! - `keeper` the thread that closes clients, since closing one blocks.
//! - `context` where the library's own words go.
//! - `blocking` calls that block, each in a thread of its own.
//! - `producer` records on their way, and the thread that hears of their fate.
//! - `lane` appends of one partition: gathered, one batch on its way at a time.
//! - `cursor`, `readers` places in partitions, and the consumers that hold them.
//! - `member`, `groups` membership, commits, positions.
//! - `log` the port over all of it.
//! - `admin` topics, brokers, lags.
//!
//! **Threads.** Every client has those of the library (one, and one a broker). Ours are `kafka-acks`, one a producer,
//! `kafka-keep`, one a log, and `kafka-call`, one a call that blocks. All end by themselves after the last handle of a log is
//! gone, within a session and [`CLOSING`]; a runtime that ends waits for none of them, and closes nothing itself. A group that was
//! not left keeps its member until the session ends, as it does when a node dies.
//!
//! **Appends.** The library spins while acknowledgements stall and records wait in its queues. So it is given one batch a
//! partition, and everything else waits with us, within [`KafkaConfig::log_buffer`].
mod admin;
mod blocking;
mod config;
mod context;
mod cursor;
mod groups;
mod keeper;
mod lane;
mod log;
mod member;
mod meter;
mod producer;
mod readers;

pub use admin::KafkaAdmin;
pub use config::KafkaConfig;
pub use keeper::{CLOSER, CLOSING};
pub use log::KafkaLog;
pub use meter::AppendMeter;
