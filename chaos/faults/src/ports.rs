//! Ports that a fault conditions, and what their calls met at the nodes.
//!
//! A node counts its calls of a port whatever stands between it and the backend: a hook, a proxy, or a backend that is gone. Two
//! faults on one port at the same time therefore read each other's traces. What a call usually takes is the mean since the system
//! began, with the calls that earlier faults slowed.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_protocol::limits::Timers;
use tokio::time::Instant;

use crate::bed::{BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Targets};
use crate::heal_guard::Effect;
use crate::nodes::{SLACK, micros};
use crate::spec::Port;
use crate::undo::Undo;
use crate::witness::{Evidence, LAPSE, Reading};

/// Calls that wait this many times as long as usual are held.
const HELD_TIMES: u64 = 4;

impl Port {
    /// Names of the ports behind it: the session registry and the relay queue are one store, history and tables another.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Port::Registry => &["registry", "relay_queue"],
            Port::History => &["history", "tables"],
        }
    }

    /// How long a call of it may take.
    pub const fn limit(self, timers: &Timers) -> Duration {
        match self {
            Port::Registry => timers.store_call,
            Port::History => timers.table_call,
        }
    }

    /// How far apart its calls are at the most while the system works at all: leases are renewed and history is written whatever
    /// else happens, and a call that is lost takes its whole time.
    pub(crate) fn beat(self, timers: &Timers) -> Duration {
        let pause = match self {
            Port::Registry => timers.lease_renew,
            Port::History => timers.commit,
        };
        pause + self.limit(timers)
    }

    fn owned_names(self) -> Vec<String> {
        self.names().iter().map(|name| String::from(*name)).collect()
    }

    /// Its calls as a target, of one node or of all.
    pub(crate) fn targets(self, node: Option<String>) -> Targets {
        Targets::Ports { ports: self.owned_names(), node }
    }

    /// Puts a rule on its calls, at every node.
    pub(crate) async fn rule(self, reach: &Reach, rule: &PortRule) -> Result<(), BedError> {
        for port in self.names() {
            reach.control.port_rule(port, None, Some(rule.clone())).await?;
        }
        Ok(())
    }

    /// Takes a rule on it off again, of one node or of all.
    pub(crate) fn cleared(self, node: Option<String>) -> Undo {
        Undo::PortsCleared { ports: self.owned_names(), node }
    }
}

/// What a fault that every call of a port meets says about itself.
pub(crate) fn of_everyone(
    fault: &'static str,
    port: Port,
    undo: &Undo,
    witness: &'static str,
    counters: &'static [&'static str],
) -> Description {
    Description {
        fault,
        targets: port.targets(None),
        blast: Blast { nodes: Vec::new(), devices: DeviceBlast::Everyone },
        undo: undo.in_words(),
        witness,
        counters,
    }
}

/// Sums over the calls of some ports, at one node or at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallCounts {
    pub(crate) started: u64,
    pub(crate) answered: u64,
    /// Ended without an answer.
    pub(crate) failed: u64,
    /// Time of all that ended, microseconds.
    took_us: u64,
}

impl CallCounts {
    async fn of(reach: &Reach, ports: &[&str], node: Option<&str>) -> Result<CallCounts, BedError> {
        let mut counts = CallCounts::default();
        for reading in reach.control.counters().await? {
            let Some((port, rest)) =
                reading.name.strip_prefix("calls.").and_then(|name| name.split_once('.'))
            else {
                continue;
            };
            let Some((at, what)) = rest.rsplit_once('.') else { continue };
            if !ports.contains(&port) || node.is_some_and(|node| node != at) {
                continue;
            }
            let sum = match what {
                "started" => &mut counts.started,
                "answered" => &mut counts.answered,
                "failed" => &mut counts.failed,
                "took_us" => &mut counts.took_us,
                _ => continue,
            };
            *sum += reading.value;
        }
        Ok(counts)
    }

    fn since(self, before: CallCounts) -> CallCounts {
        CallCounts {
            started: self.started.saturating_sub(before.started),
            answered: self.answered.saturating_sub(before.answered),
            failed: self.failed.saturating_sub(before.failed),
            took_us: self.took_us.saturating_sub(before.took_us),
        }
    }

    /// Mean time of the calls that ended, microseconds; `None` without any.
    fn mean_us(self) -> Option<u64> {
        self.took_us.checked_div(self.answered + self.failed)
    }

    fn ended(self) -> u64 {
        self.answered + self.failed
    }

    /// Calls that were made or ended without an answer; one that did both counts once.
    fn unanswered(self) -> u64 {
        self.started.max(self.failed)
    }
}

/// Looks one after the other that saw calls and no answer.
#[derive(Debug)]
struct Silence {
    /// When the first of them was over.
    since: Instant,
    /// The counts before it.
    before: CallCounts,
    /// How many of the calls since count as bitten already.
    counted: u64,
}

/// Watches the calls of some ports from one look to the next.
#[derive(Debug)]
pub(crate) struct CallWatch {
    ports: &'static [&'static str],
    node: Option<String>,
    last: CallCounts,
    /// Mean time of all calls before the act, microseconds.
    usual_us: u64,
    /// Calls of looks that showed the fault, so far.
    bitten: u64,
    silence: Option<Silence>,
    /// Calls of looks that showed its absence, without a break.
    free: u64,
}

