//! `port-slow`: calls of every node to a backend take longer.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Fault, InjectError, Refusal, Step, Targets};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::SLACK;
use crate::ports::{CallWatch, owned};
use crate::roster::Roster;
use crate::spec::PortSlow;
use crate::undo::Undo;
use crate::witness::{Evidence, LAPSE, Reading};

const COUNTERS: &[&str] = &["calls_slowed", "mean_call_us"];

impl PortSlow {
    fn undo(&self) -> Undo {
        Undo::PortsCleared { ports: owned(self.port.names()), node: None }
    }
}

impl Fault for PortSlow {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        if self.delay.0 == 0 {
            return Err(Refusal::Selector("a `delay` of 0 slows nothing"));
        }
        let what = Description {
            fault: "port-slow",
            targets: Targets::Ports { ports: owned(self.port.names()), node: None },
            blast: Blast { nodes: Vec::new(), devices: DeviceBlast::Everyone },
            undo: self.undo().in_words(),
            witness: "calls go on taking at least 80 % of the delay longer than before, in the mean",
            counters: COUNTERS,
        };
        what.asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let ports = self.port.names();
        let calls = CallWatch::start(&bed.reach, ports, None).await?;
        let (delay, jitter) = (self.delay.as_duration(), self.jitter.as_duration());
        // No call takes longer than its limit, and no draw is shorter than this.
        let shortest = delay.saturating_sub(jitter).min(self.port.limit(bed.timers()));
        let armed = bed.arm(step, what, self.undo())?;
        for port in ports {
            bed.reach.control.port_rule(port, None, Some(PortRule::Slow { delay, jitter })).await?;
        }
        let (beat, longer) = (self.port.beat(bed.timers()), shortest * 4 / 5);
        Ok(armed.acted(Slowed { calls, longer, beat }))
    }
}

struct Slowed {
    calls: CallWatch,
    /// So much longer must calls take in the mean.
    longer: Duration,
    /// Calls are not further apart than this.
    beat: Duration,
}

#[async_trait]
impl Effect for Slowed {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        Ok(self.calls.slowed(reach, self.longer).await?.into())
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.calls.quick(reach, self.longer).await?])
    }

    fn patience(&self, _: &Timers) -> Duration {
        self.beat + SLACK
    }

    fn lapse(&self, _: &Timers) -> Duration {
        LAPSE.max(self.beat * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};
    use crate::spec::Port;
    use storm_workload::units::Time;

    fn slow() -> PortSlow {
        PortSlow { port: Port::Registry, delay: Time::millis(200), jitter: Time::millis(50) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_registry_is_witnessed_by_what_calls_take() {
        let planted = Planted::new();
        let bed = planted.bed();
        let mut guard = slow().inject(&bed, &Step::new("slow")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        assert_eq!(planted.ports_ruled(), ["registry", "relay_queue"]);
        healed(guard).await;
        assert!(planted.ports_ruled().is_empty());
        assert_eq!(planted.journal_states(), ["open", "healed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_that_delays_nothing_is_missed() {
        let planted = Planted::new();
        planted.ignore_rules();
        let bed = planted.bed();
        let mut guard = slow().inject(&bed, &Step::new("slow")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_history_is_history_and_tables() {
        let planted = Planted::new();
        let bed = planted.bed();
        let fault = PortSlow { port: Port::History, ..slow() };
        let mut guard = fault.inject(&bed, &Step::new("slow")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        assert_eq!(planted.ports_ruled(), ["history", "tables"]);
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_registry_that_nobody_calls_is_missed_and_not_seen_healed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let mut guard = slow().inject(&bed, &Step::new("slow")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        let by = tokio::time::Instant::now() + crate::HEAL_WAIT;
        assert!(matches!(guard.heal(by).await, Err(crate::HealError::NotWitnessed { .. })));
        assert!(planted.ports_ruled().is_empty(), "taken away all the same");
        bed.finish(Duration::from_secs(5)).await;
        assert_eq!(planted.journal_states(), ["open", "undone"]);
    }
}
