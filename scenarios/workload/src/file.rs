//! The typed model of a scenario file, its inheritance and its JSON Schema.

mod check;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::distribution::{Distribution, Range};
use crate::document::{Document, FileError, FileErrors};
use crate::gate::Gate;
use crate::system::SystemSpec;
use crate::units::{Factor, Rate, Share, SharePerMinute, Size, Time};

/// The version of the format.
pub const FORMAT: u32 = 1;
/// Files that may stand above one another through `extends`.
const EXTENDS_MAX: usize = 4;
/// Bytes that every message body carries before its filler: stamps, number, canary, checksum.
pub const PAYLOAD_MIN: u64 = 48;
/// The largest body.
pub const PAYLOAD_MAX: u64 = 64 * 1024;
/// The longest deadline: the ceiling of the histograms.
pub const DEADLINE_MAX: Time = Time::seconds(120);
/// Devices that one process carries.
pub const DEVICES_MAX: u64 = 1_000_000;
/// Devices of one user; an index is one byte and routes are bounded.
pub const DEVICES_PER_USER_MAX: u8 = 16;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Pass or fail a change.
    #[default]
    Gate,
    /// Find a limit.
    Capacity,
    /// Show something.
    Demo,
    /// Run for long.
    Soak,
}

/// One scenario: a system, who uses it, how fast, and what must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Version of the format: 1.
    pub format: u32,
    /// Unique name.
    pub name: String,
    /// What it shows, in a sentence.
    #[serde(default)]
    pub about: String,
    /// What a run of it is for.
    #[serde(default)]
    pub intent: Intent,
    /// The number that all randomness derives from.
    pub seed: u64,
    /// Sources of the figures, printed in the report.
    #[serde(default)]
    pub cite: BTreeMap<String, String>,
    /// A parent: this file is laid over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// The system under test.
    #[serde(default)]
    pub system: SystemSpec,
    /// Who uses it.
    pub population: PopulationSpec,
    /// How devices come and go.
    #[serde(default)]
    pub sessions: SessionsSpec,
    /// What is sent, by stream name in alphabetical order.
    pub streams: BTreeMap<String, StreamSpec>,
    /// The windows of a run in order.
    pub phases: Vec<PhaseSpec>,
    /// What must hold.
    #[serde(default)]
    pub slo: Vec<Gate>,
    /// Limits under which figures count at all.
    #[serde(default)]
    pub guards: Guards,
}

/// Users, their devices and whom they write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PopulationSpec {
    /// Simulated people.
    pub users: u32,
    /// Share of users by number of devices.
    #[serde(default = "one_device")]
    pub devices: BTreeMap<u8, Share>,
    /// Share of users that the plan has online; the others connect in the drain phase only.
    #[serde(default = "everybody")]
    pub online: Share,
    /// Users of one community; contacts stay inside it.
    #[serde(default = "community")]
    pub community: u32,
    /// How many contacts a user has.
    #[serde(default = "contacts")]
    pub contacts: Distribution<u32>,
}

fn one_device() -> BTreeMap<u8, Share> {
    BTreeMap::from([(1, Share::ALL)])
}

const fn everybody() -> Share {
    Share::ALL
}

const fn community() -> u32 {
    500
}

const fn contacts() -> Distribution<u32> {
    Distribution::Uniform(Range { min: 3, max: 30 })
}

/// How devices come and go by plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsSpec {
    /// Connections opened a second in the connect phase.
    pub connect: Rate,
    /// Share of devices that leave cleanly each minute and come back.
    pub churn: SharePerMinute,
    /// How long such a device stays away.
    pub away: Distribution<Time>,
}

impl Default for SessionsSpec {
    fn default() -> Self {
        Self {
            connect: Rate::per_second(800),
            churn: SharePerMinute(0),
            away: Distribution::Uniform(Range { min: Time::seconds(5), max: Time::seconds(20) }),
        }
    }
}

/// How intended starts are spread in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Evenly.
    Uniform,
    /// As independent people do: exponential gaps, exact total.
    #[default]
    Poisson,
}

