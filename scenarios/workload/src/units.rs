//! Numbers with units, as strings in files and as exact integers in memory.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// One million, the denominator of shares and rates.
pub const MILLION: u64 = 1_000_000;

/// A length of time in whole nanoseconds: `250ms`, `30s`, `1.5m`, `4h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time(pub u64);

/// Events a second in millionths: `18k/s`, `5.4k/s`, `600/m`, `1/30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Rate(pub u64);

/// A size in bytes: `120B`, `2KiB`, `500kB`, `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Size(pub u64);

/// A share of a whole in millionths: `5%` or `0.05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Share(pub u32);

/// A share a minute in millionths: `2%/min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct SharePerMinute(pub u32);

/// A plain factor in millionths: `0.3`, `1`, `2.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Factor(pub u64);

const TIME_UNITS: &[(&str, u64)] = &[
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a decimal such as `5.4` exactly, times `scale`; None when it is no number, too fine or too large.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty()
        || fraction.len() > 12
        || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return None;
    }
    let ten_to = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(u128::from(scale))?;
    if !scaled.is_multiple_of(ten_to) {
        return None;
    }
    u64::try_from(scaled / ten_to).ok()
}

/// Splits `250ms` into number and unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (text[..end].trim(), text[end..].trim())
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = split(text);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    decimal(number, *scale)
}

/// The shortest exact way to write `value` in one of `units`, which run from large to small.
fn shortest(value: u64, units: &[(&str, u64)]) -> String {
    let (name, scale) = units
        .iter()
        .find(|(name, scale)| *name != "m" && value >= *scale && value.is_multiple_of(*scale))
        .or(units.last())
        .expect("every unit table has entries");
    format!("{}{name}", value / scale)
}

/// A number of millionths without trailing zeros.
fn millionths(value: u64) -> String {
    let text = format!("{}.{:06}", value / MILLION, value % MILLION);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn parse_rate(text: &str) -> Option<u64> {
    let (count, per) = text.split_once('/')?;
    let (number, prefix) = split(count.trim());
    let scale = match prefix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        _ => return None,
    };
    let count = decimal(number, scale * MILLION)?;
    let (number, unit) = split(per.trim());
    let (_, unit_ns) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    let per_ns = if number.is_empty() { *unit_ns } else { decimal(number, *unit_ns)? };
    if per_ns == 0 {
        return None;
    }
    u64::try_from(u128::from(count) * 1_000_000_000 / u128::from(per_ns)).ok()
}

fn parse_share(text: &str) -> Option<u32> {
    let share = match text.strip_suffix('%') {
        Some(number) => decimal(number.trim(), MILLION / 100)?,
        None => decimal(text, MILLION)?,
    };
    u32::try_from(share).ok().filter(|share| u64::from(*share) <= MILLION)
}

fn parse_share_per_minute(text: &str) -> Option<u32> {
    let number = text.strip_suffix("/min").or_else(|| text.strip_suffix("/m"))?;
    parse_share(number.trim())
}

fn number_text(v: f64) -> String {
    format!("{v}")
}

macro_rules! unit {
    ($name:ident, $inner:ty, $example:literal, $what:literal, $pattern:literal, bare: $bare:expr, $parse:expr, $show:expr) => {
        impl $name {
            /// Reads the text form.
            ///
            /// # Errors
            /// Says what was expected and how to write it.
            pub fn parse(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Option<$inner> = $parse;
                parse(text.trim())
                    .map($name)
                    .ok_or_else(|| format!("`{text}` is not {}: write it as `{}`", $what, $example))
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn($inner) -> String = $show;
                f.write_str(&show(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct UnitVisitor;
                impl UnitVisitor {
                    fn bare<E: de::Error>(text: &str) -> Result<$name, E> {
                        if $bare {
                            $name::parse(text).map_err(E::custom)
                        } else {
                            Err(E::custom(format!(
                                "`{text}` has no unit: {} is written as `{}`",
                                $what, $example
                            )))
                        }
                    }
                }
                impl Visitor<'_> for UnitVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "{} such as `{}`", $what, $example)
                    }
                    fn visit_str<E: de::Error>(self, v: &str) -> Result<$name, E> {
                        $name::parse(v).map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, v: u64) -> Result<$name, E> {
                        Self::bare(&v.to_string())
                    }
                    fn visit_i64<E: de::Error>(self, v: i64) -> Result<$name, E> {
                        Self::bare(&v.to_string())
                    }
                    fn visit_f64<E: de::Error>(self, v: f64) -> Result<$name, E> {
                        Self::bare(&number_text(v))
                    }
                }
                deserializer.deserialize_any(UnitVisitor)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                false
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                if $bare {
                    json_schema!({
                        "description": format!("{} such as `{}`", $what, $example),
                        "anyOf": [{"type": "string", "pattern": $pattern}, {"type": "number", "minimum": 0}]
                    })
                } else {
                    json_schema!({
                        "description": format!("{} such as `{}`", $what, $example),
                        "type": "string", "pattern": $pattern
                    })
                }
            }
        }
    };
}

