//! The typed model of an experiment file: hypothesis, load, method, what must hold; and the shipped files.

mod check;
mod resolve;
mod summary;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use storm_faults::spec::FaultSpec;
use storm_workload::catalog::Catalog;
use storm_workload::file::{Intent, schema_of};
use storm_workload::gate::{Bound, Gate};
use storm_workload::metrics::Metric;
use storm_workload::system::SystemSpec;
use storm_workload::units::{Factor, Share, Time};

pub use resolve::{ExperimentOverrides, ResolvedExperiment, ResolvedStep, arms_of};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// The experiments inside the binary.
pub const EXPERIMENTS: Catalog = Catalog {
    kind: "experiment",
    entries: &[
        ("gateway-freeze", include_str!("../../catalog/gateway-freeze.yaml")),
        ("gateway-kill", include_str!("../../catalog/gateway-kill.yaml")),
        ("half-open-clients", include_str!("../../catalog/half-open-clients.yaml")),
        ("history-slow", include_str!("../../catalog/history-slow.yaml")),
        ("kafka-below-min-isr", include_str!("../../catalog/kafka-below-min-isr.yaml")),
        ("kafka-broker-kill", include_str!("../../catalog/kafka-broker-kill.yaml")),
        ("reconnect-storm", include_str!("../../catalog/reconnect-storm.yaml")),
        ("redis-reset", include_str!("../../catalog/redis-reset.yaml")),
        ("redis-slow", include_str!("../../catalog/redis-slow.yaml")),
        ("redis-wipe", include_str!("../../catalog/redis-wipe.yaml")),
        ("registry-cut", include_str!("../../catalog/registry-cut.yaml")),
        ("rolling-restart", include_str!("../../catalog/rolling-restart.yaml")),
        ("sequencer-freeze", include_str!("../../catalog/sequencer-freeze.yaml")),
        ("service-kill", include_str!("../../catalog/service-kill.yaml")),
        ("slow-link", include_str!("../../catalog/slow-link.yaml")),
    ],
};

/// Conditions that an experiment may promise to reach; a run counts them.
pub const SOMETIMES: &[&str] = &[
    "ack-lost-after-effect",
    "admission-refused",
    "drain-overrun",
    "duplicate-retry-answered",
    "gap-rewind",
    "relay-drained-under-live-traffic",
    "resume-gap",
    "resume-rebased",
    "routed-to-dead-route",
    "stale-route-swept",
    "stale-send-refused",
    "start-from-snapshot",
    "sweep-compare-failed",
    "two-owners-of-one-offset",
    "watermark-skip",
];

/// One experiment: what is believed, under which load, what is made wrong, what must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Version of the format: 1.
    pub format: u32,
    /// Unique name over both catalogs.
    pub name: String,
    /// One sentence that the run can prove wrong.
    pub hypothesis: String,
    /// What happens, in a sentence.
    #[serde(default)]
    pub about: String,
    /// What a run of it is for.
    #[serde(default)]
    pub intent: Intent,
    /// The number that all randomness derives from, the scenario's included.
    pub seed: u64,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Sources, printed in the report.
    #[serde(default)]
    pub cite: BTreeMap<String, String>,
    /// Where it may run.
    #[serde(default = "embedded")]
    pub substrates: Vec<Substrate>,
    /// Under which load.
    pub load: LoadSpec,
    /// Overrides of the scenario's system section.
    #[serde(default)]
    pub system: SystemSpec,
    /// What it is compared with.
    #[serde(default)]
    pub control: Control,
    /// Lengths of the windows.
    #[serde(default)]
    pub windows: Windows,
    /// Gates that hold before the method and again after recovery; the scenario's `slo` over `steady` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_state: Option<Vec<Gate>>,
    /// What is made wrong, in order.
    pub method: Vec<Step>,
    /// When the system counts as back.
    #[serde(default)]
    pub recovery: Recovery,
    /// The end of a run.
    #[serde(default, rename = "final")]
    pub final_reads: FinalReads,
    /// Overrides of bounds of invariants.
    #[serde(default)]
    pub invariants: Invariants,
    /// Conditions that the experiment promises to reach.
    #[serde(default)]
    pub sometimes: Vec<String>,
    /// Stop conditions beyond the defaults.
    #[serde(default)]
    pub stop_when: Vec<StopWhen>,
    /// Named overrides: for each arm, values by dotted path into this file. Items of lists are named by `id` or `name`; `null` takes an
    /// item away.
    #[serde(default)]
    pub arms: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    /// Overrides of the same form for one substrate, below those of an arm.
    #[serde(default)]
    pub on_substrate: BTreeMap<Substrate, BTreeMap<String, serde_json::Value>>,
}

fn embedded() -> Vec<Substrate> {
    vec![Substrate::Embedded]
}

