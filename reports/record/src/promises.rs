//! What a run was asked to show: gates, expectations, recovery, conditions. Taken from the resolved scenario or experiment.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storm_workload::gate::Gate;

use crate::facts::FaultKind;

/// A gate of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Step of the method.
    pub step: String,
    /// The gate; `over` is a window, or `step` for injection to healed.
    pub gate: Gate,
}

/// A step of the method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Name.
    pub id: String,
    /// Kinds of faults it injects.
    pub kinds: Vec<FaultKind>,
}

/// What counts as recovered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// At the latest so long after everything is healed.
    pub within_ns: u64,
    /// For so long without a break.
    pub hold_ns: u64,
    /// Least share of the control's `message.on_time`.
    pub on_time: f64,
    /// Most multiple of the control's delivered p99, or 2 ms more.
    pub latency_factor: f64,
    /// Most connections on one gateway over the mean; derived from the number of gateways when left out.
    pub imbalance: Option<f64>,
}

/// Where the control run comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlWanted {
    /// There is none.
    #[default]
    None,
    /// The same plan and seed without faults.
    SameSeed,
}

/// Everything the run was asked to show: `promises.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Promises {
    /// Gates of a scenario over its phases; empty for an experiment.
    pub slo: Vec<Gate>,
    /// Gates that must hold before the method and after the recovery.
    pub steady_state: Vec<Gate>,
    /// Steps.
    pub steps: Vec<Step>,
    /// Expectations.
    pub expects: Vec<Expectation>,
    /// What counts as recovered; `None` for a scenario.
    pub recovery: Option<Recovery>,
    /// Control run.
    pub control: ControlWanted,
    /// *Sometimes*-conditions promised.
    pub sometimes: Vec<String>,
    /// Bounds of invariants that the file overrides, by name (`wire_duplicates`).
    pub bounds: BTreeMap<String, f64>,
    /// Limit of the lag guard, nanoseconds.
    pub lag_p99_ns: u64,
}
