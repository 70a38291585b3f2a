//! The run folder: names of its files, writing and reading.
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Frame, Frames, Kind, pack, unpack};
use super::hlog;
use crate::control::ControlSummary;
use crate::facts::{Fact, Facts};
use crate::ledger::saved::Checkpoint;
use crate::ledger::{Ledger, LedgerConfig};
use crate::manifest::{FORMAT, Manifest};
use crate::promises::Promises;
use crate::record::Record;
use crate::series::{Samples, SeriesKey};
use crate::slices::Slice;

/// A run folder that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file.
    #[error("cannot {act} `{}`", path.display())]
    Io {
        /// `write`, `read` or `create`.
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no JSON of its kind.
    #[error("`{}` is not readable as its kind", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A record of a newer format.
    #[error("the record has format {found}, this version reads up to {FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
    /// The collector's thread cannot start.
    #[error("the collector cannot start")]
    Thread {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The collector's thread died.
    #[error("the collector ended with a panic")]
    Collector,
}

fn io(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Io { act, path: path.to_owned(), source }
}

const GUIDE: &str = "\
manifest.json   identity: format, versions, host class, scenario, experiment, hash, seed, timers
plan.json       the resolved plan
promises.json   gates, expectations, recovery: what the run was asked to show
events.jsonl    facts in the order they were seen: windows, faults, routes, leases, counters, events
slices.bin      merged seconds: counters, levels, histograms
totals.bin      histograms over whole windows
ledger/         evidence of every message, one file a shard
control.bin     the control run in short, if there was one
latency.hlog    HdrHistogram interval log, readable by any HDR tool; values in microseconds
";

/// A run folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// The files that grow while a run lasts.
pub struct RunWriter {
    slices: (PathBuf, BufWriter<File>),
    hlog: (PathBuf, BufWriter<File>),
    ledgers: Vec<(PathBuf, File)>,
    totals: PathBuf,
}

/// Appends facts as they are seen; each one is flushed, so that a killed run leaves them.
pub struct FactWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl RunFolder {
    /// Makes the folder, with a guide to its files.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path.join("ledger")).map_err(io("create", path))?;
        let folder = Self { path: path.to_owned() };
        folder.put("README", GUIDE.as_bytes())?;
        Ok(folder)
    }

    /// An existing folder.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(io("write", &path))
    }

    fn put_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(value)
            .map_err(|source| StoreError::Json { path: self.path.join(name), source })?;
        self.put(name, &json)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path.join(name);
        fs::read(&path).map_err(io("read", &path))
    }

    fn get_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        serde_json::from_slice(&self.get(name)?)
            .map_err(|source| StoreError::Json { path: self.path.join(name), source })
    }

    /// Writes what is known before the run.
    pub fn begin<P: Serialize>(
        &self,
        manifest: &Manifest,
        plan: &P,
        promises: &Promises,
    ) -> Result<(), StoreError> {
        self.put_json("manifest.json", manifest)?;
        self.put_json("plan.json", plan)?;
        self.put_json("promises.json", promises)
    }

    /// Writes the manifest again, with what was not known before.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        self.put_json("manifest.json", manifest)
    }

    /// Writes the summary of the control run.
    pub fn put_control(&self, control: &ControlSummary) -> Result<(), StoreError> {
        let mut frames = Frames::default();
        frames.push(Kind::Control, &pack(control));
        self.put("control.bin", &frames.into_bytes())
    }

    /// Opens `events.jsonl` for appending.
    pub fn facts(&self) -> Result<FactWriter, StoreError> {
        let path = self.path.join("events.jsonl");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(io("create", &path))?;
        Ok(FactWriter { path, file: BufWriter::new(file) })
    }

    /// Opens the files that grow. One writer a run.
    pub fn writer(&self, shards: usize) -> Result<RunWriter, StoreError> {
        let create = |name: &str| {
            let path = self.path.join(name);
            File::create(&path).map_err(io("create", &path)).map(|file| (path, file))
        };
        let (slices_path, slices) = create("slices.bin")?;
        let (hlog_path, hlog) = create("latency.hlog")?;
        let mut hlog = BufWriter::new(hlog);
        hlog.write_all(hlog::HEAD.as_bytes()).map_err(io("write", &hlog_path))?;
        let ledgers = (0..shards)
            .map(|shard| create(&format!("ledger/shard-{shard}.bin")))
            .collect::<Result<_, _>>()?;
        Ok(RunWriter {
            slices: (slices_path, BufWriter::new(slices)),
            hlog: (hlog_path, hlog),
            ledgers,
            totals: self.path.join("totals.bin"),
        })
    }

    /// Reads the whole record. A folder of a killed run works: what is missing is named in [`Record::damaged`], and the facts
    /// have no final phase.
    pub fn read(&self) -> Result<Record, StoreError> {
        let manifest: Manifest = self.get_json("manifest.json")?;
        if manifest.format > FORMAT {
            return Err(StoreError::Format { found: manifest.format });
        }
        let plan = self.get_json("plan.json")?;
        let promises = self.get_json("promises.json")?;
        let mut damaged = Vec::new();
        let facts = self.read_facts(&mut damaged)?;
        let slices = self.read_slices(&mut damaged);
        let totals = self.read_totals(&slices, &mut damaged);
        let ledger = self.read_ledger(&mut damaged)?;
        let control = self.read_control(&mut damaged);
        Ok(Record { manifest, plan, promises, facts, slices, totals, ledger, control, damaged })
    }

    fn read_facts(&self, damaged: &mut Vec<String>) -> Result<Facts, StoreError> {
        let path = self.path.join("events.jsonl");
        let mut facts = Facts::default();
        let Ok(file) = File::open(&path) else {
            damaged.push("events.jsonl: missing".to_owned());
            return Ok(facts);
        };
        for (at, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line.map_err(io("read", &path))?;
            match serde_json::from_slice::<Fact>(&line) {
                Ok(fact) => facts.note(fact),
                Err(error) => damaged.push(format!("events.jsonl: line {}: {error}", at + 1)),
            }
        }
        Ok(facts)
    }

    fn read_slices(&self, damaged: &mut Vec<String>) -> Vec<Slice> {
        let Ok(bytes) = self.get("slices.bin") else {
            damaged.push("slices.bin: missing".to_owned());
            return Vec::new();
        };
        let frames = Frame::read_all(&bytes, "slices.bin", damaged);
        frames.iter().filter_map(|frame| unpack(frame.payload).ok()).collect()
    }

    fn read_totals(
        &self,
        slices: &[Slice],
        damaged: &mut Vec<String>,
    ) -> BTreeMap<(u16, SeriesKey), Samples> {
        let mut totals: BTreeMap<(u16, SeriesKey), Samples> = BTreeMap::new();
        let Ok(bytes) = self.get("totals.bin") else {
            // A killed run has no totals: its slices add up to them, late samples of earlier windows left out.
            damaged.push("totals.bin: missing, rebuilt from slices".to_owned());
            for slice in slices {
                for series in &slice.series {
                    if let Ok(samples) = Samples::decode(&series.hist, series.censored) {
                        totals.entry((slice.window, series.key)).or_default().add(&samples);
                    }
                }
            }
            return totals;
        };
        for frame in Frame::read_all(&bytes, "totals.bin", damaged) {
            let total: Result<(u16, SeriesKey, u64, Vec<u8>), _> = unpack(frame.payload);
            let total = total.map(|(window, key, censored, hist)| {
                (window, key, Samples::decode(&hist, censored))
            });
            match total {
                Ok((window, key, Ok(samples))) => {
                    totals.insert((window, key), samples);
                }
                Ok((_, key, Err(error))) => damaged.push(format!("totals.bin: {key}: {error}")),
                Err(error) => damaged.push(format!("totals.bin: {error}")),
            }
        }
        totals
    }

    fn read_ledger(&self, damaged: &mut Vec<String>) -> Result<Ledger, StoreError> {
        let mut all: Option<Ledger> = None;
        let dir = self.path.join("ledger");
        let mut names: Vec<PathBuf> = match fs::read_dir(&dir) {
            Ok(entries) => {
                entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
            }
            Err(source) => return Err(io("read", &dir)(source)),
        };
        names.sort();
        for path in names {
            let bytes = fs::read(&path).map_err(io("read", &path))?;
            match (Ledger::restore(&bytes, damaged), &mut all) {
                (None, _) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    damaged.push(format!("ledger/{name}: nothing readable"));
                }
                (Some(ledger), None) => all = Some(ledger),
                (Some(ledger), Some(all)) => all.merge(ledger),
            }
        }
        Ok(all.unwrap_or_else(|| {
            Ledger::new(LedgerConfig { shard: 0, streams: Vec::new(), devices: 0, pairs: 0 })
        }))
    }

    fn read_control(&self, damaged: &mut Vec<String>) -> Option<ControlSummary> {
        let bytes = self.get("control.bin").ok()?;
        let frames = Frame::read_all(&bytes, "control.bin", damaged);
        let control = frames.first().map(|frame| unpack(frame.payload))?;
        match control {
            Ok(control) => Some(control),
            Err(error) => {
                damaged.push(format!("control.bin: {error}"));
                None
            }
        }
    }
}

