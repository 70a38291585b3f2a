//! `pause`: nodes execute nothing while their sockets stay open, and go on at the heal.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::inspect::NodeState;
use chat_protocol::limits::Timers;
use tokio::time::Instant;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::links::silent_links;
use crate::nodes::{NodeWatch, Picked, SLACK, millis};
use crate::roster::Roster;
use crate::spec::Pause;
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

const COUNTERS: &[&str] = &["unit_frozen", "lease_behind_ms", "connections_held", "links_silent"];

/// No byte came from the node for so long.
const SILENCE: Duration = Duration::from_secs(2);

impl Pause {
    fn pick(&self, roster: &Roster, step: &Step) -> Result<Picked, Refusal> {
        let nodes = roster.pick_nodes(&step.id, &self.node)?;
        let witness =
            "the unit is frozen and renews no lease; a gateway's sockets stay open and silent";
        Picked::new("pause", step, nodes, Undo::NodesResumed, (witness, COUNTERS))
    }
}

impl Fault for Pause {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(self.pick(roster, step)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let (armed, watch) = self.pick(&bed.roster().await?, step)?.armed(bed, step).await?;
        for node in watch.names() {
            bed.reach.control.pause(node).await?;
        }
        Ok(armed.acted(Frozen { devices: watch.devices(), watch, since: Instant::now() }))
    }
}

struct Frozen {
    watch: NodeWatch,
    devices: BTreeSet<u64>,
    since: Instant,
}

#[async_trait]
impl Effect for Frozen {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = self.watch.look(reach).await?;
        let mut readings = vec![self.watch.standing("unit_frozen", &now, &[NodeState::Paused])];
        if let Some(behind) = self.watch.lease_behind_ms(&now, &reach.timers) {
            // A node that runs is behind by one renewal at most.
            readings.push(Reading::stands(
                "lease_behind_ms",
                0,
                behind,
                2 * millis(reach.timers.lease_renew),
            ));
        }
        if self.watch.kinds().0 {
            readings.push(Reading::once("connections_held", 0, self.watch.connections_before(), 1));
            // Links older than the fault: what a device dials meanwhile leads elsewhere.
            let (there, silent) = silent_links(reach, &self.devices, self.since.elapsed(), SILENCE);
            let required = u64::from(0 < there);
            readings.push(Reading::once("links_silent", 0, silent, required));
        }
        Ok(readings)
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        self.watch.serving(reach, false).await
    }

    fn patience(&self, timers: &Timers) -> Duration {
        SILENCE.max(timers.lease_renew * 2) + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, gateway_role, healed, witnessed};

    #[tokio::test(start_paused = true)]
    async fn a_paused_gateway_is_witnessed_by_its_lease_and_goes_on() {
        let planted = Planted::new();
        let bed = planted.bed();
        let mut guard =
            Pause { node: gateway_role() }.inject(&bed, &Step::new("freeze")).await.unwrap();
        assert!(!guard.witness(Instant::now()).await.bites(), "the lease has just been renewed");
        assert!(witnessed(&mut guard).await.bites());
        let node = guard.blast().nodes[0].clone();
        healed(guard).await;
        assert_eq!(planted.state_of(&node), NodeState::Running);
        assert_eq!(planted.journal_states(), ["open", "healed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_ends_by_itself_has_lapsed() {
        let planted = Planted::new();
        let bed = planted.bed();
        let mut guard =
            Pause { node: gateway_role() }.inject(&bed, &Step::new("freeze")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        planted.run_on(&guard.blast().nodes[0]);
        assert!(
            guard.witness(Instant::now()).await.bites(),
            "its last bite is not three seconds old"
        );
        tokio::time::advance(Duration::from_secs(4)).await;
        let later = guard.witness(Instant::now()).await;
        assert!(matches!(later, crate::Witness::Lapsed { .. }), "{later:?}");
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn pausing_an_idle_gateway_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let mut guard =
            Pause { node: gateway_role() }.inject(&bed, &Step::new("freeze")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }
}
