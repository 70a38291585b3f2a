//! `port-slow`: calls of every node to a backend take longer.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Fault, InjectError, Refusal, Step, Targets};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{SLACK, micros};
use crate::ports::{FreeCalls, HookCounts, owned};
use crate::roster::Roster;
use crate::spec::PortSlow;
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

const COUNTERS: &[&str] = &["calls_slowed", "delay_given_us", "delay_asked_us"];

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
            witness: "calls go on being slowed, and were given at least 80 % of the delay of one",
            counters: COUNTERS,
        };
        what.asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let ports = self.port.names();
        let before = HookCounts::of(&bed.reach, ports).await?;
        let (delay, jitter) = (self.delay.as_duration(), self.jitter.as_duration());
        let armed = bed.arm(step, what, self.undo())?;
        for port in ports {
            bed.reach.control.port_rule(port, None, Some(PortRule::Slow { delay, jitter })).await?;
        }
        let shortest = delay.saturating_sub(jitter);
        Ok(armed.acted(Slowed { ports, before, shortest, free: FreeCalls::default() }))
    }
}

struct Slowed {
    ports: &'static [&'static str],
    before: HookCounts,
    /// Shortest delay that a call can be asked.
    shortest: Duration,
    free: FreeCalls,
}

#[async_trait]
impl Effect for Slowed {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = HookCounts::of(reach, self.ports).await?;
        let one_call = (micros(self.shortest) * 4 / 5).max(1);
        Ok(vec![
            Reading::flows("calls_slowed", self.before.hits, now.hits, 1),
            Reading::once("delay_given_us", self.before.given_us, now.given_us, one_call),
            Reading::noted("delay_asked_us", self.before.asked_us, now.asked_us),
        ])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.free.look(reach, self.ports).await?])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        // Leases are renewed whatever else happens.
        timers.lease_renew + timers.store_call + SLACK
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
    async fn a_slow_registry_is_witnessed_by_its_hook() {
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