/// Where the system runs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Substrate {
    /// In one process.
    #[default]
    Embedded,
    /// On Kafka, Redis, Cassandra and an S3 server in containers.
    Containers,
}

impl Substrate {
    /// The word in files, flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Containers => "containers",
        }
    }
}

/// The scenario behind an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// Catalog name or path of a scenario.
    pub scenario: String,
    /// Values by dotted path into the scenario.
    #[serde(default)]
    pub set: BTreeMap<String, serde_json::Value>,
    /// The scenario's `--scale`, unless the command line has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Factor>,
    /// What `--scale ci` does differently for this experiment.
    #[serde(default)]
    pub ci: CiSpec,
}

/// Deviations from the preset of `--scale ci`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CiSpec {
    /// Users instead of 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
}

/// What the experiment's figures are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// Nothing: invariants and gates that need a control are inconclusive.
    None,
    /// The same plan and seed without faults, run first in a system of its own.
    #[default]
    SameSeed,
}

/// Lengths and limits of the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Windows {
    /// Length of the steady window; the scenario's when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steady: Option<Time>,
    /// Length of the fault window; the whole method fits into it.
    pub fault: Time,
    /// Longest wait for healing.
    pub heal: Time,
    /// Longest recovery watch.
    pub recovery: Time,
    /// Longest drain.
    pub drain: Time,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            steady: None,
            fault: Time::seconds(60),
            heal: Time::seconds(30),
            recovery: Time::seconds(60),
            drain: Time::seconds(120),
        }
    }
}

/// One step of the method. It starts `at` a time of the fault window, or `after` another step has healed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique name.
    pub id: String,
    /// From the start of the fault window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// After an earlier step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// What is made wrong.
    pub fault: FaultSpec,
    /// Healed after this; by the heal phase when left out. Of a rolling restart: its limit.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<Time>,
    /// Evidence beyond what the fault demands itself: a lower bound for counters of this fault, by name.
    #[serde(default)]
    pub witness: BTreeMap<String, AtLeast>,
    /// What must hold; gates with `over: fault`, `heal` or `recovery`.
    #[serde(default)]
    pub expect: Vec<Gate>,
}

/// A start that depends on another step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// The step whose healing is waited for.
    pub step: String,
    /// And so long after it.
    #[serde(default)]
    pub plus: Time,
}

/// A lower bound of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AtLeast {
    /// Smallest count accepted; 1 or more.
    pub min: u64,
}

/// When the system counts as recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// From healed to recovered.
    pub within: Time,
    /// It stays recovered for so long.
    pub hold: Time,
    /// Share of the control's deliveries on time.
    pub on_time: Share,
    /// Multiple of the control's delivered p99.
    pub latency_factor: Factor,
    /// Most connections of one gateway over the mean; derived when it is left out: one gateway may have come back empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imbalance: Option<Factor>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            within: Time::seconds(60),
            hold: Time::seconds(30),
            on_time: Share(990_000),
            latency_factor: Factor(1_100_000),
            imbalance: None,
        }
    }
}

/// How much is read at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Read {
    /// Every conversation and queue.
    #[default]
    Full,
    /// A seeded sample.
    Sampled,
}

/// Drain and final reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FinalReads {
    /// Drained when nothing moved for so long.
    pub quiet: Time,
    /// How much is read.
    pub read: Read,
}

impl Default for FinalReads {
    fn default() -> Self {
        Self { quiet: Time::seconds(5), read: Read::Full }
    }
}

/// Changes of invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Invariants {
    /// Bounds that differ from the derived ones.
    pub bounds: Bounds,
}

/// Bounds of invariants that a file may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Share of deliveries that reach a device a second time on one connection (M4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire_duplicates: Option<Share>,
    /// Attempts a send, times the control run's, that A1 allows; 1.5 unless an outage is longer than the client's retry timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_a_send: Option<Factor>,
    /// Attempts to connect for each connection that was cut, which A1 allows; 1.5 unless nodes refuse devices for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_a_cut: Option<Factor>,
    /// Operations and bytes of a port a delivery, times the control run's, which A1 allows; 1.5 unless sends are repeated for long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_a_delivery: Option<Factor>,
    /// The same in the busiest second, times the control run's mean; 3 unless much is made good at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_peak: Option<Factor>,
}

/// Ends a run early: heal, drain, judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopWhen {
    /// The series.
    pub metric: Metric,
    /// Its p99, share or count above this.
    pub above: Bound,
    /// Without a break for so long.
    #[serde(rename = "for")]
    pub for_: Time,
}

/// The JSON Schema of experiment files, pretty-printed.
pub fn experiment_schema() -> String {
    schema_of::<Experiment>()
}

#[cfg(test)]
mod tests;
