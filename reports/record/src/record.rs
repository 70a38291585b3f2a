//! Everything a judge needs, in memory.
use std::collections::BTreeMap;

use crate::control::ControlSummary;
use crate::facts::Facts;
use crate::ledger::Ledger;
use crate::manifest::Manifest;
use crate::promises::Promises;
use crate::series::{Filter, Samples, SeriesKey};
use crate::slices::{DueSecond, Slice, SliceCounts};

/// A run.
#[derive(Clone)]
pub struct Record {
    /// Identity.
    pub manifest: Manifest,
    /// The resolved plan, as stored.
    pub plan: serde_json::Value,
    /// What it was asked to show.
    pub promises: Promises,
    /// What the experiment saw.
    pub facts: Facts,
    /// Merged seconds.
    pub slices: Vec<Slice>,
    /// Histograms over whole windows.
    pub totals: BTreeMap<(u16, SeriesKey), Samples>,
    /// What devices saw.
    pub ledger: Ledger,
    /// The control run, if there was one.
    pub control: Option<ControlSummary>,
    /// Parts of the folder that could not be read, in words; a killed run has some.
    pub damaged: Vec<String>,
}

impl Record {
    /// Merged samples over one window.
    pub fn samples(&self, window: u16, filter: &Filter) -> Samples {
        let mut all = Samples::default();
        for ((of, key), samples) in &self.totals {
            if *of == window && filter.takes(key) {
                all.add(samples);
            }
        }
        all
    }

    /// Counters over one window.
    pub fn counts(&self, window: u16) -> SliceCounts {
        let mut all = SliceCounts::default();
        for slice in self.slices.iter().filter(|slice| slice.window == window) {
            all.add(&slice.counts);
        }
        all
    }

    /// What became of the sends due in each second since the run's start.
    pub fn due(&self) -> BTreeMap<u32, DueSecond> {
        let mut all: BTreeMap<u32, DueSecond> = BTreeMap::new();
        for (second, figures) in self.slices.iter().flat_map(|slice| &slice.due) {
            all.entry(*second).or_default().add(figures);
        }
        all
    }
}
