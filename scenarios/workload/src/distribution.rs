//! Distributions of sizes, counts and times, drawn in integer arithmetic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::draw::Key;
use crate::fixed::{log_2, scale_exp_2};
use crate::units::{Factor, MILLION, Share};

/// A distribution as a file states it, over values of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "kebab-case",
    bound(deserialize = "T: Deserialize<'de> + Ord", serialize = "T: Serialize + Ord")
)]
pub enum Distribution<T> {
    /// Always the same.
    Const(T),
    /// Every value from `min` to `max` equally likely.
    Uniform(Range<T>),
    /// Many small, few large: the logarithm is normal, cut at `max`.
    Lognormal(Lognormal<T>),
    /// Value v with weight v^-exponent.
    Zipf(Zipf<T>),
    /// Named values with shares that sum to one.
    Choice(BTreeMap<T, Share>),
}

/// A closed range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range<T> {
    /// Smallest value.
    pub min: T,
    /// Largest value.
    pub max: T,
}

/// A log-normal distribution by two of its quantiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lognormal<T> {
    /// Half of the values lie below.
    pub median: T,
    /// 95 % of the values lie below.
    pub p95: T,
    /// Larger draws become this.
    pub max: T,
}

/// A bounded Zipf distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zipf<T> {
    /// Smallest value.
    pub min: T,
    /// Largest value.
    pub max: T,
    /// How quickly larger values become rare.
    pub exponent: Factor,
}

/// Values of a Zipf distribution are tabulated; more are refused.
const ZIPF_VALUES_MAX: u64 = 65_536;
/// The 95 % point of the standard normal distribution, in millionths.
const NORMAL_P95_MILLIONTHS: i64 = 1_644_854;

impl<T: Copy + Into<u64> + Ord> Distribution<T> {
    /// What makes the distribution impossible, if anything.
    pub fn fault(&self) -> Option<String> {
        match self {
            Distribution::Const(_) => None,
            Distribution::Uniform(r) => {
                (r.min > r.max).then(|| "`min` lies above `max`".to_owned())
            }
            Distribution::Lognormal(l) => {
                if l.median.into() == 0 {
                    Some("`median` must be above 0".to_owned())
                } else if l.median > l.p95 || l.p95 > l.max {
                    Some("`median`, `p95` and `max` must rise".to_owned())
                } else {
                    None
                }
            }
            Distribution::Zipf(z) => {
                let (min, max) = (z.min.into(), z.max.into());
                if min == 0 || min > max {
                    Some("`min` must be from 1 to `max`".to_owned())
                } else if max - min >= ZIPF_VALUES_MAX {
                    Some(format!("more than {ZIPF_VALUES_MAX} values"))
                } else {
                    None
                }
            }
            Distribution::Choice(choices) => shares_fault(choices.values()),
        }
    }

    /// The same distribution over changed values.
    #[must_use]
    pub fn map(&self, change: impl Fn(T) -> T) -> Self {
        match self {
            Distribution::Const(v) => Distribution::Const(change(*v)),
            Distribution::Uniform(r) => {
                Distribution::Uniform(Range { min: change(r.min), max: change(r.max) })
            }
            Distribution::Lognormal(l) => Distribution::Lognormal(Lognormal {
                median: change(l.median),
                p95: change(l.p95),
                max: change(l.max),
            }),
            Distribution::Zipf(z) => {
                Distribution::Zipf(Zipf { min: change(z.min), max: change(z.max), ..*z })
            }
            Distribution::Choice(choices) => Distribution::Choice(
                choices.iter().map(|(v, share)| (change(*v), *share)).collect(),
            ),
        }
    }

    /// The form that draws quickly. Call only when [`Distribution::fault`] is none.
    pub fn sampler(&self) -> Sampler {
        match self {
            Distribution::Const(v) => Sampler::Uniform { min: (*v).into(), len: 1 },
            Distribution::Uniform(r) => {
                let (min, max) = (r.min.into(), r.max.into());
                Sampler::Uniform { min, len: (max - min).saturating_add(1) }
            }
            Distribution::Lognormal(l) => {
                let (median, p95) = (l.median.into(), l.p95.into());
                let span = i64::try_from(log_2(p95) - log_2(median)).unwrap_or(i64::MAX);
                Sampler::Lognormal { median, max: l.max.into(), log_2_p95_q32: span }
            }
            Distribution::Zipf(z) => {
                let (min, max) = (z.min.into(), z.max.into());
                let exponent = z.exponent.0;
                let weight = |v: u64| {
                    let relative = log_2(v) - log_2(min);
                    let power = u128::from(relative) * u128::from(exponent) / u128::from(MILLION);
                    scale_exp_2(1 << 40, -i64::try_from(power).unwrap_or(i64::MAX)).max(1)
                };
                Sampler::table((min..=max).map(|v| (v, weight(v))))
            }
            Distribution::Choice(choices) => {
                Sampler::table(choices.iter().map(|(v, share)| ((*v).into(), u64::from(share.0))))
            }
        }
    }

