//! `port-reset`: calls of every node to a backend end in a reset connection.
use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_protocol::limits::Timers;
use std::time::Duration;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::ports::{CallWatch, of_everyone};
use crate::roster::Roster;
use crate::spec::{Port, PortReset};
use crate::witness::{Evidence, Reading};

const COUNTER: &str = "calls_reset";
const COUNTERS: &[&str] = &[COUNTER];

/// A port whose calls all fail, and at once: one that got no answer would take its whole time.
struct Broken {
    calls: CallWatch,
    port: Port,
}

#[async_trait]
impl Effect for Broken {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let limit = self.port.limit(&reach.timers);
        Ok(vec![self.calls.broken(reach, COUNTER, limit).await?])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.calls.answered(reach).await?])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        self.port.patience(timers)
    }

    fn lapse(&self, timers: &Timers) -> Duration {
        self.port.lapse(timers)
    }
}

impl Fault for PortReset {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        let witness = "calls fail at once, and none is answered";
        of_everyone("port-reset", self.port, &self.port.cleared(None), witness, COUNTERS)
            .asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let calls = CallWatch::start(&bed.reach, self.port.names(), None).await?;
        let armed = bed.arm(step, what, self.port.cleared(None))?;
        for port in self.port.names() {
            bed.reach.control.port_rule(port, None, Some(PortRule::Reset)).await?;
        }
        Ok(armed.acted(Broken { calls, port: self.port }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};

    #[tokio::test(start_paused = true)]
    async fn a_reset_port_fails_calls_at_once_until_the_heal() {
        for (port, names) in
            [(Port::Registry, ["registry", "relay_queue"]), (Port::History, ["history", "tables"])]
        {
            let planted = Planted::new();
            let bed = planted.bed();
            let mut guard = PortReset { port }.inject(&bed, &Step::new("reset")).await.unwrap();
            assert!(witnessed(&mut guard).await.bites());
            assert_eq!(planted.ports_ruled(), names);
            healed(guard).await;
            assert!(planted.ports_ruled().is_empty());
            assert_eq!(planted.journal_states(), ["open", "healed"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_behind_which_calls_are_answered_is_missed() {
        let planted = Planted::new();
        planted.ignore_rules();
        let bed = planted.bed();
        let fault = PortReset { port: Port::Registry };
        let mut guard = fault.inject(&bed, &Step::new("reset")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_get_no_answer_are_no_reset() {
        let planted = Planted::new();
        planted.lose_instead();
        let bed = planted.bed();
        let fault = PortReset { port: Port::Registry };
        let mut guard = fault.inject(&bed, &Step::new("reset")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }
}
