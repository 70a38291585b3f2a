//! `port-reset`: calls of every node to a backend end in a reset connection.
use chat_control::act::PortRule;

use crate::bed::Bed;
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::HealGuard;
use crate::ports::{Stopped, of_everyone};
use crate::roster::Roster;
use crate::spec::PortReset;

const COUNTER: &str = "calls_reset";
const COUNTERS: &[&str] = &[COUNTER];

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
        let stopped = Stopped::start(&bed.reach, self.port, COUNTER).await?.at_once();
        let armed = bed.arm(step, what, self.port.cleared(None))?;
        self.port.rule(&bed.reach, &PortRule::Reset).await?;
        Ok(armed.acted(stopped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};
    use crate::spec::Port;

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
