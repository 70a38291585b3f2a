//! The run record: what a run leaves behind, and the only input of a verdict.
//!
//! Observers reduce what they see to the structures of this crate; the judge reads them. Nothing here measures, decides or
//! opens a socket, and only [`store`] touches files.
//!
//! - [`series`] names of time series and their merged histograms.
//! - [`recorder`] the histograms of one shard, handed over once a second.
//! - [`slices`] merged seconds of a run and counters beside them.
//! - [`sink`] merging of shards.
//! - [`shard`] what one shard of the load writes: recorder, ledger, and their way to the collector.
//! - [`ledger`] what devices saw of every message: planes, pairs, rows.
//! - [`facts`] what the experiment saw through the control door, windows, faults, the end.
//! - [`promises`] what the run was asked to show: gates, recovery, conditions.
//! - [`manifest`] identity of a run: format, versions, host, substrate, seed, timers.
//! - [`control`] the summary of a control run.
//! - [`record`] all of it together.
//! - [`store`] the run folder: written while the run lasts, read back after it, however it ended.
pub mod control;
pub mod facts;
pub mod ledger;
pub mod manifest;
pub mod promises;
pub mod record;
pub mod recorder;
pub mod series;
pub mod shard;
pub mod sink;
pub mod slices;
pub mod store;

pub use ledger::Ledger;
pub use ledger::number::{Device, Number};
pub use record::Record;
pub use recorder::Recorder;
pub use shard::{Shard, ShardFeed};
