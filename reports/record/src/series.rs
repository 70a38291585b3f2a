//! Names of time series, and histograms that are merged from many shards and slices.
use std::fmt;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    Deserializer as HdrReader, Serializer as _, V2DeflateSerializer,
};
use serde::{Deserialize, Serialize};
use storm_workload::gate::{Blast, Path};
use storm_workload::metrics::Metric;

/// Largest value kept, microseconds: 120 s, the longest deadline.
pub const CEILING_US: u64 = 120_000_000;
/// Significant digits kept.
pub const DIGITS: u8 = 3;

/// From where a time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// From the intended start.
    Response,
    /// From the actual start.
    Service,
}

/// One series: a metric on one path, inside or outside of the active fault's blast radius.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesKey {
    /// What is measured.
    pub metric: Metric,
    /// Intended or actual start.
    pub basis: Basis,
    /// The way a message took; `None` for series without a way.
    pub path: Option<Path>,
    /// Side of the blast radius; `None` while no fault is active.
    pub blast: Option<Blast>,
}

impl SeriesKey {
    /// A response-time series without path and blast.
    pub const fn of(metric: Metric) -> Self {
        Self { metric, basis: Basis::Response, path: None, blast: None }
    }

    /// The same series on a path.
    #[must_use]
    pub const fn on(self, path: Path) -> Self {
        Self { path: Some(path), ..self }
    }

    /// The same series from the actual start.
    #[must_use]
    pub const fn service(self) -> Self {
        Self { basis: Basis::Service, ..self }
    }

    /// The same series on one side of the blast radius.
    #[must_use]
    pub const fn side(self, blast: Option<Blast>) -> Self {
        Self { blast, ..self }
    }

    /// Position in a fixed order: metric, basis, path, blast.
    fn rank(self) -> (Metric, Basis, u8, u8) {
        let path = match self.path {
            None => 0,
            Some(Path::SameNode) => 1,
            Some(Path::CrossNode) => 2,
            Some(Path::Relay) => 3,
        };
        let blast = match self.blast {
            None => 0,
            Some(Blast::In) => 1,
            Some(Blast::Out) => 2,
        };
        (self.metric, self.basis, path, blast)
    }
}

impl PartialOrd for SeriesKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SeriesKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.name())?;
        if self.basis == Basis::Service {
            f.write_str(".service")?;
        }
        match self.path {
            None => {}
            Some(Path::SameNode) => f.write_str(",path=same-node")?,
            Some(Path::CrossNode) => f.write_str(",path=cross-node")?,
            Some(Path::Relay) => f.write_str(",path=relay")?,
        }
        match self.blast {
            None => Ok(()),
            Some(Blast::In) => f.write_str(",blast=in"),
            Some(Blast::Out) => f.write_str(",blast=out"),
        }
    }
}

/// Which series a reader wants merged; `None` takes all.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// The metric.
    pub metric: Metric,
    /// Intended or actual start.
    pub basis: Basis,
    /// One path only.
    pub path: Option<Path>,
    /// One side only.
    pub blast: Option<Blast>,
}

impl Filter {
    /// Response time of a metric over all paths and sides.
    pub const fn of(metric: Metric) -> Self {
        Self { metric, basis: Basis::Response, path: None, blast: None }
    }

    /// Whether the series belongs to it.
    pub fn takes(&self, key: &SeriesKey) -> bool {
        key.metric == self.metric
            && key.basis == self.basis
            && (self.path.is_none() || key.path == self.path)
            && (self.blast.is_none() || key.blast == self.blast)
    }
}

/// A figure read from a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The value, nanoseconds.
    Is(u64),
    /// It falls among censored samples: at least so many nanoseconds.
    AtLeast(u64),
}

impl Figure {
    /// Nanoseconds, a lower bound for a censored figure.
    pub const fn ns(self) -> u64 {
        match self {
            Self::Is(ns) | Self::AtLeast(ns) => ns,
        }
    }

    /// Whether it is only a lower bound.
    pub const fn censored(self) -> bool {
        matches!(self, Self::AtLeast(_))
    }
}

/// Samples of one or several series, merged.
#[derive(Clone, Debug)]
pub struct Samples {
    hist: Histogram<u64>,
    censored: u64,
}

impl Default for Samples {
    fn default() -> Self {
        let hist = Histogram::new_with_bounds(1, CEILING_US, DIGITS)
            .expect("the bounds are constants that fit");
        Self { hist, censored: 0 }
    }
}

/// Samples that cannot be read back.
#[derive(Debug, thiserror::Error)]
#[error("a histogram cannot be read: {0}")]
pub struct SamplesError(String);