/// A named part of the load: direct messages at a rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Sends a second of the whole system at load 1.0.
    pub rate: Rate,
    /// How they are spread.
    #[serde(default)]
    pub arrival: Arrival,
    /// After this a message counts as not delivered in time.
    #[serde(default = "deadline")]
    pub deadline: Time,
    /// Size of the body; at least 48 B, which hold stamps and number.
    #[serde(default = "payload")]
    pub payload: Distribution<Size>,
}

const fn deadline() -> Time {
    Time::seconds(30)
}

const fn payload() -> Distribution<Size> {
    Distribution::Const(Size(200))
}

/// What a window is for. Gates judge by it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseRole {
    /// Before anything is judged.
    WarmUp,
    /// The judged window.
    Steady,
    /// More than usual, judged apart.
    Stress,
    /// Load has ended; what is owed is delivered.
    Drain,
}

/// When a phase with `until` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// All devices that the plan has online are connected.
    Connected,
    /// The steady guard holds.
    Steady,
    /// Nothing is owed and nothing moves.
    Settled,
}

/// Load of a phase in multiples of the streams' rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Nothing is sent.
    #[default]
    None,
    /// The same all the time.
    Hold(Factor),
    /// Rising or falling evenly.
    Ramp(Ramp),
}

/// From one multiple to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// At the start.
    pub from: Factor,
    /// At the end.
    pub to: Factor,
}

/// One window of a run. It lasts `for` a time, or `until` a condition with a `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    /// Unique name.
    pub name: String,
    /// What it is for.
    pub role: PhaseRole,
    /// Fixed length.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<Time>,
    /// Ends by a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Longest time the condition is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Time>,
    /// What is sent meanwhile.
    #[serde(default)]
    pub load: Load,
}

/// Limits under which the figures of a run count at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// 99th percentile of the scheduler's own lateness in each measured window.
    pub lag_p99: Time,
}

impl Default for Guards {
    fn default() -> Self {
        Self { lag_p99: Time::millis(5) }
    }
}

/// The JSON Schema of scenario files, pretty-printed.
pub fn scenario_schema() -> String {
    schema_of::<Scenario>()
}

/// The JSON Schema of any model, pretty-printed with a line end.
pub fn schema_of<T: JsonSchema>() -> String {
    let schema = schemars::schema_for!(T);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// Reads a scenario and everything above it, by catalog name or path, before overrides.
///
/// # Errors
/// The file is missing, is no YAML, inherits from itself or too deep, or takes a catalog name.
pub fn read_scenario(name: &str, catalog: &Catalog) -> Result<Document, FileErrors> {
    let mut seen = Vec::new();
    let mut document: Option<Document> = None;
    let mut next = Some(name.to_owned());
    while let Some(name) = next {
        let mut read = Document::read(&catalog.source(&name)?)?;
        catalog.refuse_taken_name(&name, &read)?;
        next = None;
        if let Some(parent) = read.root.take("extends") {
            let wrong =
                |message: String| FileErrors::from(FileError::new(message, parent.at.clone()));
            let Some(above) = parent.text() else {
                return Err(wrong("`extends` names one scenario".to_owned()));
            };
            if above == name || seen.iter().any(|s| s == above) {
                return Err(wrong(format!("`{above}` inherits from itself")));
            }
            if seen.len() + 1 >= EXTENDS_MAX {
                return Err(wrong(format!(
                    "more than {EXTENDS_MAX} files inherit from one another"
                )));
            }
            next = Some(above.to_owned());
        }
        seen.push(name);
        document = Some(match document.take() {
            Some(below) => below.over(read),
            None => read,
        });
    }
    Ok(document.expect("the loop reads at least one file"))
}

/// What `over` may name: every phase, and the roles.
pub fn window_names<'a>(phases: &[&'a str]) -> Vec<&'a str> {
    let mut names = phases.to_vec();
    for role in ["warm-up", "steady", "stress", "drain"] {
        if !names.contains(&role) {
            names.push(role);
        }
    }
    names
}
