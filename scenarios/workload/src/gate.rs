//! Gates: one numeric limit on one metric over one window, shared by scenarios (`slo`) and experiments (`expect`).

mod check;

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::metrics::{Kind, Metric};
use crate::units::{Factor, Share, Time};

pub use check::{GateContext, check_gates};

/// Samples below which a gate on samples is undecided, unless it says otherwise.
pub const MIN_SAMPLES: u64 = 500;
/// A latency gate must lie at least this many times above the lag guard, or the generator's own error could decide it.
pub const LAG_GUARD_FACTOR: u64 = 20;

/// Which figure of the series is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stat {
    /// Median.
    #[serde(rename = "p50")]
    P50,
    /// 90th percentile.
    #[serde(rename = "p90")]
    P90,
    /// 99th percentile.
    #[serde(rename = "p99")]
    P99,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    P999,
    /// 99.99th percentile.
    #[serde(rename = "p99.99")]
    P9999,
    /// Largest value.
    #[serde(rename = "max")]
    Max,
    /// Arithmetic mean.
    #[serde(rename = "mean")]
    Mean,
    /// A second.
    #[serde(rename = "rate")]
    Rate,
    /// Share of the whole.
    #[serde(rename = "share")]
    Share,
    /// Number of events.
    #[serde(rename = "count")]
    Count,
}

impl Stat {
    /// The quantile as parts in ten thousand, for percentiles.
    pub const fn quantile_e4(self) -> Option<u32> {
        match self {
            Stat::P50 => Some(5_000),
            Stat::P90 => Some(9_000),
            Stat::P99 => Some(9_900),
            Stat::P999 => Some(9_990),
            Stat::P9999 => Some(9_999),
            _ => None,
        }
    }

    /// The word in files.
    pub const fn name(self) -> &'static str {
        match self {
            Stat::P50 => "p50",
            Stat::P90 => "p90",
            Stat::P99 => "p99",
            Stat::P999 => "p99.9",
            Stat::P9999 => "p99.99",
            Stat::Max => "max",
            Stat::Mean => "mean",
            Stat::Rate => "rate",
            Stat::Share => "share",
            Stat::Count => "count",
        }
    }
}

/// The limit itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// A time.
    Time(Time),
    /// A bare number or a share.
    Number(f64),
    /// Computed from the timers of the running system.
    Derived,
}

impl Bound {
    /// Nanoseconds of a time bound.
    pub const fn time(self) -> Option<Time> {
        match self {
            Bound::Time(time) => Some(time),
            _ => None,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Time(time) => time.fmt(f),
            Bound::Number(number) => number.fmt(f),
            Bound::Derived => f.write_str("derived"),
        }
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Bound::Number(number) => serializer.serialize_f64(*number),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoundVisitor;
        impl Visitor<'_> for BoundVisitor {
            type Value = Bound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a bound such as `250ms`, `5%`, `0.999` or `derived`")
            }

            fn visit_u64<E>(self, v: u64) -> Result<Bound, E> {
                #[expect(clippy::cast_precision_loss, reason = "bounds are small numbers")]
                let number = v as f64;
                Ok(Bound::Number(number))
            }

            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Bound, E> {
                if v.is_finite() && v >= 0.0 {
                    Ok(Bound::Number(v))
                } else {
                    Err(E::custom("a bound is a number from 0 up"))
                }
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Bound, E> {
                if v == "derived" {
                    return Ok(Bound::Derived);
                }
                if v.ends_with('%') {
                    return Share::parse(v)
                        .map(|s| Bound::Number(f64::from(s.0) / 1e6))
                        .map_err(E::custom);
                }
                Time::parse(v).map(Bound::Time).map_err(|_| {
                    E::custom(format!(
                        "`{v}` is no bound: write it as `250ms`, `5%`, `0.999` or `derived`"
                    ))
                })
            }
        }
        deserializer.deserialize_any(BoundVisitor)
    }
}

impl JsonSchema for Bound {
    fn schema_name() -> Cow<'static, str> {
        "Bound".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A limit: a time, a share, a number, or `derived` from the system's own timers.",
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^(derived|[0-9]+(\.[0-9]+)?\s*(%|h|min|m|s|ms|us|ns))$"}
            ]
        })
    }
}

/// The way a message took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Sender and recipient sit on one gateway.
    SameNode,
    /// They sit on different gateways.
    CrossNode,
    /// The recipient had no connection at accept.
    Relay,
}

/// Inside or outside the blast radius of the active fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Blast {
    /// Sender or recipient sat on an affected unit.
    In,
    /// Neither did.
    Out,
}

/// What a missed gate means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The run fails.
    #[default]
    Fail,
    /// The report says so.
    Warn,
}

/// One rule on one metric. Exactly one of `min`, `max` and `max_factor` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Unique name in its list.
    pub name: String,
    /// The series.
    pub metric: Metric,
    /// Which figure of it.
    pub stat: Stat,
    /// Smallest value allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Bound>,
    /// Largest value allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Bound>,
    /// Largest multiple of the baseline's value allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_factor: Option<Factor>,
    /// What `max_factor` multiplies: a phase of this run, or `control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// The phase or role that is judged; `steady` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// Sliding window; the worst one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Time>,
    /// Only messages that took this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Only messages inside or outside the blast radius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blast: Option<Blast>,
    /// Samples below which the gate is undecided; 500 for latencies when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_samples: Option<u64>,
    /// What a miss means.
    #[serde(default)]
    pub severity: Severity,
}

impl Gate {
    /// The window judged.
    pub fn over(&self) -> &str {
        self.over.as_deref().unwrap_or("steady")
    }

    /// Samples that a latency gate needs to be decided.
    pub fn samples_needed(&self) -> u64 {
        match self.metric.kind() {
            Kind::Latency => self.min_samples.unwrap_or(MIN_SAMPLES),
            _ => self.min_samples.unwrap_or(0),
        }
    }
}
