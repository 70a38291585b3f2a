//! What the services need of the world: traits for stores, log, clock and sockets, and the node streams.
//!
//! Services know these traits and never what stands behind them; `chat-testbed` chooses. Every call may fail with a
//! [`PortError`]; every port is wrapped by a counting decorator and a fault hook before a service sees it.
//!
//! - [`registry`] node leases and routes (device to node).
//! - [`relay_queue`] durable queue of each device.
//! - [`log`] the replicated event log: topics, partitions, groups.
//! - [`consumer`] what every reader of the log needs: membership, fold snapshots, views.
//! - [`history`] conversations by `cseq`.
//! - [`tables`] small rows by key: the directory of users and devices.
//! - [`blobs`] immutable objects by name: fold snapshots.
//! - [`clock`] wall and monotonic time.
//! - [`net`] the only place where services open or accept sockets.
//! - [`streams`] node-to-node streams of batches; start here to see how services talk.
//! - [`nodes`] the live node table every node keeps.
//! - [`observe`] counters, gauges and events, read through the control door.
//! - `twins` in-memory ports for tests of services (feature `twins`).
pub mod blobs;
pub mod clock;
pub mod consumer;
pub mod history;
pub mod log;
pub mod net;
pub mod nodes;
pub mod observe;
pub mod registry;
pub mod relay_queue;
pub mod streams;
pub mod tables;
#[cfg(any(test, feature = "twins"))]
pub mod twins;

/// Why a call on a port failed. Which of the two decides whether a caller may claim that nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing happened: the call was refused or never left.
    #[error("refused by the store: {0}")]
    Refused(String),
    /// The call may or may not have had its effect, or may yet have it, even after that of a later call: timed out, or the answer
    /// was lost.
    #[error("no answer from the store: {0}")]
    Unknown(String),
}