impl Samples {
    /// Adds the counts of a slice.
    pub fn add_hist(&mut self, hist: &Histogram<u32>, censored: u64) {
        for value in hist.iter_recorded() {
            self.hist
                .saturating_record_n(value.value_iterated_to(), u64::from(value.count_at_value()));
        }
        self.censored += censored;
    }

    /// Adds other samples.
    pub fn add(&mut self, other: &Self) {
        for value in other.hist.iter_recorded() {
            self.hist.saturating_record_n(value.value_iterated_to(), value.count_at_value());
        }
        self.censored += other.censored;
    }

    /// Adds one sample.
    pub fn record(&mut self, ns: u64, censored: bool) {
        self.hist.saturating_record((ns / 1_000).max(1));
        self.censored += u64::from(censored);
    }

    /// Number of samples, censored ones included.
    pub fn count(&self) -> u64 {
        self.hist.len()
    }

    /// Number of censored samples.
    pub fn censored(&self) -> u64 {
        self.censored
    }

    /// The quantile, given in parts of ten thousand; `None` without samples.
    pub fn quantile_e4(&self, e4: u32) -> Option<Figure> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (u128::from(count) * u128::from(e4)).div_ceil(10_000);
        let rank = u64::try_from(rank).unwrap_or(count).clamp(1, count);
        let ns = self.value_at_rank(rank) * 1_000;
        let certain = count - self.censored.min(count);
        Some(if rank > certain { Figure::AtLeast(ns) } else { Figure::Is(ns) })
    }

    /// Largest sample; `None` without samples.
    pub fn max(&self) -> Option<Figure> {
        let ns = self.hist.max() * 1_000;
        match (self.count(), self.censored) {
            (0, _) => None,
            (_, 0) => Some(Figure::Is(ns)),
            _ => Some(Figure::AtLeast(ns)),
        }
    }

    /// Mean, nanoseconds; `None` without samples. Censored samples count as their deadline.
    pub fn mean(&self) -> Option<Figure> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of values up to 120 s"
        )]
        let ns = (self.hist.mean() * 1_000.0) as u64;
        match (self.count(), self.censored) {
            (0, _) => None,
            (_, 0) => Some(Figure::Is(ns)),
            _ => Some(Figure::AtLeast(ns)),
        }
    }

    /// Samples above so many nanoseconds.
    pub fn count_above(&self, ns: u64) -> u64 {
        let bound = (ns / 1_000).max(1);
        self.count() - self.hist.count_between(0, bound)
    }

    fn value_at_rank(&self, rank: u64) -> u64 {
        let mut seen = 0;
        for value in self.hist.iter_recorded() {
            seen += value.count_at_value();
            if seen >= rank {
                return value.value_iterated_to();
            }
        }
        self.hist.max()
    }

    /// V2-deflate bytes, as other HDR tools read them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.hist, &mut bytes).expect("writing to memory");
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8], censored: u64) -> Result<Self, SamplesError> {
        let mut read = bytes;
        let mut hist: Histogram<u64> = HdrReader::new()
            .deserialize(&mut read)
            .map_err(|error| SamplesError(error.to_string()))?;
        hist.auto(true);
        Ok(Self { hist, censored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_among_censored_samples_is_a_lower_bound() {
        let mut samples = Samples::default();
        for ms in 1..=98 {
            samples.record(ms * 1_000_000, false);
        }
        samples.record(30_000_000_000, true);
        samples.record(30_000_000_000, true);
        assert!(matches!(samples.quantile_e4(5_000), Some(Figure::Is(ns)) if ns / 1_000_000 == 50));
        assert!(
            matches!(samples.quantile_e4(9_900), Some(Figure::AtLeast(ns)) if ns >= 30_000_000_000)
        );
        assert!(samples.max().is_some_and(Figure::censored));
        assert_eq!(samples.count_above(1_000_000_000), 2);
    }

    #[test]
    fn encoded_samples_come_back_the_same() {
        let mut samples = Samples::default();
        for ns in [1_000, 5_000_000, 70_000_000_000] {
            samples.record(ns, false);
        }
        let back = Samples::decode(&samples.encode(), 1).unwrap();
        assert_eq!(back.count(), 3);
        assert_eq!(back.censored(), 1);
        assert_eq!(back.encode(), samples.encode());
    }

    #[test]
    fn series_are_told_apart_by_every_part_of_their_key() {
        let plain = SeriesKey::of(Metric::MessageDelivered);
        let all = [
            plain,
            plain.service(),
            plain.on(Path::Relay),
            plain.side(Some(Blast::In)),
            SeriesKey::of(Metric::LoadLag),
        ];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(i == j, a.cmp(b).is_eq());
            }
        }
        assert_eq!(
            plain.on(Path::Relay).service().to_string(),
            "message.delivered.service,path=relay"
        );
    }
}
