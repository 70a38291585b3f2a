//! Hypothesis, method, rollback; phases warm-up, steady, fault, heal, recovery, drain.
//!
//! It runs one plan against one system: it begins phases, injects and heals, looks at the system once a second and notes
//! what it sees as facts. It never judges and never draws.
//!
//! - [`mod@file`] experiment files: model, checks, resolution.
//! - [`runner`] start here: one run through all its phases.
//! - [`method`] the steps of an experiment: inject, witness, heal.
//! - [`recovery`] when the recovery watch may end early.
//! - [`watch`] the observer on the control door.
//! - [`load`] what is needed of whoever drives the load.
//! - [`notes`] where facts go, and who may stop a run.
pub mod file;
mod host;
pub mod load;
pub mod method;
pub mod notes;
pub mod recovery;
pub mod runner;
pub mod watch;
