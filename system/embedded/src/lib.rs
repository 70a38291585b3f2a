//! In-process implementation of every port: replicated log, registry, relay queue, history, blobs.
//!
//! It stands in for Kafka, Redis, Cassandra and an object store with their semantics, not with their wire: nothing here
//! listens on a socket. History and blobs, which wait for the disk, have threads; log and store serve a call at once, in one step
//! that no kill or pause of the calling node can fall into. Start with [`Backends`].
//!
//! - [`backends`] everything of one system, and the guarded ports of a node.
//! - [`log`] brokers, partitions, elections, consumer groups; in memory.
//! - [`store`] node leases, routes, relay queues, watermarks; in memory.
//! - [`history`] rows of conversations and tables in fjall, with group commit.
//! - [`blobs`] objects as files.
//! - [`guard`] fault hook, counters and limits around a port.
//! - [`desk`] how a call gets to a backend and back.
pub mod backends;
pub mod blobs;
pub mod desk;
pub mod guard;
pub mod history;
pub mod log;
pub mod store;

pub use backends::{Backends, BackendsConfig, NodePorts, StartError};
