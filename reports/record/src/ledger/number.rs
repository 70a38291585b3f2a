//! Message numbers and dense device numbers.
pub use storm_workload::schedule::Number;

/// Dense number of a device (`DeviceIx.0`): devices of a user are contiguous.
pub type Device = u32;
