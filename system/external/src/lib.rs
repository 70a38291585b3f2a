//! The ports on real backends, each behind a feature; the default build has none of them. Start at the port's own page in
//! `chat-ports`, which says what both arms promise; the conformance suite holds it.
//!
//! - `redis` node leases, routes and relay queues.
//! - `kafka` the event log.
//! - `cassandra` history and tables.
//! - `s3` blobs.
//!
//! Reconnects, limits of time and retries are ours and stated beside each client; no client library waits in silence.
#[cfg(feature = "cassandra")]
pub mod cassandra;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "s3")]
pub mod s3;
