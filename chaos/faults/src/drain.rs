//! `drain`: nodes send their devices away, leave by themselves, and start again at the heal.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::inspect::NodeState;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{NodeWatch, Picked, SLACK};
use crate::roster::Roster;
use crate::spec::Drain;
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

const COUNTERS: &[&str] = &["unit_leaving", "connections_shed", "closed_1012", "work_moved"];

impl Drain {
    fn pick(&self, roster: &Roster, step: &Step) -> Result<Picked, Refusal> {
        let nodes = roster.pick_nodes(&step.id, &self.node)?;
        let witness = "the unit leaves; of a gateway, connections are shed; of a service node, a partition or its lease moved";
        Picked::new("drain", step, nodes, Undo::NodesStarted, (witness, COUNTERS))
    }
}

impl Fault for Drain {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(self.pick(roster, step)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let (armed, watch) = self.pick(&bed.roster().await?, step)?.armed(bed, step).await?;
        for node in watch.names() {
            bed.reach.control.drain(node).await?;
        }
        Ok(armed.acted(Drained { watch }))
    }
}

struct Drained {
    watch: NodeWatch,
}

#[async_trait]
impl Effect for Drained {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = self.watch.look(reach).await?;
        let mut readings = vec![self.watch.standing(
            "unit_leaving",
            &now,
            &[NodeState::Draining, NodeState::Stopped],
        )];
        if self.watch.kinds().0 {
            readings.push(Reading::once(
                "connections_shed",
                0,
                self.watch.connections_lost(&now),
                1,
            ));
            readings.push(Reading::noted("closed_1012", 0, self.watch.closed_drained()));
        }
        readings.extend(self.watch.work_reading(&now));
        Ok(readings)
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        self.watch.serving(reach, true).await
    }

    fn patience(&self, timers: &Timers) -> Duration {
        timers.drain_spread + timers.drain_deadline + self.watch.patience(timers) + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, gateway_role, healed, witnessed};

    #[tokio::test(start_paused = true)]
    async fn a_drained_gateway_sheds_its_connections_and_starts_again_once_it_has_left() {
        let planted = Planted::new();
        let bed = planted.bed();
        let mut guard =
            Drain { node: gateway_role() }.inject(&bed, &Step::new("drain-one")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        let mut closed = 0;
        for _ in 0..5 {
            let witness = guard.witness(tokio::time::Instant::now()).await;
            let counter =
                witness.evidence().iter().find(|counter| counter.counter == "closed_1012");
            closed = counter.unwrap().after;
        }
        assert_eq!(closed, 10);
        healed(guard).await;
        assert_eq!(planted.journal_states(), ["open", "healed"]);
        assert!(bed.finish(Duration::from_secs(1)).await.is_clean());
    }

    #[tokio::test(start_paused = true)]
    async fn draining_an_idle_gateway_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let mut guard =
            Drain { node: gateway_role() }.inject(&bed, &Step::new("drain-one")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }
}
