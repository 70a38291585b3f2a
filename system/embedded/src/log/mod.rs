//! The replicated event log: brokers, partitions, consumer groups, all in memory.
//!
//! [`cluster::Cluster`] is the whole log as a state machine without threads, sockets or clocks; start there. [`EmbeddedLog`], the
//! port, drives it in its callers' threads, and the thread `chat-log` lets time pass; [`LogAdmin`] is the operator's handle.
//!
//! - `config` sizes, limits and the policy of reading.
//! - `replica` batches and one broker's copy of a partition.
//! - `partition` leader, ISR, high watermark, what waits for them.
//! - `group` members, assignment, positions.
//! - `cluster` all of it, with brokers and time.
//! - `handle` the port, and the thread for what happens without a call.
//! - `admin` what an operator may do to it.
pub mod admin;
pub mod cluster;
pub mod config;
mod group;
pub mod handle;
mod partition;
mod replica;
#[cfg(test)]
mod tests;

pub use admin::LogAdmin;
pub use config::{LogConfig, ReadIsolation};
pub use handle::EmbeddedLog;
