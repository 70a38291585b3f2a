//! Judged run to text: what people and other programs see of a verdict. Nothing is measured or decided here.
//!
//! Every function takes a [`storm_judge::Report`] and gives back text; [`folder`] alone writes files.
//!
//! - [`terminal`] twenty lines for a terminal, and a slice of every violation shown; start here.
//! - [`json`] `report.json`, whose schema is the report type's.
//! - [`junit`] `junit.xml`: one case a gate, invariant and guard.
//! - [`markdown`] `report.md`, for a comment on a change.
//! - [`violation`] a broken promise with every observation of it.
//! - [`folder`] all of them into a run folder.
//! - [`words`] times, shares and counts as they are written.
pub mod folder;
pub mod json;
pub mod junit;
pub mod markdown;
mod table;
pub mod terminal;
pub mod violation;
pub mod words;

pub use folder::write as write_all;

#[cfg(test)]
mod kit;
