//! Ports that a fault conditions, and the counters of their hooks.
//!
//! A hook counts for all nodes together. Two faults on one port at the same time therefore read each other's hits.

use crate::bed::{BedError, Reach};
use crate::spec::Port;
use crate::witness::Evidence;

impl Port {
    /// Names of the ports behind it: the session registry and the relay queue are one store.
    pub(crate) const fn names(self) -> &'static [&'static str] {
        match self {
            Port::Registry => &["registry", "relay_queue"],
        }
    }
}

pub(crate) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| String::from(*name)).collect()
}

/// What the hooks of some ports have counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HookCounts {
    /// Calls that a rule touched.
    pub(crate) hits: u64,
    /// Delay asked of them, microseconds.
    pub(crate) asked_us: u64,
    /// Delay that they got.
    pub(crate) given_us: u64,
    /// Calls in all.
    pub(crate) calls: u64,
}

impl HookCounts {
    pub(crate) async fn of(reach: &Reach, ports: &[&str]) -> Result<HookCounts, BedError> {
        let mut counts = HookCounts::default();
        for reading in reach.control.counters().await? {
            let mut parts = reading.name.split('.');
            let (kind, port, last) = (parts.next(), parts.next(), parts.next_back());
            if !port.is_some_and(|port| ports.contains(&port)) {
                continue;
            }
            let sum = match (kind, last) {
                (Some("hook"), Some("hits")) => &mut counts.hits,
                (Some("hook"), Some("delay_asked_us")) => &mut counts.asked_us,
                (Some("hook"), Some("delay_given_us")) => &mut counts.given_us,
                (Some("port"), Some("calls")) => &mut counts.calls,
                _ => continue,
            };
            *sum += reading.value;
        }
        Ok(counts)
    }
}

/// Watches calls get through once the rule is gone.
#[derive(Debug, Default)]
pub(crate) struct FreeCalls {
    since: Option<HookCounts>,
}

impl FreeCalls {
    /// Evidence that calls are made and none is touched, counted from the last touched one.
    pub(crate) async fn look(
        &mut self,
        reach: &Reach,
        ports: &[&str],
    ) -> Result<Evidence, BedError> {
        let now = HookCounts::of(reach, ports).await?;
        let since = self.since.filter(|since| since.hits == now.hits).unwrap_or(now);
        self.since = Some(since);
        Ok(Evidence::new("calls_untouched", since.calls, now.calls, 1))
    }
}