    /// The largest value that can be drawn.
    pub fn largest(&self) -> u64 {
        match self {
            Distribution::Const(v) => (*v).into(),
            Distribution::Uniform(r) => r.max.into(),
            Distribution::Lognormal(l) => l.max.into(),
            Distribution::Zipf(z) => z.max.into(),
            Distribution::Choice(choices) => choices.keys().max().map_or(0, |v| (*v).into()),
        }
    }

    /// The smallest value that can be drawn, as far as the file states it.
    pub fn smallest(&self) -> u64 {
        match self {
            Distribution::Const(v) => (*v).into(),
            Distribution::Uniform(r) => r.min.into(),
            Distribution::Lognormal(_) => 0,
            Distribution::Zipf(z) => z.min.into(),
            Distribution::Choice(choices) => choices.keys().min().map_or(0, |v| (*v).into()),
        }
    }
}

/// What is wrong with shares that must sum to one.
pub fn shares_fault<'a>(shares: impl IntoIterator<Item = &'a Share>) -> Option<String> {
    let sum: u64 = shares.into_iter().map(|s| u64::from(s.0)).sum();
    (sum != MILLION).then(|| {
        format!("the shares sum to {}, not to 1", Share(u32::try_from(sum).unwrap_or(u32::MAX)))
    })
}

/// A distribution ready to draw from.
#[derive(Debug, Clone)]
pub enum Sampler {
    /// `min` to `min + len - 1`.
    Uniform {
        /// Smallest value.
        min: u64,
        /// Number of values.
        len: u64,
    },
    /// `median * 2^(z * log_2_p95 / 1.645)`, cut at `max`.
    Lognormal {
        /// Median.
        median: u64,
        /// Largest value.
        max: u64,
        /// log2(p95 / median) in Q32.
        log_2_p95_q32: i64,
    },
    /// Values with cumulative weights.
    Table {
        /// The values.
        values: Vec<u64>,
        /// For each value the sum of the weights up to and with it.
        cumulative: Vec<u64>,
    },
}

impl Sampler {
    fn table(pairs: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut sum = 0_u64;
        let (values, cumulative) = pairs
            .map(|(value, weight)| {
                sum = sum.saturating_add(weight);
                (value, sum)
            })
            .unzip();
        Self::Table { values, cumulative }
    }

    /// The draw of item `index`; uses lanes `lane` and the two after it.
    #[inline]
    pub fn draw(&self, key: Key, index: u64, lane: u64) -> u64 {
        match self {
            Sampler::Uniform { min, len } => min + key.below(index, lane, *len),
            Sampler::Lognormal { median, max, log_2_p95_q32 } => {
                let z = normal_q16(key, index, lane);
                let exponent = i128::from(*log_2_p95_q32) * i128::from(z) * i128::from(MILLION)
                    / (i128::from(NORMAL_P95_MILLIONTHS) << 16);
                scale_exp_2(*median, i64::try_from(exponent).unwrap_or(i64::MAX)).min(*max)
            }
            Sampler::Table { values, cumulative } => {
                let Some(total) = cumulative.last() else { return 0 };
                let at = key.below(index, lane, *total);
                let ix = cumulative.partition_point(|sum| *sum <= at);
                values.get(ix).copied().unwrap_or(0)
            }
        }
    }
}

/// A standard normal draw in Q16: the sum of twelve uniforms less six, which is close enough up to three deviations.
#[inline]
fn normal_q16(key: Key, index: u64, lane: u64) -> i64 {
    let mut sum = 0_i64;
    for word in 0..3 {
        let mut bits = key.bits(index, lane + word);
        for _ in 0..4 {
            sum += i64::from(u16::try_from(bits & 0xFFFF).expect("sixteen bits fit"));
            bits >>= 16;
        }
    }
    sum - (6 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Size;

    #[test]
    fn lognormal_quantiles_are_those_of_the_file() {
        let spec = Distribution::Lognormal(Lognormal {
            median: Size(120),
            p95: Size(900),
            max: Size(16_384),
        });
        assert_eq!(spec.fault(), None);
        let sampler = spec.sampler();
        let key = Key::new(1, "size");
        let mut draws: Vec<u64> = (0..20_000).map(|k| sampler.draw(key, k, 0)).collect();
        draws.sort_unstable();
        assert!((114..=126).contains(&draws[10_000]), "{}", draws[10_000]);
        assert!((820..=980).contains(&draws[19_000]), "{}", draws[19_000]);
    }

    #[test]
    fn zipf_prefers_small_values_and_choice_keeps_its_shares() {
        let zipf =
            Distribution::Zipf(Zipf { min: Size(3), max: Size(150), exponent: Factor(1_800_000) })
                .sampler();
        let key = Key::new(1, "contacts");
        let draws: Vec<u64> = (0..10_000).map(|k| zipf.draw(key, k, 0)).collect();
        let three = draws.iter().filter(|v| **v == 3).count();
        assert!((2_150..2_650).contains(&three), "{three}");
        assert!(draws.iter().all(|v| (3..=150).contains(v)));
        let choice = Distribution::Choice(BTreeMap::from([
            (Size(1), Share(750_000)),
            (Size(2), Share(200_000)),
        ]));
        assert!(choice.fault().is_some_and(|f| f.contains("0.95")));
    }
}
