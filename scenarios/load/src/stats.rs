//! Figures of the present, for progress lines, phase conditions and guards.
use std::sync::Arc;

use chat_protocol::{ConvId, DeviceId};
use storm_record::ledger::counts::LedgerCounts;

/// Figures of all shards since the start of the run, refreshed ten times a second.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Intents that became due.
    pub offered: u64,
    /// Intents handed to the I/O thread.
    pub fired: u64,
    /// Sends whose first frame was encoded.
    pub written: u64,
    /// Sends answered by `sent`.
    pub accepted: u64,
    /// Messages surfaced.
    pub delivered: u64,
    /// Sends refused for good.
    pub rejected: u64,
    /// Sends without answer at their deadline.
    pub unknown: u64,
    /// Intents that found the queue to the I/O thread full.
    pub dropped: u64,
    /// Intents that an outbox did not take, or kept too long.
    pub not_sent: u64,
    /// Accepted deliveries not yet surfaced on devices the plan has online.
    pub owed: u64,
    /// Sends waiting for an answer.
    pub in_flight: u64,
    /// Devices with a connection.
    pub connected: u64,
    /// Devices the plan has online.
    pub planned: u64,
    /// Connected devices whose backlog is drained.
    pub caught_up: u64,
    /// Devices that have a token.
    pub provisioned: u64,
    /// Devices that got no token within all tries.
    pub unprovisioned: u64,
    /// Devices.
    pub devices: u64,
    /// Worst of the shards in the last full second: 99th percentile of fired minus intended start, nanoseconds.
    pub lag_p99_ns: u64,
    /// 99th percentile of delivery times in the last full second (the worst of the shards), nanoseconds.
    pub delivered_p99_ns: u64,
    /// Evidence counters.
    pub ledger: LedgerCounts,
    /// Messages waiting or unanswered in outboxes.
    pub outbox: u64,
    /// Devices that are reading history.
    pub syncing: u64,
    /// Longest time ago, over all shards, that nothing was accepted or surfaced, nanoseconds.
    pub quiet_ns: u64,
}

impl Stats {
    /// Adds the figures of another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.fired += other.fired;
        self.written += other.written;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.dropped += other.dropped;
        self.not_sent += other.not_sent;
        self.owed += other.owed;
        self.in_flight += other.in_flight;
        self.connected += other.connected;
        self.planned += other.planned;
        self.caught_up += other.caught_up;
        self.provisioned += other.provisioned;
        self.unprovisioned += other.unprovisioned;
        self.devices += other.devices;
        self.lag_p99_ns = self.lag_p99_ns.max(other.lag_p99_ns);
        self.delivered_p99_ns = self.delivered_p99_ns.max(other.delivered_p99_ns);
        self.ledger.add(&other.ledger);
        self.outbox += other.outbox;
        self.syncing += other.syncing;
        self.quiet_ns = self.quiet_ns.min(other.quiet_ns);
    }

    /// Whether every device the plan has online is connected and has its backlog.
    pub fn all_connected(&self) -> bool {
        self.planned > 0 && self.connected >= self.planned && self.caught_up >= self.planned
    }

    /// Whether everybody is connected, nothing is owed, waiting or being read, and nothing moved for `quiet_ns`.
    pub fn settled(&self, quiet_ns: u64) -> bool {
        self.owed == 0 && self.still(quiet_ns)
    }

    /// The same, whatever is owed.
    pub fn still(&self, quiet_ns: u64) -> bool {
        self.all_connected()
            && self.outbox == 0
            && self.syncing == 0
            && self.in_flight == 0
            && self.quiet_ns >= quiet_ns
    }
}

/// A device as faults see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// Dense number.
    pub ix: u32,
    /// Id; it is also the label of its connections at a proxy.
    pub device: DeviceId,
    /// Node it is connected to.
    pub node: Option<Arc<str>>,
    /// Incarnation of its connection.
    pub conn_epoch: u64,
}

/// What a device has at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFinal {
    /// Dense number.
    pub ix: u32,
    /// Whether it was connected at the end.
    pub connected: bool,
    /// Where it stood in its queue: (queue epoch, position).
    pub cursor: Option<(u64, u64)>,
    /// Conversations seen, each with its highest number surfaced.
    pub conversations: Vec<(ConvId, u64)>,
    /// Messages left in its outbox.
    pub outbox: u64,
    /// The close code after which it gave up for good.
    pub terminal: Option<u16>,
}
