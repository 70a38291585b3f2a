//! Everything a judge says, as one serialisable value in a fixed order.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Outcome};
use crate::verdict::{Reason, Verdict};

/// Name and version of the report's schema.
pub const SCHEMA: &str = "chatstorm.report/1";

/// A figure with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// A time, nanoseconds.
    Ns(u64),
    /// A time that falls among censored samples: at least so many nanoseconds.
    AtLeast(u64),
    /// A share, a count or an index.
    Number(f64),
}

impl Quantity {
    /// The value as a number: nanoseconds for times.
    #[expect(clippy::cast_precision_loss, reason = "times of a run are below 2^52 ns")]
    pub fn value(self) -> f64 {
        match self {
            Self::Ns(ns) | Self::AtLeast(ns) => ns as f64,
            Self::Number(number) => number,
        }
    }
}

impl From<storm_record::series::Figure> for Quantity {
    fn from(figure: storm_record::series::Figure) -> Self {
        match figure {
            storm_record::series::Figure::Is(ns) => Self::Ns(ns),
            storm_record::series::Figure::AtLeast(ns) => Self::AtLeast(ns),
        }
    }
}

/// Which run this is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// Run id.
    pub run: String,
    /// Version of the harness.
    pub version: String,
    /// `embedded` or `containers`.
    pub substrate: String,
    /// Scenario.
    pub scenario: String,
    /// Experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// Arm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Seed.
    pub seed: u64,
    /// Scale.
    pub scale: String,
    /// Hash of the resolved plan.
    pub plan_hash: String,
    /// Hash of the binary.
    pub binary: String,
    /// Class of the host.
    pub host: String,
    /// Known-bad variants.
    pub variants: Vec<String>,
    /// Settings that differ from their default.
    pub settings: BTreeMap<String, String>,
    /// What the servers of real backends say of their version, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, String>,
    /// Wall clock at the start, milliseconds since 1970.
    pub started_ms: u64,
}

/// What became of the hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hypothesis {
    /// Steady before and after, and everything expected was seen.
    Held,
    /// Steady before and not after, or an expectation was missed.
    Deviated,
    /// The steady state never held.
    NotEstablished,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateResult {
    /// Its name.
    pub name: String,
    /// `slo`, `steady-state`, `steady-state after recovery`, or the step it belongs to.
    pub of: String,
    /// Metric.
    pub metric: String,
    /// Figure of it.
    pub stat: String,
    /// Window, with path and blast where they are given.
    pub over: String,
    /// The bound in words, for example `<= 250ms`.
    pub bound: String,
    /// The bound as it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Quantity>,
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Quantity>,
    /// Samples behind it.
    pub samples: u64,
    /// What it ended as.
    pub outcome: Outcome,
    /// Why nothing can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether a miss fails the run; otherwise it is only reported.
    pub fails: bool,
}

/// One validity guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuardResult {
    /// Its name.
    pub name: String,
    /// Value and limit in words.
    pub shows: String,
    /// Whether the limit was passed.
    pub tripped: bool,
    /// What a tripped guard means for gates.
    pub reason: Reason,
    /// Whether it speaks against the generator.
    pub counts_for_generator: bool,
}

/// One row of the latency table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyRow {
    /// Window.
    pub window: String,
    /// Metric.
    pub metric: String,
    /// Path; `all` for the headline.
    pub path: String,
    /// `response` or `service`.
    pub basis: String,
    /// Samples.
    pub samples: u64,
    /// Censored samples.
    pub censored: u64,
    /// Median.
    pub p50: Quantity,
    /// 99th percentile.
    pub p99: Quantity,
    /// 99.9th percentile.
    pub p999: Quantity,
    /// Largest.
    pub max: Quantity,
}

/// Rates of one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowRow {
    /// Name of the phase.
    pub window: String,
    /// Its kind.
    pub kind: String,
    /// Begin, milliseconds since the run's start.
    pub from_ms: u64,
    /// Length, milliseconds.
    pub len_ms: u64,
    /// Sends due.
    pub offered: u64,
    /// Sends fired.
    pub fired: u64,
    /// Sends written.
    pub written: u64,
    /// Sends accepted.
    pub accepted: u64,
    /// First surfacings.
    pub delivered: u64,
    /// Sends refused.
    pub rejected: u64,
    /// Sends without answer.
    pub unknown: u64,
    /// Sends never written by the generator's own limits.
    pub dropped: u64,
    /// Share of due sends delivered by the deadline.
    pub goodput: Option<f64>,
    /// Share of due sends delivered within one second.
    pub on_time: Option<f64>,
    /// Connection attempts.
    pub connects: u64,
}

