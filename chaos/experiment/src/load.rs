//! What an experiment needs of whoever drives the load; the root package implements it over the engine.
use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use storm_record::facts::AcceptGap;

/// The load at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Devices with a connection that reached `welcome`.
    pub connected: u64,
    /// Devices the plan has online.
    pub planned: u64,
    /// Sends due so far.
    pub offered: u64,
    /// Sends first written so far.
    pub written: u64,
    /// Sends accepted so far.
    pub accepted: u64,
    /// First surfacings so far.
    pub delivered: u64,
    /// Accepted deliveries not yet surfaced on devices the plan has online.
    pub owed: u64,
    /// Sends without an answer so far.
    pub in_flight: u64,
    /// p99 of the generator's own lag over the last second, nanoseconds.
    pub lag_p99_ns: u64,
    /// p99 of delivery over the last second, nanoseconds; 0 without samples.
    pub delivered_p99_ns: u64,
}

/// Why the load could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// Which side of the active faults a message is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlastRadius {
    /// Nodes that are touched.
    pub nodes: BTreeSet<String>,
    /// Devices that are touched, by their id in the system.
    pub devices: BTreeSet<u64>,
}

/// The load of a run.
#[async_trait]
pub trait Load: Send + Sync {
    /// Nanoseconds since the run's start.
    fn now_ns(&self) -> u64;

    /// Gets tokens for all devices of the plan.
    async fn provision(&self) -> Result<(), LoadError>;

    /// Begins a phase of the plan now: its sends come due as planned, those of the phase before that are not due yet never
    /// do. The first phase connects devices at the planned rate; in the last one all others connect and no send is due.
    fn begin(&self, phase: usize) -> u64;

    /// The load at this instant.
    fn pulse(&self) -> Pulse;

    /// Splits every series into inside and outside from now on; `None` ends that.
    fn blast(&self, radius: Option<BlastRadius>);

    /// Whether everything the plan owes is settled: every device connected, nothing waiting for an answer or a
    /// surfacing, every ack sent, and nothing has moved for `quiet`.
    fn settled(&self, quiet: Duration) -> bool;

    /// The same, whatever is still owed: every device is connected and has its backlog, nothing waits for an answer, and nothing
    /// has moved for `quiet`. What is owed then will not come.
    fn still(&self, quiet: Duration) -> bool;

    /// Longest time without an answer while sends waited, by window and partition, known so far and not yet handed over.
    fn accept_gaps(&self) -> Vec<AcceptGap>;
}