impl CallWatch {
    /// Notes what calls met so far, before the act.
    pub(crate) async fn start(
        reach: &Reach,
        ports: &'static [&'static str],
        node: Option<String>,
    ) -> Result<CallWatch, BedError> {
        let last = CallCounts::of(reach, ports, node.as_deref()).await?;
        let usual_us = last.mean_us().unwrap_or(0);
        Ok(CallWatch { ports, node, last, usual_us, bitten: 0, silence: None, free: 0 })
    }

    /// What happened since the last look.
    async fn look(&mut self, reach: &Reach) -> Result<CallCounts, BedError> {
        let now = CallCounts::of(reach, self.ports, self.node.as_deref()).await?;
        let since = now.since(self.last);
        self.last = now;
        Ok(since)
    }

    /// Readings `calls_slowed` and `mean_call_us`: the calls since the last look took `by` longer than usual in the mean.
    pub(crate) async fn slowed(
        &mut self,
        reach: &Reach,
        by: Duration,
    ) -> Result<[Reading; 2], BedError> {
        let since = self.look(reach).await?;
        let (mean_us, by_us) = (since.mean_us().unwrap_or(0), micros(by).max(1));
        if self.usual_us.saturating_add(by_us) <= mean_us {
            self.bitten += since.ended();
        }
        Ok([
            Reading::flows("calls_slowed", 0, self.bitten, 1),
            Reading::once("mean_call_us", self.usual_us, mean_us.max(self.usual_us), by_us),
        ])
    }

    /// A reading of calls that were made while none was answered. One that ended without an answer counts at once; those that
    /// wait count when that is for several times what calls usually take, since a call may simply be under way.
    pub(crate) async fn stopped(
        &mut self,
        reach: &Reach,
        counter: &str,
    ) -> Result<Reading, BedError> {
        let (asked, before) = (Instant::now(), self.last);
        let since = self.look(reach).await?;
        if 0 < since.answered {
            self.silence = None;
        } else if self.silence.is_some() || 0 < since.unanswered() {
            let begins = || Silence { since: Instant::now(), before, counted: 0 };
            let silence = self.silence.get_or_insert_with(begins);
            let calls = self.last.since(silence.before);
            let waited_us = micros(asked.saturating_duration_since(silence.since));
            if 0 < calls.failed || self.usual_us.saturating_mul(HELD_TIMES) < waited_us {
                self.bitten += calls.unanswered().saturating_sub(silence.counted);
                silence.counted = calls.unanswered();
            }
        }
        Ok(Reading::flows(counter, 0, self.bitten, 1))
    }

    /// A reading of calls that failed at once while none was answered: sooner than half of `limit`, the whole of which a call
    /// without an answer takes.
    pub(crate) async fn broken(
        &mut self,
        reach: &Reach,
        counter: &str,
        limit: Duration,
    ) -> Result<Reading, BedError> {
        let since = self.look(reach).await?;
        if since.answered == 0 && since.mean_us().is_some_and(|mean| mean < micros(limit) / 2) {
            self.bitten += since.failed;
        }
        Ok(Reading::flows(counter, 0, self.bitten, 1))
    }

    /// Evidence that calls take no longer than twice the usual, or at least lost nearly all of `by`.
    pub(crate) async fn quick(
        &mut self,
        reach: &Reach,
        by: Duration,
    ) -> Result<Evidence, BedError> {
        let since = self.look(reach).await?;
        let most = (self.usual_us * 2).max(self.usual_us.saturating_add(micros(by) / 4));
        self.free = match since.mean_us() {
            Some(mean_us) if most < mean_us => 0,
            _ => self.free + since.answered,
        };
        Ok(Evidence::new("calls_quick", 0, self.free, 1))
    }

    /// Evidence that calls are answered and none fails.
    pub(crate) async fn answered(&mut self, reach: &Reach) -> Result<Evidence, BedError> {
        let since = self.look(reach).await?;
        self.free = if 0 < since.failed { 0 } else { self.free + since.answered };
        Ok(Evidence::new("calls_answered", 0, self.free, 1))
    }
}

/// A port of which no call is answered.
pub(crate) struct Stopped {
    calls: CallWatch,
    port: Port,
    counter: &'static str,
    /// Calls have to fail sooner than one does that gets no answer.
    at_once: bool,
}

impl Stopped {
    /// Notes what calls met so far, before the act. `counter` names the calls that are not answered.
    pub(crate) async fn start(
        reach: &Reach,
        port: Port,
        counter: &'static str,
    ) -> Result<Stopped, BedError> {
        let calls = CallWatch::start(reach, port.names(), None).await?;
        Ok(Stopped { calls, port, counter, at_once: false })
    }

    /// The same where calls fail at once.
    pub(crate) fn at_once(self) -> Stopped {
        Stopped { at_once: true, ..self }
    }
}

#[async_trait]
impl Effect for Stopped {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let reading = if self.at_once {
            self.calls.broken(reach, self.counter, self.port.limit(&reach.timers)).await
        } else {
            self.calls.stopped(reach, self.counter).await
        };
        Ok(vec![reading?])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.calls.answered(reach).await?])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        self.port.beat(timers) + SLACK
    }

    fn lapse(&self, timers: &Timers) -> Duration {
        LAPSE.max(self.port.beat(timers) * 2)
    }
}
