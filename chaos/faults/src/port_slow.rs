//! `port-slow`: calls of every node to a backend take longer.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::SLACK;
use crate::ports::{CallWatch, of_everyone};
use crate::roster::Roster;
use crate::spec::PortSlow;
use crate::witness::{Evidence, LAPSE, Reading};

const COUNTERS: &[&str] = &["calls_slowed", "mean_call_us"];

impl PortSlow {
    /// By how much calls of which none takes longer than `limit` get longer in the mean, at the least.
    fn mean(&self, limit: Duration) -> Duration {
        let (delay, jitter) = (self.delay.as_duration(), self.jitter.as_duration());
        // Draws lie evenly about the delay; where the limit cuts the long ones off, only the shortest draw is sure.
        if delay + jitter <= limit { delay } else { delay.saturating_sub(jitter).min(limit) }
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
        let witness =
            "calls go on taking at least 80 % of the delay longer than before, in the mean";
        of_everyone("port-slow", self.port, &self.port.cleared(None), witness, COUNTERS)
            .asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let calls = CallWatch::start(&bed.reach, self.port.names(), None).await?;
        let (delay, jitter) = (self.delay.as_duration(), self.jitter.as_duration());
        let armed = bed.arm(step, what, self.port.cleared(None))?;
        self.port.rule(&bed.reach, &PortRule::Slow { delay, jitter }).await?;
        let longer = self.mean(self.port.limit(bed.timers())) * 4 / 5;
        let beat = self.port.beat(bed.timers());
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
    async fn a_rule_that_gives_less_than_four_fifths_of_its_delay_is_missed() {
        let planted = Planted::new();
        planted.slow_by(70);
        let bed = planted.bed();
        let mut guard = slow().inject(&bed, &Step::new("slow")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[test]
    fn draws_above_the_limit_of_a_call_are_not_waited_for() {
        let limit = Duration::from_millis(240);
        assert_eq!(slow().mean(limit), Duration::from_millis(150));
        assert_eq!(slow().mean(limit / 2), limit / 2);
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
