//! Links between nodes and backends that a fault can condition: each goes through a listener of a real Toxiproxy.
//!
//! Nothing counts as done because a call returned. Every change is read back and compared field by field, and a healed listener has
//! to let a call of the backend's own protocol through.
//!
//! - [`Backend`] whose links can be conditioned, and which ports stand on it.
//! - `plan` one listener for each node and backend, on ports known before the start.
//! - `api` Toxiproxy's HTTP interface, as far as the library does not serve it.
//! - `driver` the thread that owns the library.
//! - `toxic` what a rule is in Toxiproxy's words.
//! - `listener` one listener: toxics put, read back, healed.
//! - `probe` one call through a listener.
//! - `rules` which rule is in force on which link.
//! - `links` all of them: what the testbed calls.
mod api;
mod backend;
mod driver;
mod error;
mod links;
mod listener;
mod plan;
mod probe;
mod rules;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;
mod toxic;

pub use backend::Backend;
pub(super) use error::LinkError;
pub(super) use links::{Links, Route};
pub(super) use plan::LinkPlan;
