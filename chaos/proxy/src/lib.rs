//! In-process TCP proxy that makes links bad on purpose and says exactly what it did.
//!
//! A proxy listens, dials one upstream address a connection, and carries bytes both ways under one immutable [`Rules`] value. Changing the
//! rules publishes a new value with a new generation; no task, socket or queue is rebuilt, so a change cannot lose bytes or hang.
//! It never changes bytes in silence: where it discards any, it ends that connection, with a reset.
//!
//! It is not a router, knows nothing about chat frames and decides nothing: which link is conditioned, when, and for how long, is the
//! business of the faults that hold a [`ProxyControl`].
//!
//! - [`set`]: start here. [`ProxySet`], any number of proxies on one own thread, and its handle for other threads.
//! - [`proxy`]: one proxy in the current runtime.
//! - [`control`]: steering a proxy from any thread.
//! - [`listener`]: opening, closing, taking connections; the limits of that.
//! - [`rules`]: the value a proxy obeys: enabled, accept rules, toxics.
//! - [`toxic`]: one file a toxic: latency, reset, stall; whom it hits.
//! - [`accept`]: what happens to a connection before it is carried.
//! - [`preamble`]: the sixteen bytes by which a dialler names its device.
//! - [`counters`]: what a proxy has done, a pipe and a connection: the witness of a fault.
//! - `connection`, `pipe`, `line`, `bell`, `dice`: one connection, one direction of it, its delay line, what it was woken for, its seeded
//!   randomness.

pub mod accept;
mod bell;
mod connection;
pub mod control;
pub mod counters;
mod dice;
mod line;
pub mod listener;
mod pipe;
pub mod preamble;
pub mod proxy;
pub mod rules;
pub mod set;
#[cfg(test)]
mod tests;
pub mod toxic;

pub use accept::{AcceptAct, AcceptRule, When};
pub use control::{ControlError, ProxyControl};
pub use counters::{CloseCause, ConnectionSnapshot, PipeSnapshot, ProxyCounters, Stage};
pub use preamble::Preamble;
pub use proxy::{Proxy, ProxyConfig, StartError};
pub use rules::{RuleError, Rules};
pub use set::{ProxyHandle, ProxySet};
pub use toxic::{Latency, OnHeal, ResetPeer, Stall, Stream, Targets, Told, Toxic, ToxicKind};
