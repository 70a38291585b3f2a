//! Record to verdict. Pure functions: no I/O, no clock, no randomness, so that judging a stored run again gives the same bytes.
//!
//! The judge recomputes the expected world from the stored plan and compares it with the evidence. It measures nothing and
//! does not know how a run is made.
//!
//! - [`world`] what the plan says should have happened.
//! - [`case`] a record with its world and what several invariants need of both.
//! - [`survey`] one pass over all message numbers.
//! - [`sessions`] connections and routes of every device over time.
//! - [`bounds`] limits derived from the running system's timers.
//! - [`finding`] outcome of one check, with its evidence.
//! - [`invariant`] the invariants, a file each.
//! - [`synchrony`] how much reconnect attempts coincide.
//! - [`recovery`] when a system is back to its control run.
//! - [`gate`] limits that a file sets, and what they are compared with.
//! - [`guard`] limits under which figures count at all.
//! - [`coverage`] conditions that should be reached sometimes.
//! - [`control`] the summary of a control run.
//! - [`verdict`] the lattice, the reasons, the exit code.
//! - [`report`] everything as one serialisable value.
//! - [`live`] counts that convict while a run lasts.
pub mod bounds;
pub mod case;
pub mod control;
pub mod coverage;
pub mod finding;
pub mod gate;
pub mod guard;
pub mod invariant;
mod judge;
pub mod live;
pub mod recovery;
pub mod report;
pub mod sessions;
pub mod survey;
pub mod synchrony;
mod tables;
pub mod verdict;
pub mod world;

#[cfg(test)]
mod kit;

pub use judge::judge;
pub use report::Report;
pub use verdict::Verdict;
