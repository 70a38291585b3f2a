//! Merged seconds of a run, with the counters beside them.
use serde::{Deserialize, Serialize};

use crate::series::{Filter, Samples, SeriesKey};

/// Nominal length of a slice, nanoseconds.
pub const SLICE_NS: u64 = 1_000_000_000;

macro_rules! counts {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// Counters of one slice; a shard adds to them while the slice lasts.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct SliceCounts {
            $($(#[$about])* pub $name: u64,)*
        }

        impl SliceCounts {
            /// Adds the counters of another shard or slice.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Names and values, in a fixed order.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counts! {
    /// Intents whose intended start lies in the slice.
    offered,
    /// Intents the scheduler handed to the I/O thread.
    fired,
    /// First frames of sends encoded for a socket.
    written,
    /// Sends answered by `sent` for the first time.
    accepted,
    /// Sends refused with a code.
    rejected,
    /// Sends without answer at their deadline.
    unknown,
    /// Intents that were never written by the generator's own limits (full ring).
    dropped,
    /// Intents that were never written because a device's outbox was full.
    not_sent,
    /// First surfacings on devices.
    delivered,
    /// Items a device got a second time on the wire and discarded.
    wire_duplicates,
    /// Times a send was written, retries included.
    attempts,
    /// Connection attempts started.
    connects,
    /// Connections that reached `welcome`.
    welcomes,
    /// Connections that ended.
    closes,
    /// Handshakes refused by admission.
    refused_handshakes,
    /// Frames nobody asked for.
    frames_unexpected,
    /// Time differences below zero.
    clock_negative,
    /// Records of shards that arrived too late for their own slice.
    prolonged,
}

/// State at the end of a slice; summed over shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SliceLevels {
    /// Accepted deliveries not yet surfaced on devices the plan has online.
    pub owed: u64,
    /// Devices with a connection that reached `welcome`.
    pub connected: u64,
    /// Devices the plan has online.
    pub planned: u64,
    /// Sends waiting for an answer.
    pub in_flight: u64,
}

impl SliceLevels {
    /// Adds the levels of another shard.
    pub fn add(&mut self, other: &Self) {
        self.owed += other.owed;
        self.connected += other.connected;
        self.planned += other.planned;
        self.in_flight += other.in_flight;
    }
}

/// What became of the sends due in one second, known up to a deadline later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueSecond {
    /// Sends due.
    pub due: u64,
    /// Of these, delivered by the deadline to every device the plan has online.
    pub good: u64,
    /// Of these, delivered everywhere within one second.
    pub on_time: u64,
    /// Refused with a code.
    pub rejected: u64,
}

impl DueSecond {
    /// Adds another shard's figures.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.good += other.good;
        self.on_time += other.on_time;
        self.rejected += other.rejected;
    }
}

/// One series of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceSeries {
    /// Which.
    pub key: SeriesKey,
    /// Samples, censored ones included.
    pub count: u64,
    /// Censored samples.
    pub censored: u64,
    /// V2-deflate bytes.
    pub hist: Vec<u8>,
}

/// One slice, merged over shards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Ordinal, from 0.
    pub index: u64,
    /// Window it belongs to (ordinal in the facts).
    pub window: u16,
    /// Begin, nanoseconds since the run's start.
    pub from_ns: u64,
    /// End.
    pub to_ns: u64,
    /// Counters.
    pub counts: SliceCounts,
    /// Levels at the end.
    pub levels: SliceLevels,
    /// Series with samples, in order.
    pub series: Vec<SliceSeries>,
    /// What became known in this slice about sends due in a second: (second since the run's start, figures to add).
    pub due: Vec<(u32, DueSecond)>,
}

impl Slice {
    /// Merged samples of the series a filter takes. Bytes that cannot be read count as no samples.
    pub fn samples(&self, filter: &Filter) -> Samples {
        let mut all = Samples::default();
        for series in self.series.iter().filter(|series| filter.takes(&series.key)) {
            if let Ok(samples) = Samples::decode(&series.hist, series.censored) {
                all.add(&samples);
            }
        }
        all
    }
}
