//! `port-stall`: calls of every node to a backend are held, and go on at the heal.

use chat_control::act::PortRule;

use crate::bed::Bed;
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::HealGuard;
use crate::ports::{Stopped, of_everyone};
use crate::roster::Roster;
use crate::spec::PortStall;

const COUNTER: &str = "calls_held";
const COUNTERS: &[&str] = &[COUNTER];

impl Fault for PortStall {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        let witness = "calls go on being made, and none is answered";
        of_everyone("port-stall", self.port, &self.port.cleared(None), witness, COUNTERS)
            .asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let stopped = Stopped::start(&bed.reach, self.port, COUNTER).await?;
        let armed = bed.arm(step, what, self.port.cleared(None))?;
        self.port.rule(&bed.reach, &PortRule::Stall).await?;
        Ok(armed.acted(stopped))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::planted::{Planted, healed, witnessed};
    use crate::spec::Port;

    #[tokio::test(start_paused = true)]
    async fn a_stalled_port_holds_calls_that_go_on_at_the_heal() {
        for (port, names) in
            [(Port::Registry, ["registry", "relay_queue"]), (Port::History, ["history", "tables"])]
        {
            let planted = Planted::new();
            let bed = planted.bed();
            let mut guard = PortStall { port }.inject(&bed, &Step::new("stall")).await.unwrap();
            assert!(witnessed(&mut guard).await.bites());
            assert_eq!(planted.ports_ruled(), names);
            healed(guard).await;
            assert!(planted.ports_ruled().is_empty());
            assert_eq!(planted.journal_states(), ["open", "healed"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_behind_which_calls_are_answered_is_missed() {
        let planted = Planted::new();
        planted.ignore_rules();
        let bed = planted.bed();
        let fault = PortStall { port: Port::Registry };
        let mut guard = fault.inject(&bed, &Step::new("stall")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_without_effect_is_missed_though_slow_calls_are_under_way() {
        let planted = Planted::new();
        planted.ignore_rules();
        planted.take_each_call(Duration::from_millis(250));
        // They are as slow as they always were.
        tokio::time::advance(Duration::from_secs(5)).await;
        let bed = planted.bed();
        let fault = PortStall { port: Port::History };
        let mut guard = fault.inject(&bed, &Step::new("stall")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_port_that_nobody_calls_is_missed_and_cleared_by_a_drop() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let fault = PortStall { port: Port::Registry };
        let mut guard = fault.inject(&bed, &Step::new("stall")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        drop(guard);
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
        assert!(planted.ports_ruled().is_empty());
    }
}
