//! Registry and relay queues: one store behind both ports, in memory, with real leases.
//!
//! [`state::Store`] is the store as a state machine without threads or clocks; [`EmbeddedStore`] drives it.
//! [`EmbeddedStore`] is both ports, [`StoreAdmin`] the operator's handle.
//!
//! - `nodes` node leases, claims of sweepers, the reverse index of routes.
//! - `queue` one device's queue.
//! - `feed` changes of routes, for the operator.
//! - `state` all of it under one roof, one call at a time.
//! - `handle` the thread and the ports.
mod feed;
pub mod handle;
mod nodes;
mod queue;
pub mod state;
#[cfg(test)]
mod tests;

pub(crate) use handle::StoreStop;
pub use handle::{EmbeddedStore, StoreAdmin};
