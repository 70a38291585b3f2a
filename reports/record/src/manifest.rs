//! Identity of a run.
use std::collections::BTreeMap;

use chat_protocol::limits::Timers;
use serde::{Deserialize, Serialize};

/// Version of the record's format; append-only within a version.
pub const FORMAT: u32 = 1;

/// Identity of a run: `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the record's format.
    pub format: u32,
    /// Run id.
    pub run: String,
    /// Version of the harness.
    pub version: String,
    /// Hash of the binary, so that control runs match.
    pub binary: String,
    /// Class of the host: architecture, cores, memory. No name.
    pub host: String,
    /// `embedded` or `containers`.
    pub substrate: String,
    /// Scenario.
    pub scenario: String,
    /// Experiment, when there is one.
    pub experiment: Option<String>,
    /// Arm of the experiment.
    pub arm: Option<String>,
    /// The falsifiable sentence.
    pub hypothesis: Option<String>,
    /// Hash of the resolved plan.
    pub plan_hash: String,
    /// All randomness derives from it.
    pub seed: u64,
    /// `1`, a factor or `ci`.
    pub scale: String,
    /// Known-bad variants that are switched on.
    pub variants: Vec<String>,
    /// Settings that differ from their default.
    pub settings: BTreeMap<String, String>,
    /// Timers of the running system: bounds derive from them.
    pub timers: Timers,
    /// What the servers of real backends say of their version, by name; none where the backends are embedded, or never started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, String>,
    /// Log partitions.
    pub partitions: u32,
    /// Wall clock at the start, milliseconds since 1970.
    pub started_ms: u64,
    /// Command that repeats the run.
    pub command: String,
    /// Command that judges it again: it names the folder where the run was given one.
    pub again: String,
    /// Whether somebody steered the run by hand: such a run cannot pass.
    pub steered: bool,
}
