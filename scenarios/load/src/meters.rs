//! The series of a shard by what is measured, the way it took and the side of the blast; and the percentile of a second.
use storm_record::Recorder;
use storm_record::recorder::SeriesId;
use storm_record::series::SeriesKey;
use storm_workload::gate::{Blast, Path};
use storm_workload::metrics::Metric;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Lag,
    Outbox,
    Accepted,
    AcceptedService,
    Delivered,
    DeliveredService,
    Tick,
    TickService,
    Late,
    Open,
    Welcome,
    Recovered,
    Drain,
    Beat,
}

const MEASURES: usize = 14;

impl Measure {
    fn key(self) -> SeriesKey {
        match self {
            Self::Lag => SeriesKey::of(Metric::LoadLag),
            Self::Outbox => SeriesKey::of(Metric::LoadOutbox),
            Self::Accepted => SeriesKey::of(Metric::MessageAccepted),
            Self::AcceptedService => SeriesKey::of(Metric::MessageAccepted).service(),
            Self::Delivered => SeriesKey::of(Metric::MessageDelivered),
            Self::DeliveredService => SeriesKey::of(Metric::MessageDelivered).service(),
            Self::Tick => SeriesKey::of(Metric::MessageDeliveredTick),
            Self::TickService => SeriesKey::of(Metric::MessageDeliveredTick).service(),
            Self::Late => SeriesKey::of(Metric::MessageLate),
            Self::Open => SeriesKey::of(Metric::ConnectOpen),
            Self::Welcome => SeriesKey::of(Metric::ConnectWelcome),
            Self::Recovered => SeriesKey::of(Metric::ConnectRecovered),
            Self::Drain => SeriesKey::of(Metric::RelayDrain),
            Self::Beat => SeriesKey::of(Metric::HeartbeatRtt),
        }
    }
}

/// Handles of all series, looked up once.
#[derive(Default)]
pub(crate) struct Meters {
    ids: [[[Option<SeriesId>; 3]; 4]; MEASURES],
}

impl Meters {
    /// The handle of a series.
    pub(crate) fn id(
        &mut self,
        recorder: &mut Recorder,
        measure: Measure,
        path: Option<Path>,
        blast: Option<Blast>,
    ) -> SeriesId {
        let way = match path {
            None => 0,
            Some(Path::SameNode) => 1,
            Some(Path::CrossNode) => 2,
            Some(Path::Relay) => 3,
        };
        let side = match blast {
            None => 0,
            Some(Blast::In) => 1,
            Some(Blast::Out) => 2,
        };
        *self.ids[measure as usize][way][side].get_or_insert_with(|| {
            let key = SeriesKey { path, ..measure.key() }.side(blast);
            recorder.series(key)
        })
    }
}

/// Bits of a value below its highest one that are kept: buckets are 3 % wide.
const FINE_BITS: u32 = 5;

/// Counts of one second, from which a percentile is read.
pub(crate) struct Second {
    counts: Vec<u32>,
    total: u64,
    last_p99_ns: u64,
}

impl Second {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; 64 << FINE_BITS], total: 0, last_p99_ns: 0 }
    }

    pub(crate) fn add(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
    }

    /// Ends the second.
    pub(crate) fn turn(&mut self) {
        let above = self.total / 100;
        let mut seen = 0;
        let last = self.counts.iter().rposition(|count| {
            seen += u64::from(*count);
            seen > above
        });
        self.last_p99_ns = last.map_or(0, top);
        self.counts.fill(0);
        self.total = 0;
    }

    /// 99th percentile of the last full second; 0 when it had no samples.
    pub(crate) fn p99_ns(&self) -> u64 {
        self.last_p99_ns
    }
}

fn bucket(ns: u64) -> usize {
    let exponent = (ns | 1).ilog2();
    let fine = if exponent > FINE_BITS { ns >> (exponent - FINE_BITS) & 31 } else { ns & 31 };
    ((exponent as usize) << FINE_BITS) | usize::try_from(fine).expect("five bits")
}

/// Greatest value of a bucket.
fn top(bucket: usize) -> u64 {
    let exponent = u32::try_from(bucket >> FINE_BITS).expect("below 64");
    let fine = bucket as u64 & 31;
    if exponent <= FINE_BITS {
        return fine;
    }
    ((32 | fine) << (exponent - FINE_BITS)) | ((1 << (exponent - FINE_BITS)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_of_a_second_is_within_a_bucket() {
        let mut second = Second::new();
        for ms in 1..=1_000_u64 {
            second.add(ms * 1_000_000);
        }
        second.turn();
        let p99 = second.p99_ns();
        assert!((990_000_000..1_030_000_000).contains(&p99), "{p99}");
        second.turn();
        assert_eq!(second.p99_ns(), 0);
    }
}
