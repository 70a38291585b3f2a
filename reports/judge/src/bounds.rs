//! Limits derived from the running system's own timers. Slack for sampling and a busy host shrinks with the timers, to half a
//! second at the least.
use std::time::Duration;

use chat_protocol::limits::Timers;
use storm_record::facts::FaultKind;

const SLACK_MIN: Duration = Duration::from_millis(500);

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Derived bounds, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    timers: Timers,
}

impl Bounds {
    /// Bounds of a system with these timers.
    pub const fn new(timers: Timers) -> Self {
        Self { timers }
    }

    /// `base` at the default timers, in proportion at shorter ones.
    fn slack(&self, base: Duration) -> Duration {
        let part = self.timers.lease_ttl.as_secs_f64() / Timers::DEFAULT.lease_ttl.as_secs_f64();
        base.mul_f64(part.min(1.0)).max(SLACK_MIN)
    }

    /// A silent link is found: 1.2 pings, a pong, a second.
    pub fn half_open_ns(&self) -> u64 {
        ns(self.timers.ping.mul_f64(1.2) + self.timers.pong + self.slack(Duration::from_secs(1)))
    }

    /// A silent link is not found before this.
    pub fn half_open_min_ns(&self) -> u64 {
        ns(self
            .timers
            .pong
            .saturating_sub(self.slack(Duration::from_secs(1)).min(self.timers.pong / 4)))
    }

    /// A client gives up a silent link.
    pub fn patience_ns(&self) -> u64 {
        ns(self.timers.patience + self.slack(Duration::from_secs(1)))
    }

    /// A route is gone after its connection ended in the open.
    pub fn stale_clean_ns(&self) -> u64 {
        ns(Duration::from_secs(1) + self.slack(Duration::from_secs(1)))
    }

    /// Routes of a dead node are gone.
    pub fn stale_dead_ns(&self) -> u64 {
        ns(self.timers.lease_ttl + self.timers.sweep + self.slack(Duration::from_secs(2)))
    }

    /// A connected device has a route.
    pub fn routed_ns(&self) -> u64 {
        ns(Duration::from_secs(2) + self.slack(Duration::from_secs(1)))
    }

    /// After a registry fault routes are rebuilt at 5,000 a second.
    pub fn rebuilt_ns(&self, devices: u64) -> u64 {
        ns(Duration::from_secs(5)) + devices * 200_000
    }

    /// A frame may be read so long after the lease of its node ended: it was on its way.
    pub fn on_its_way_ns(&self) -> u64 {
        ns(self.slack(Duration::from_millis(500)) / 2)
    }

    /// A partition without its owner answers again.
    pub fn accept_gap_ns(&self) -> u64 {
        ns(self.timers.log_session
            + self.timers.log_election * 2
            + self.slack(Duration::from_secs(1)))
    }

    /// The first reaction of the system to a fault.
    pub fn detected_ns(&self, kind: FaultKind) -> u64 {
        let slack = self.slack(Duration::from_secs(1));
        match kind {
            FaultKind::KillSilent | FaultKind::BlackHole => self.half_open_ns(),
            FaultKind::Kill
            | FaultKind::Pause
            | FaultKind::Partition
            | FaultKind::PortSlow
            | FaultKind::PortStall
            | FaultKind::PortReset
            | FaultKind::RegistryWipe => ns(self.timers.lease_ttl + slack),
            FaultKind::HistoryDown => ns(self.timers.table_call + slack),
            FaultKind::BrokerKill | FaultKind::BrokerSlow => {
                ns(self.timers.log_election * 2 + slack)
            }
            FaultKind::ConsumerPause => ns(self.timers.log_session + slack),
            FaultKind::Drain | FaultKind::Rolling => ns(self.timers.drain_spread + slack),
            FaultKind::BlackHoleTold
            | FaultKind::Reset
            | FaultKind::CutAll
            | FaultKind::SlowLink => ns(slack),
        }
    }

    /// Nothing waits longer than this once everything is healed.
    pub fn progress_ns(&self) -> u64 {
        ns(self.timers.send_deadline)
    }

    /// Late starts of attempts that are the host's.
    pub fn late_start_ns(&self) -> u64 {
        ns(Duration::from_millis(250))
    }

    /// A session this long resets the backoff.
    pub fn stable_ns(&self) -> u64 {
        ns(self.timers.stable)
    }

    /// Largest delay of an attempt of this index under full jitter.
    pub fn backoff_ns(&self, index: u32) -> u64 {
        let factor = 1_u32.checked_shl(index.min(31)).unwrap_or(u32::MAX);
        ns(self.timers.backoff_base.saturating_mul(factor).min(self.timers.backoff_cap))
    }

    /// The base of the backoff.
    pub fn backoff_base_ns(&self) -> u64 {
        ns(self.timers.backoff_base)
    }

    /// How long a lease of a node lasts that nobody renews.
    pub fn lease_ns(&self) -> u64 {
        ns(self.timers.lease_ttl)
    }

    /// Length of a step of node leases: one renewal.
    pub fn renewal_ns(&self) -> u64 {
        ns(self.timers.lease_renew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_timers_give_the_bounds_of_the_reference() {
        let bounds = Bounds::new(Timers::DEFAULT);
        assert_eq!(bounds.half_open_ns(), 41_000_000_000);
        assert_eq!(bounds.patience_ns(), 41_000_000_000);
        assert_eq!(bounds.stale_dead_ns(), 10_000_000_000);
        assert_eq!(bounds.backoff_ns(0), 500_000_000);
        assert_eq!(bounds.backoff_ns(40), 30_000_000_000);
    }

    #[test]
    fn short_timers_shrink_every_bound() {
        let (long, short) = (Bounds::new(Timers::DEFAULT), Bounds::new(Timers::short()));
        assert!(short.half_open_ns() * 5 < long.half_open_ns());
        assert!(short.stale_dead_ns() < 3_000_000_000);
        assert!(short.accept_gap_ns() < long.accept_gap_ns());
    }
}
