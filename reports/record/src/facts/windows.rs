//! The course of a run: its windows, the marks between them, its end.
use serde::{Deserialize, Serialize};
use storm_workload::plan::Window;

/// A window began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowBegan {
    /// Phase of the plan.
    pub phase: u16,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub window: Window,
    /// When.
    pub at_ns: u64,
}

/// A window of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpan {
    /// Phase of the plan.
    pub phase: u16,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub window: Window,
    /// Begin.
    pub from_ns: u64,
    /// End; the last fact of the run for the last window.
    pub to_ns: u64,
    /// Whether its end was seen.
    pub closed: bool,
}

/// The experiment's own view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// The steady state was judged before the method: whether it held.
    Steady {
        /// Whether it held.
        held: bool,
        /// When.
        at_ns: u64,
    },
    /// Everything was healed; recovery counts from here.
    AllHealed {
        /// When.
        at_ns: u64,
    },
    /// A *sometimes*-condition was reached on the harness's side.
    Sometimes {
        /// Which.
        name: String,
        /// When.
        at_ns: u64,
    },
    /// The drain ended with everything settled, or not.
    Drained {
        /// Whether everything was settled.
        settled: bool,
        /// When.
        at_ns: u64,
    },
}

/// The run was told to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Why: `signal` or the stop condition.
    pub why: String,
    /// When.
    pub at_ns: u64,
}

/// The final phase ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalPhase {
    /// Every device was connected, nothing was left in any queue of theirs, and nothing moved for the quiet time, or nothing
    /// more could come: from here on what is owed is lost. Do not make this wait for what the ledger is owed.
    pub drained: bool,
    /// Queues, routes and history were read.
    pub read: bool,
    /// What was missing, in words.
    pub missing: Vec<String>,
    /// When.
    pub at_ns: u64,
}