/// The ledger line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerReport {
    /// Messages of the plan in windows that began.
    pub planned: u64,
    /// Written.
    pub submitted: u64,
    /// Answered by `sent`.
    pub accepted: u64,
    /// Definitely refused.
    pub rejected: u64,
    /// Without answer.
    pub unknown: u64,
    /// Deliveries owed.
    pub owed: u64,
    /// Deliveries seen.
    pub delivered: u64,
    /// Deliveries lost.
    pub lost: u64,
    /// Second surfacings.
    pub duplicate: u64,
    /// Bodies of no message of the run.
    pub phantom: u64,
    /// Messages on devices that are no recipients.
    pub leaked: u64,
    /// Bodies that were changed.
    pub corrupted: u64,
    /// Live deliveries out of order, and overtaken sends.
    pub reordered: u64,
    /// Items that came again on the wire and were discarded.
    pub wire_duplicates: u64,
    /// Retries answered with the first answer.
    pub answered_again: u64,
    /// First surfacings from history.
    pub backfilled: u64,
    /// `delivered` receipts.
    pub receipts: u64,
    /// Refusals by code.
    pub rejects: BTreeMap<String, u64>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultReport {
    /// Step.
    pub step: String,
    /// Kind.
    pub kind: String,
    /// Targets in words.
    pub targets: Vec<String>,
    /// Injected, milliseconds since the run's start.
    pub injected_ms: Option<u64>,
    /// Seen to bite.
    pub witnessed_ms: Option<u64>,
    /// First reaction of the system, milliseconds after injection.
    pub detected_ms: Option<u64>,
    /// Healing began.
    pub healing_ms: Option<u64>,
    /// Seen to be gone.
    pub healed_ms: Option<u64>,
    /// Evidence, a line each: counter, before, after, required.
    pub evidence: Vec<String>,
    /// Evidence of the healing.
    pub healing: Vec<String>,
    /// What went wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryReport {
    /// Everything healed, milliseconds since the run's start.
    pub healed_ms: u64,
    /// From then on recovered, milliseconds after healing.
    pub took_ms: Option<u64>,
    /// Limit.
    pub within_ms: u64,
}

/// CPU of one group of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuGroup {
    /// `generator`, `gateways`, `services`, `balancers`, `backends`, `judge`, `other`.
    pub group: String,
    /// CPU seconds in the steady windows.
    pub cpu_s: f64,
    /// Cores used on average.
    pub cores: f64,
    /// Microseconds a send.
    pub us_a_send: f64,
    /// Busiest thread and its share of a core.
    pub busiest: String,
    /// Cores of each thread, or of each container where it is one, by name.
    #[serde(default)]
    pub parts: BTreeMap<String, f64>,
}

/// How much a real backend gets at a time: it pays for requests more than for what is in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchRow {
    /// `kafka`, `cassandra`, `redis`.
    pub backend: String,
    /// What is counted: `records a batch`, `rows a request`, `items a script`.
    pub unit: String,
    /// So many on average over the steady windows.
    pub mean: f64,
    /// Batches, requests or scripts a second.
    pub a_second: f64,
}

/// The control run beside this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ControlReport {
    /// Its run id.
    pub run: String,
    /// Whether its steady window agrees with this one's, and otherwise why not.
    pub agrees: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Goodput in the steady windows: control, this.
    pub goodput: (f64, f64),
    /// Delivered p99 in the steady windows: control, this.
    pub delivered_p99: (Option<Quantity>, Option<Quantity>),
}

/// A condition that should be reached sometimes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// How often it was reached.
    pub reached: u64,
    /// Whether the file promises it.
    pub promised: bool,
}

/// Commands for the reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Commands {
    /// Repeats the run.
    pub repeat: String,
    /// Judges it again.
    pub again: String,
}

/// What a judge says about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Exit code.
    pub exit_code: u8,
    /// Why nothing can be said, sorted.
    pub reasons: Vec<Reason>,
    /// The verdict in one sentence.
    pub headline: String,
    /// The falsifiable sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypothesis: Option<String>,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypothesis_is: Option<Hypothesis>,
    /// Which run.
    pub identity: Identity,
    /// Invariants and validity checks, in a fixed order.
    pub findings: Vec<Finding>,
    /// Gates.
    pub gates: Vec<GateResult>,
    /// Validity guards.
    pub guards: Vec<GuardResult>,
    /// Windows.
    pub windows: Vec<WindowRow>,
    /// Latencies.
    pub latency: Vec<LatencyRow>,
    /// Ledger.
    pub ledger: LedgerReport,
    /// Faults.
    pub faults: Vec<FaultReport>,
    /// Recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryReport>,
    /// CPU.
    pub cpu: Vec<CpuGroup>,
    /// Batches of real backends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<BatchRow>,
    /// Control run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlReport>,
    /// Conditions.
    pub coverage: Vec<Condition>,
    /// Parts of the record that could not be read.
    pub damaged: Vec<String>,
    /// Commands.
    pub commands: Commands,
}

/// JSON Schema of the report.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Report)
}