unit!(Time, u64, "30s", "a time", r"^[0-9]+(\.[0-9]+)?\s*(h|min|m|s|ms|us|ns)$", bare: false,
    |t| with_unit(t, TIME_UNITS), |v| if v == 0 { "0s".to_owned() } else { shortest(v, TIME_UNITS) });
unit!(Rate, u64, "18k/s", "a rate", r"^[0-9]+(\.[0-9]+)?[kM]?/[0-9.]*(h|min|m|s|ms|us|ns)$", bare: false,
    parse_rate, |v| format!("{}/s", millionths(v)));
unit!(Size, u64, "2KiB", "a size", r"^[0-9]+(\.[0-9]+)?\s*(GiB|MiB|KiB|GB|MB|kB|B)$", bare: false,
    |t| with_unit(t, SIZE_UNITS), |v| if v == 0 { "0B".to_owned() } else { shortest(v, SIZE_UNITS) });
unit!(Share, u32, "5%", "a share", r"^[0-9]+(\.[0-9]+)?%?$", bare: true,
    parse_share, |v| millionths(u64::from(v)));
unit!(SharePerMinute, u32, "2%/min", "a share a minute", r"^[0-9]+(\.[0-9]+)?%?/(min|m)$", bare: false,
    parse_share_per_minute, |v| format!("{}/min", millionths(u64::from(v))));
unit!(Factor, u64, "1.5", "a factor", r"^[0-9]+(\.[0-9]+)?$", bare: true,
    |t| decimal(t, MILLION), millionths);

impl Time {
    /// Whole seconds.
    pub const fn seconds(s: u64) -> Self {
        Self(s * 1_000_000_000)
    }

    /// Whole milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// Nanoseconds.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// As a standard duration.
    pub const fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }

    /// This time times `factor`, rounded down.
    #[must_use]
    pub fn times(self, factor: Factor) -> Self {
        Self(factor.of(self.0))
    }
}

impl Rate {
    /// Whole events a second.
    pub const fn per_second(n: u64) -> Self {
        Self(n * MILLION)
    }

    /// How many events fall into `len`, rounded down.
    pub fn count_in(self, len: Time) -> u64 {
        let count = u128::from(self.0) * u128::from(len.0) / 1_000_000_000 / u128::from(MILLION);
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

impl Share {
    /// The whole.
    pub const ALL: Self = Self(1_000_000);

    /// This share of a count, rounded to the nearest.
    pub fn of(self, n: u64) -> u64 {
        let part =
            (u128::from(n) * u128::from(self.0) + u128::from(MILLION / 2)) / u128::from(MILLION);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl Factor {
    /// One.
    pub const ONE: Self = Self(MILLION);

    /// A number times this factor, rounded down.
    pub fn of(self, n: u64) -> u64 {
        u64::try_from(u128::from(n) * u128::from(self.0) / u128::from(MILLION)).unwrap_or(u64::MAX)
    }

    /// `part / whole` as a factor; one when there is no whole.
    pub fn ratio(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::ONE;
        }
        Self(
            u64::try_from(u128::from(part) * u128::from(MILLION) / u128::from(whole))
                .unwrap_or(u64::MAX),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly_and_written_back_the_same() {
        assert_eq!(Rate::parse("5.4k/s"), Ok(Rate(5_400 * MILLION)));
        assert_eq!(Rate::parse("1/30s"), Ok(Rate(33_333)));
        assert_eq!(Rate::parse("600/min"), Ok(Rate::per_second(10)));
        assert_eq!(Time::parse("1.5s"), Ok(Time::millis(1_500)));
        assert_eq!(Size::parse("2KiB"), Ok(Size(2_048)));
        assert_eq!(Share::parse("0.1%"), Ok(Share(1_000)));
        assert_eq!(SharePerMinute::parse("2%/min"), Ok(SharePerMinute(20_000)));
        for text in ["1500ms", "30s", "4h", "2min"] {
            assert_eq!(Time::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Rate::parse(&Rate(5_400_500_000).to_string()), Ok(Rate(5_400_500_000)));
    }

    #[test]
    fn a_wrong_unit_says_how_to_write_it() {
        let message = Time::parse("30 parsecs").unwrap_err();
        assert!(message.contains("write it as `30s`"), "{message}");
        assert!(Share::parse("120%").is_err());
        assert!(Rate::parse("18k").is_err());
        assert!(Time::parse("1.0000000000001s").is_err());
    }
}