impl RunWriter {
    /// Appends a slice to `slices.bin` and its series to `latency.hlog`.
    pub fn slice(&mut self, slice: &Slice) -> Result<(), StoreError> {
        let mut frames = Frames::default();
        frames.push(Kind::Slice, &pack(slice));
        let (path, file) = &mut self.slices;
        file.write_all(&frames.into_bytes())
            .and_then(|()| file.flush())
            .map_err(io("write", path))?;
        let (path, file) = &mut self.hlog;
        let lines = hlog::lines(slice);
        file.write_all(lines.as_bytes()).and_then(|()| file.flush()).map_err(io("write", path))
    }

    /// Appends evidence of a shard.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let Some((path, file)) = self.ledgers.get_mut(usize::from(checkpoint.shard)) else {
            return Ok(());
        };
        file.write_all(&checkpoint.bytes).map_err(io("write", path))
    }

    /// Writes the totals of all windows; the last act.
    pub fn totals(self, totals: &BTreeMap<(u16, SeriesKey), Samples>) -> Result<(), StoreError> {
        let mut frames = Frames::default();
        for ((window, key), samples) in totals {
            frames.push(Kind::Total, &pack(&(window, key, samples.censored(), samples.encode())));
        }
        fs::write(&self.totals, frames.into_bytes()).map_err(io("write", &self.totals))
    }
}

impl FactWriter {
    /// Appends one fact.
    pub fn append(&mut self, fact: &Fact) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(fact)
            .map_err(|source| StoreError::Json { path: self.path.clone(), source })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io("write", &self.path))
    }

    /// Hands what was appended to the operating system; call it once a second and at each fault mark.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.file.flush().map_err(io("write", &self.path))
    }
}
