//! WebSocket and REST nodes: sockets, heartbeats, credit, admission, drain, and the balancer.
//!
//! A gateway holds connections and nothing durable: what it forgets, it pulls again. It orders nothing, stores nothing and
//! reads no body. It knows the services by their streams and the directory by the `Tables` port only.
//!
//! - [`node`] start here: a gateway from its start to its end.
//! - [`deps`] what a gateway is given: ports, timers, limits, policies.
//! - [`balancer`] the L4 proxy in front of gateways.
//! - `accept`, `admission` the one public port, and who is let in.
//! - `connection` one client connection; `connection::delivery` is the delivery rule.
//! - `mailbox`, `dispatch` how what streams say gets to connections.
//! - `hub` what all tasks share; `owners` which stream takes care of what.
//! - `rounds` catching up after a stream or a store came back.
//! - `fence`, `drain` the two ways a gateway leaves.
//! - `rest` tokens, send, pages of history, health.
mod accept;
mod admission;
pub mod balancer;
mod connection;
pub mod deps;
mod dispatch;
mod drain;
mod fence;
mod hub;
mod mailbox;
mod metrics;
pub mod node;
mod owners;
mod rest;
mod rounds;
#[cfg(test)]
mod tests;

pub use deps::{Deps, Limits, Policies};
pub use node::{Ended, Gateway, start};
