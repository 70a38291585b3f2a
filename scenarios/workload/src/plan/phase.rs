//! The windows of a plan and what is sent in each.

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::file::{Arrival, Load};
use crate::schedule::Segment;
use crate::units::{Rate, Size, Time};

/// The name of a window's kind; gates, slices and reports use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// Before anything is judged.
    WarmUp,
    /// The judged window.
    Steady,
    /// More than usual.
    Stress,
    /// Faults are injected.
    Fault,
    /// Faults are taken away.
    Heal,
    /// The system is watched until it is back.
    Recovery,
    /// Load has ended.
    Drain,
}

impl Window {
    /// The word in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Window::WarmUp => "warm-up",
            Window::Steady => "steady",
            Window::Stress => "stress",
            Window::Fault => "fault",
            Window::Heal => "heal",
            Window::Recovery => "recovery",
            Window::Drain => "drain",
        }
    }
}

/// What ends a phase of open length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// All devices that the plan has online are connected.
    Connected,
    /// The steady guard holds.
    Steady,
    /// Every fault is healed.
    Healed,
    /// The system is back to its control.
    Recovered,
    /// Nothing is owed and nothing moves.
    Settled,
}

/// When a phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// After a fixed time.
    After(Time),
    /// When a condition holds, at the latest after `limit`.
    Until {
        /// The condition.
        condition: Condition,
        /// The longest wait.
        limit: Time,
    },
}

impl End {
    /// The length that the schedule reserves.
    pub const fn longest(self) -> Time {
        match self {
            End::After(len) => len,
            End::Until { limit, .. } => limit,
        }
    }
}

/// One stream, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPlan {
    /// Its name.
    pub name: String,
    /// Sends a second at load 1.0.
    pub rate: Rate,
    /// How intended starts are spread.
    pub arrival: Arrival,
    /// Delivered later than this is not in time.
    pub deadline: Time,
    /// Sizes of bodies.
    pub payload: Distribution<Size>,
}

/// The part of one stream in one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseStream {
    /// Stream in plan order.
    pub stream: u16,
    /// Number of its first intent.
    pub first_k: u64,
    /// Intents, exact; a phase of open length reserves those up to its limit.
    pub count: u64,
    /// When they are due.
    pub segments: Vec<Segment>,
}

/// One window of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Unique name.
    pub name: String,
    /// Its kind.
    pub window: Window,
    /// When it ends.
    pub end: End,
    /// Multiples of the streams' rates.
    pub load: Load,
    /// Start on the load clock, nanoseconds since the first phase that sends began; none before that.
    pub from_ns: Option<u64>,
    /// What is sent.
    pub streams: Vec<PhaseStream>,
}

impl Phase {
    /// Exact number of intents.
    pub fn count(&self) -> u64 {
        self.streams.iter().map(|s| s.count).sum()
    }
}

/// Lengths of the windows that an experiment puts between `steady` and `drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultWindows {
    /// Fixed length of the fault window.
    pub fault: Time,
    /// Longest wait for healing.
    pub heal: Time,
    /// Longest recovery watch.
    pub recovery: Time,
}
