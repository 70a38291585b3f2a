//! Scenario file to population to a deterministic schedule of intents; pure.
//!
//! A scenario says who does what and how fast. This crate reads it, refuses what cannot work, resolves it to a [`plan::Plan`]
//! and enumerates every intent of the run as a pure function of the plan: the same on every platform, in every shard, and in
//! the judge that recomputes the expected world from a stored plan.
//!
//! It is not the engine: nothing here knows a clock, a socket or a measured value.
//!
//! - [`document`]: typed YAML with positions, inheritance, overrides; all errors at once. Experiments use it too.
//! - [`units`]: `18k/s`, `30s`, `2KiB`, `5%` as exact integers.
//! - [`metrics`]: the series that a gate can name.
//! - [`gate`]: one limit on one series, and which limits are impossible.
//! - [`system`]: the system section.
//! - [`mod@file`]: the scenario model, `extends`, its checks and its JSON Schema.
//! - [`catalog`]: the shipped scenarios, and names against paths.
//! - [`scale`]: `--scale 0.3` and `--scale ci`.
//! - [`plan`]: the resolved run: windows, counts, numbers, hash.
//! - [`summary`]: the plan in words and its estimates.
//! - [`population`]: users, devices, communities, contacts, planned absences.
//! - [`schedule`]: intents in due order; bodies and idempotency keys.
//! - [`distribution`], [`draw`], [`fixed`]: integer randomness underneath.

pub mod catalog;
pub mod distribution;
pub mod document;
pub mod draw;
pub mod file;
pub mod fixed;
pub mod gate;
pub mod metrics;
pub mod plan;
pub mod population;
pub mod scale;
pub mod schedule;
pub mod summary;
pub mod system;
pub mod units;

pub use plan::{Overrides, Plan};
pub use population::{DeviceIx, Population};
pub use schedule::{Intent, Number, Schedule};

#[cfg(test)]
mod tests;
