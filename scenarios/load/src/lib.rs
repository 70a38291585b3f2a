//! Open-loop engine: fires the schedule on time, records intended and actual.
//!
//! A shard is a scheduler thread that says when, and an I/O thread that owns the sockets. The schedule never waits for the
//! system: what cannot be sent in time counts as late, censored or dropped, and time counts from the intended start. The
//! engine does not judge, and it knows the system through `chat-client` alone.
//!
//! - [`engine`] start, steer, watch and stop; start here.
//! - [`clock`] the one clock of a run.
//! - [`entry`] where devices connect, and what goes ahead of their bytes.
//! - [`body`] the header inside every body, by which a recipient knows what it got.
//! - [`pacer`] when intents are handed over, and how late.
//! - [`flight`] messages under way, until their deadline.
//! - [`stats`] figures of the present, for progress lines and guards.
pub mod body;
pub mod clock;
pub mod engine;
pub mod entry;
pub mod flight;
mod gaps;
mod meters;
mod observer;
pub mod pacer;
mod shard;
pub mod stats;

pub use clock::RunClock;
pub use engine::{BlastSet, Engine, EngineConfig, EngineError, Evidence};
pub use entry::Entries;
pub use stats::{DeviceFinal, DeviceView, Stats};

#[cfg(test)]
mod tests;
