//! `kill`: nodes die, at once and with all they hold, and start again, empty, at the heal.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::act;
use chat_control::inspect::NodeState;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{NodeWatch, Picked};
use crate::roster::Roster;
use crate::spec::{Kill, KillHow};
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

const COUNTERS: &[&str] = &["unit_gone", "connections_cut", "devices_cut", "work_moved"];

impl Kill {
    fn pick(&self, roster: &Roster, step: &Step) -> Result<Picked, Refusal> {
        let nodes = roster.pick_nodes(&step.id, &self.node)?;
        let witness = "the unit is gone; of a gateway, its connections are cut; of a service node, a partition or its lease moved";
        Picked::new("kill", step, nodes, Undo::NodesStarted, (witness, COUNTERS))
    }
}

impl Fault for Kill {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(self.pick(roster, step)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let (armed, watch) = self.pick(&bed.roster().await?, step)?.armed(bed, step).await?;
        let how = match self.how {
            KillHow::Process => act::KillHow::Process,
            KillHow::Silent => act::KillHow::Silent,
        };
        for node in watch.names() {
            bed.reach.control.kill(node, how).await?;
        }
        Ok(armed.acted(Killed { watch, how }))
    }
}

struct Killed {
    watch: NodeWatch,
    how: act::KillHow,
}

#[async_trait]
impl Effect for Killed {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = self.watch.look(reach).await?;
        let mut readings = vec![self.watch.standing(
            "unit_gone",
            &now,
            &[NodeState::Stopped, NodeState::Vanished],
        )];
        if self.watch.kinds().0 {
            readings.push(Reading::once(
                "connections_cut",
                0,
                self.watch.connections_lost(&now),
                1,
            ));
            let devices = self.watch.devices_lost(reach);
            // Nothing tells a device that its silent node is gone, until its own patience is over.
            let noticed = self.how == act::KillHow::Process && !self.watch.devices().is_empty();
            readings.push(if noticed {
                Reading::once("devices_cut", 0, devices, 1)
            } else {
                Reading::noted("devices_cut", 0, devices)
            });
        }
        readings.extend(self.watch.work_reading(&now));
        Ok(readings)
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        self.watch.serving(reach, true).await
    }

    fn patience(&self, timers: &Timers) -> Duration {
        self.watch.patience(timers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, gateway_role, healed, named, witnessed};

    fn kill(how: KillHow) -> Kill {
        Kill { node: gateway_role(), how }
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_gateway_cuts_its_connections_and_starts_again() {
        for how in [KillHow::Process, KillHow::Silent] {
            let planted = Planted::new();
            let bed = planted.bed();
            let mut guard = kill(how).inject(&bed, &Step::new("kill-one")).await.unwrap();
            assert_eq!(
                guard.blast().devices,
                crate::DeviceBlast::These(Planted::devices_at(&guard.blast().nodes[0]))
            );
            assert!(witnessed(&mut guard).await.bites());
            let evidence = healed(guard).await;
            assert_eq!(evidence[0].counter, "units_ready");
            assert_eq!(planted.journal_states(), ["open", "healed"]);
            assert!(bed.finish(Duration::from_secs(1)).await.is_clean());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn killing_an_idle_gateway_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let mut guard = kill(KillHow::Process).inject(&bed, &Step::new("kill-one")).await.unwrap();
        assert!(matches!(witnessed(&mut guard).await, crate::Witness::Missed(_)));
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_asks_for_more_connections_than_there_were_is_missed() {
        let planted = Planted::new();
        let bed = planted.bed();
        let step = Step::new("kill-one").at_least("connections_cut", 1_000);
        let mut guard = kill(KillHow::Process).inject(&bed, &step).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
        let unknown = Step::new("kill-one").at_least("connections", 1);
        let refused = kill(KillHow::Process).describe(&bed.roster().await.unwrap(), &unknown);
        assert!(matches!(refused, Err(Refusal::UnknownCounter { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_service_node_bites_once_its_lease_has_ended() {
        let planted = Planted::new();
        let bed = planted.bed();
        let fault = Kill { node: named("services-1"), how: KillHow::Process };
        let mut guard = fault.inject(&bed, &Step::new("kill-service")).await.unwrap();
        assert!(!guard.witness(tokio::time::Instant::now()).await.bites());
        assert!(witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_guard_dropped_unhealed_hands_the_undo_to_the_janitor() {
        let planted = Planted::new();
        let bed = planted.bed();
        let guard = kill(KillHow::Process).inject(&bed, &Step::new("kill-one")).await.unwrap();
        let (id, node) = (guard.id(), guard.blast().nodes[0].clone());
        drop(guard);
        let left = bed.finish(Duration::from_secs(5)).await;
        assert!(left.is_clean());
        assert_eq!(left.undone, [id]);
        assert_eq!(planted.state_of(&node), NodeState::Running);
        assert_eq!(planted.journal_states(), ["open", "undone"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_act_that_fails_half_way_is_undone() {
        let planted = Planted::new();
        let bed = planted.bed();
        planted.refuse_kill_of("gateway-2");
        let node = crate::spec::NodeSelector { count: Some(3), ..gateway_role() };
        let fault = Kill { node, how: KillHow::Process };
        assert!(fault.inject(&bed, &Step::new("kill-all")).await.is_err());
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
        assert_eq!(planted.state_of("gateway-1"), NodeState::Running);
    }
}
