//! When the recovery watch may end early: the load is back to what it was in this run's own steady window.
//!
//! The verdict about recovery is the judge's, from the slices and against the control run; this only saves time.
use std::time::Duration;

use tokio::time::Instant;

use crate::file::Recovery;
use crate::load::Pulse;

/// Head-room below which a difference of latency is noise.
const NOISE_NS: u64 = 2_000_000;

/// Watches pulses until they have been good for long enough.
#[derive(Debug)]
pub struct RecoveryWatch {
    hold: Duration,
    p99_max_ns: u64,
    owed_max: u64,
    good_since: Option<Instant>,
}

impl RecoveryWatch {
    /// A watch against the pulses of the steady window. Without a rule for recovery it never ends early.
    pub fn new(recovery: Option<&Recovery>, steady: &[Pulse]) -> Self {
        let hold = recovery.map_or(Duration::MAX, |rule| Duration::from_nanos(rule.hold.0));
        let p99 = steady.iter().map(|pulse| pulse.delivered_p99_ns).max().unwrap_or(0);
        let owed = steady.iter().map(|pulse| pulse.owed).max().unwrap_or(0);
        Self {
            hold,
            p99_max_ns: p99.saturating_mul(11) / 10 + NOISE_NS,
            owed_max: owed.saturating_mul(2).max(50),
            good_since: None,
        }
    }

    /// Takes one pulse; whether the load has been back for the whole hold time.
    pub fn recovered(&mut self, now: Instant, pulse: Pulse) -> bool {
        let good = pulse.connected >= pulse.planned
            && pulse.delivered_p99_ns <= self.p99_max_ns
            && pulse.owed <= self.owed_max;
        if !good {
            self.good_since = None;
            return false;
        }
        now.duration_since(*self.good_since.get_or_insert(now)) >= self.hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storm_workload::units::{Factor, Share, Time};

    fn rule() -> Recovery {
        Recovery {
            within: Time::seconds(60),
            hold: Time::seconds(3),
            on_time: Share(990_000),
            latency_factor: Factor(1_100_000),
            imbalance: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_relapse_starts_the_hold_again() {
        let steady =
            [Pulse { connected: 10, planned: 10, delivered_p99_ns: 5_000_000, ..Pulse::default() }];
        let mut watch = RecoveryWatch::new(Some(&rule()), &steady);
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        assert!(!watch.recovered(at(0), steady[0]));
        assert!(!watch.recovered(at(2), steady[0]));
        assert!(!watch.recovered(at(3), Pulse { connected: 9, ..steady[0] }));
        assert!(!watch.recovered(at(4), steady[0]));
        assert!(!watch.recovered(at(6), steady[0]));
        assert!(watch.recovered(at(7), steady[0]));
    }
}
