//! The run folder: written while the run lasts, read back after it, however it ended.
//!
//! - [`folder`] its files.
//! - [`collector`] the thread that merges shards and writes.
mod collector;
mod folder;
pub(crate) mod frame;
mod hlog;
#[cfg(test)]
mod tests;

pub use collector::{Collector, LIVE_SLICES, Live};
pub use folder::{FactWriter, RunFolder, RunWriter, StoreError};
