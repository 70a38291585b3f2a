//! The summary of a control run: what its judge-side comparison needs, nothing more.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storm_workload::plan::Window;

use crate::slices::DueSecond;

/// A gated figure of a window of the control run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlWindow {
    /// Name of the phase.
    pub name: String,
    /// Its kind.
    pub window: Window,
    /// Length, nanoseconds.
    pub len_ns: u64,
    /// What became of the sends due in each of its seconds.
    pub due: Vec<DueSecond>,
    /// Delivered p99 over the window, nanoseconds; `None` without samples.
    pub delivered_p99_ns: Option<u64>,
    /// Delivered p99 by slice, nanoseconds.
    pub slice_p99_ns: Vec<u64>,
    /// Most deliveries owed at the end of a slice.
    pub owed_max: u64,
    /// Sends first written.
    pub sends: u64,
    /// First surfacings.
    pub deliveries: u64,
    /// Send frames, retries included.
    pub attempts: u64,
    /// Increase of the system's counters.
    pub counters: BTreeMap<String, u64>,
    /// V2-deflate bytes of every series, by its name: baseline of gates with `baseline: control`.
    pub series: BTreeMap<String, ControlSeries>,
}

/// A series of a control window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlSeries {
    /// Which.
    pub key: crate::series::SeriesKey,
    /// Censored samples.
    pub censored: u64,
    /// V2-deflate bytes.
    pub hist: Vec<u8>,
}

/// A control run in short: `control.bin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlSummary {
    /// Its run id.
    pub run: String,
    /// Hash of its plan.
    pub plan_hash: String,
    /// Hash of its binary.
    pub binary: String,
    /// Its host class.
    pub host: String,
    /// Windows in order.
    pub windows: Vec<ControlWindow>,
}
