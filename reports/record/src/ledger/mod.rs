//! The ledger: what devices saw of every message, reduced to facts that merge.
//!
//! One writer a shard; a message's sender and recipients belong to one shard (communities do), so most comparisons happen at
//! once, and the rest at the merge. The ledger never judges.
//!
//! - [`number`] message and device numbers.
//! - [`plane`] bits for every number: submitted, outcome, delivered by slot.
//! - [`pairs`] highest order, holes and digest for each device and conversation.
//! - [`row`] what would be lost by reduction.
//! - [`counts`] totals, for live display and live judging.
pub mod counts;
mod deliveries;
mod merge;
pub mod number;
pub mod pairs;
pub mod plane;
mod recent;
pub mod row;
pub(crate) mod saved;
mod sends;
mod sessions;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat_protocol::ConvId;
use serde::{Deserialize, Serialize};

use counts::LedgerCounts;
use number::{Device, Number};
use pairs::Pairs;
use recent::Recent;
use row::{Attempt, Closed, Opened, Reference, Row};

pub use deliveries::{Surfaced, slot};
pub use saved::Checkpoint;
pub use sends::Accepted;
pub use stream::Stream;

/// Rows of evidence kept; further ones are counted only.
pub const ROWS_MAX: usize = 100_000;
/// Rows of attempts, openings and closings kept, each; further ones are counted only.
pub const SESSIONS_MAX: usize = 1_000_000;
/// Unannounced back-fills that wait for the relay to bring them as well; further ones count as never brought.
pub const FILLED_MAX: usize = 65_536;
/// References of surfaced but not accepted messages kept.
pub const EARLY_MAX: usize = 1_000_000;
/// Length of a step of node activity, nanoseconds.
pub const ACTIVITY_NS: u64 = 100_000_000;
/// Steps of node activity kept: ten hours.
pub const ACTIVITY_MAX: usize = 360_000;

/// What became of a message, as its sender knows. A later, stronger knowledge replaces a weaker one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not submitted, or submitted and still open.
    Open,
    /// Definitely refused: every attempt was answered so.
    Rejected,
    /// May exist.
    Unknown,
    /// Owed to every recipient.
    Accepted,
}

/// Size of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamShape {
    /// Most numbers it can have.
    pub numbers: u64,
    /// Most planned recipients of one message, at most 32.
    pub slots: u8,
}

/// Sizes of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerConfig {
    /// Shard.
    pub shard: u16,
    /// Streams in file order.
    pub streams: Vec<StreamShape>,
    /// Devices of the whole plan.
    pub devices: u32,
    /// (device, conversation) pairs expected in this shard; the table grows beyond, with a pause.
    pub pairs: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct DeviceState {
    conn_epoch: u64,
    wire_duplicates: u32,
    node: u16,
}

/// Node activity as devices saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeActivity {
    /// Node named in `welcome`.
    pub node: Arc<str>,
    /// Messages surfaced by its connections, for each step of [`ACTIVITY_NS`] since the run's start.
    pub surfaced: Vec<u32>,
}

/// The evidence of one shard, or of all after the merge.
#[derive(Clone)]
pub struct Ledger {
    config: LedgerConfig,
    streams: Vec<Stream>,
    pairs: Pairs,
    recent: Recent,
    early: BTreeMap<Number, Reference>,
    /// Fetched from history without an announced loss, and not yet brought by the relay.
    filled: BTreeSet<(Device, ConvId, u64)>,
    devices: Vec<DeviceState>,
    nodes: Vec<NodeActivity>,
    counts: LedgerCounts,
    /// Rows of evidence, in the order they came.
    pub rows: Vec<Row>,
    /// Connection attempts.
    pub attempts: Vec<Attempt>,
    /// Openings.
    pub opened: Vec<Opened>,
    /// Closings.
    pub closed: Vec<Closed>,
    /// Refusals by code.
    pub rejects: BTreeMap<String, u64>,
    saved: saved::SavedUpTo,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(config: LedgerConfig) -> Self {
        let streams = config.streams.iter().map(Stream::of).collect();
        Self {
            streams,
            pairs: Pairs::new(config.pairs),
            recent: Recent::new(),
            early: BTreeMap::new(),
            filled: BTreeSet::new(),
            devices: vec![DeviceState::default(); config.devices as usize],
            nodes: Vec::new(),
            counts: LedgerCounts::default(),
            rows: Vec::new(),
            attempts: Vec::new(),
            opened: Vec::new(),
            closed: Vec::new(),
            rejects: BTreeMap::new(),
            saved: saved::SavedUpTo::default(),
            config,
        }
    }

    /// The sizes it was made with.
    pub fn config(&self) -> &LedgerConfig {
        &self.config
    }

    /// Totals so far.
    pub fn counts(&self) -> &LedgerCounts {
        &self.counts
    }

    /// Planes by stream.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Planes by stream. For tests of the judge, which mutate records.
    pub fn streams_mut(&mut self) -> &mut [Stream] {
        &mut self.streams
    }

    /// Devices and conversations.
    pub fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// Devices and conversations. For tests of the judge, which mutate records.
    pub fn pairs_mut(&mut self) -> &mut Pairs {
        &mut self.pairs
    }

    /// What nodes sent when, as devices saw it.
    pub fn nodes(&self) -> &[NodeActivity] {
        &self.nodes
    }

    /// Where messages stand that surfaced although their sender never learned that they were accepted.
    pub fn unanswered(&self) -> BTreeMap<Number, Reference> {
        let mut all = self.early.clone();
        all.extend(self.recent.not_accepted());
        all.retain(|n, _| self.outcome(*n) != Outcome::Accepted);
        all
    }

    /// What became of a message.
    #[inline]
    pub fn outcome(&self, n: Number) -> Outcome {
        match self.streams.get(usize::from(n.stream)).map_or(0, |stream| stream.outcome.mask(n.k)) {
            0 => Outcome::Open,
            1 => Outcome::Rejected,
            2 => Outcome::Unknown,
            _ => Outcome::Accepted,
        }
    }

    /// Whether the message was written.
    pub fn was_submitted(&self, n: Number) -> bool {
        self.streams.get(usize::from(n.stream)).is_some_and(|stream| stream.submitted.get(n.k, 0))
    }

    /// Slots in which the message surfaced.
    pub fn delivered(&self, n: Number) -> u32 {
        self.streams.get(usize::from(n.stream)).map_or(0, |stream| stream.delivered.mask(n.k))
    }

    /// Bytes of memory in use, rows left out.
    pub fn bytes(&self) -> usize {
        let planes: usize = self.streams.iter().map(Stream::bytes).sum();
        planes
            + self.pairs.bytes()
            + self.recent.bytes()
            + self.devices.len() * size_of::<DeviceState>()
    }

    fn row(&mut self, row: Row) {
        self.counts.count_row(&row);
        if self.rows.len() < ROWS_MAX {
            self.rows.push(row);
        } else {
            self.counts.rows_dropped += 1;
        }
    }

    fn stream(&mut self, n: Number) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(usize::from(n.stream))?;
        stream.touch(n.k);
        Some(stream)
    }
}
