//! `latency.hlog`: the interval log format 1.3 of `HdrHistogram`, one tagged line a series and slice.
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::series::Samples;
use crate::slices::Slice;

/// First lines of the file.
pub(crate) const HEAD: &str = "\
#[Histogram log format version 1.3]
#[values are microseconds, times are seconds since the start of the run, maxima are milliseconds]
\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"
";

/// Lines of a slice. Tags hold no comma, as the format demands.
pub(crate) fn lines(slice: &Slice) -> String {
    let mut text = String::new();
    let seconds = |ns: u64| std::time::Duration::from_nanos(ns).as_secs_f64();
    for series in &slice.series {
        let max_ms = Samples::decode(&series.hist, series.censored)
            .ok()
            .and_then(|samples| samples.max())
            .map_or(0.0, |max| std::time::Duration::from_nanos(max.ns()).as_secs_f64() * 1e3);
        let tag = series.key.to_string().replace(',', ";");
        let (from, len) =
            (seconds(slice.from_ns), seconds(slice.to_ns.saturating_sub(slice.from_ns)));
        let hist = STANDARD.encode(&series.hist);
        writeln!(text, "Tag={tag},{from:.3},{len:.3},{max_ms:.3},{hist}")
            .expect("writing to memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use storm_workload::gate::Path;
    use storm_workload::metrics::Metric;

    use super::*;
    use crate::series::SeriesKey;
    use crate::slices::SliceSeries;

    #[test]
    fn another_reader_understands_the_log() {
        let mut samples = Samples::default();
        samples.record(5_000_000, false);
        samples.record(9_000_000, false);
        let key = SeriesKey::of(Metric::MessageDelivered).on(Path::Relay);
        let series = vec![SliceSeries { key, count: 2, censored: 0, hist: samples.encode() }];
        let slice =
            Slice { from_ns: 1_500_000_000, to_ns: 2_500_000_000, series, ..Slice::default() };
        let text = format!("{HEAD}{}", lines(&slice));
        let entries =
            hdrhistogram::serialization::interval_log::IntervalLogIterator::new(text.as_bytes());
        let intervals: Vec<_> = entries
            .filter_map(|entry| match entry.unwrap() {
                hdrhistogram::serialization::interval_log::LogEntry::Interval(line) => Some(line),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 1);
        assert_eq!(intervals[0].tag().unwrap().as_str(), "message.delivered;path=relay");
        let bytes = STANDARD.decode(intervals[0].encoded_histogram()).unwrap();
        assert_eq!(Samples::decode(&bytes, 0).unwrap().count(), 2);
    }
}
