//! `rolling`: every node of a role is drained and started again, one after the other, each gated on ready.
//!
//! The act lasts: a task of the bed does it, and the heal waits for its end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::inspect::NodeState;
use chat_protocol::limits::Timers;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{NodeWatch, Picked};
use crate::roster::{NodePlace, Roster};
use crate::spec::Rolling;
use crate::undo::Undo;
use crate::witness::{Evidence, LAPSE, Reading};

const COUNTERS: &[&str] =
    &["nodes_left", "nodes_restarted", "connections_shed", "closed_1012", "work_moved"];

impl Rolling {
    fn pick(&self, roster: &Roster, step: &Step) -> Result<Picked, Refusal> {
        let nodes: Vec<NodePlace> = roster.of_role(self.role)?.into_iter().cloned().collect();
        let witness = "nodes leave; of gateways, connections are shed; of service nodes, a partition or lease moved";
        Picked::new("rolling", step, nodes, Undo::NodesStarted, (witness, COUNTERS))
    }
}

impl Fault for Rolling {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(self.pick(roster, step)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let (armed, watch) = self.pick(&bed.roster().await?, step)?.armed(bed, step).await?;
        let names = watch.names().map(String::from).collect();
        let stop = CancellationToken::new();
        let (progress, seen) = watch::channel(Progress::default());
        bed.tasks.spawn(roll(Arc::clone(&bed.reach), names, stop.clone(), progress));
        Ok(armed.acted(Rolled {
            watch,
            progress: seen,
            shed: 0,
            moved: 0,
            left: 0,
            _stop: stop.drop_guard(),
        }))
    }
}

/// How far the act is.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The node whose turn it is, and the connections it held when it came.
    turn: Option<(String, u64)>,
    ended: bool,
}

/// The act. It stops between nodes only.
async fn roll(
    reach: Arc<Reach>,
    nodes: Vec<String>,
    stop: CancellationToken,
    progress: watch::Sender<Progress>,
) {
    for node in nodes {
        if stop.is_cancelled() {
            break;
        }
        if let Err(error) = renew(&reach, &node, &progress).await {
            tracing::warn!(%node, %error, "A rolling restart stops.");
            break;
        }
    }
    progress.send_modify(|progress| progress.ended = true);
}

/// Drains one node, waits until it has left, starts it, waits until it serves. Whatever was drained is started, stopped or not.
async fn renew(
    reach: &Reach,
    node: &str,
    progress: &watch::Sender<Progress>,
) -> Result<(), BedError> {
    let before = reach.node(node).await?.connections;
    progress.send_modify(|progress| progress.turn = Some((String::from(node), before)));
    reach.control.drain(node).await?;
    // Waits for the drain, and ends a node by force that would not leave.
    Undo::NodesStarted(vec![String::from(node)]).apply(reach).await
}

struct Rolled {
    watch: NodeWatch,
    progress: watch::Receiver<Progress>,
    /// Most connections that the node whose turn it was had shed at a look.
    shed: u64,
    /// Most work that was seen to have moved.
    moved: u64,
    /// Nodes that were seen to leave or to be gone.
    left: u64,
    /// Stops the act where the guard goes.
    _stop: DropGuard,
}

#[async_trait]
impl Effect for Rolled {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = self.watch.look(reach).await?;
        let turn = self.progress.borrow().turn.clone();
        if let Some((node, before)) = turn {
            let leaving =
                matches!(now.state(&node), Some(NodeState::Draining | NodeState::Stopped));
            if leaving {
                self.left = self.left.max(1);
                self.shed = self.shed.max(before.saturating_sub(now.connections(&node)));
            }
        }
        let restarted = self.watch.restarted(&now);
        let (serve, work) = self.watch.kinds();
        let mut readings = vec![
            Reading::once("nodes_left", 0, self.left.max(restarted), 1),
            Reading::noted("nodes_restarted", 0, restarted),
        ];
        if serve {
            // Where the whole drain fell between two looks, its closes tell.
            let shed = self.shed.max(self.watch.closed_drained());
            readings.push(Reading::once("connections_shed", 0, shed, 1));
            readings.push(Reading::noted("closed_1012", 0, self.watch.closed_drained()));
        }
        if work {
            self.moved = self.moved.max(self.watch.work_moved(&now));
            readings.push(Reading::once("work_moved", 0, self.moved, 1));
        }
        Ok(readings)
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        let mut evidence = self.watch.serving(reach, true).await?;
        evidence.push(Evidence::new("act_ended", 0, u64::from(self.progress.borrow().ended), 1));
        Ok(evidence)
    }

    async fn settle(&mut self) {
        // The sender lives as long as the act; either way it is over.
        drop(self.progress.wait_for(|progress| progress.ended).await);
    }

    fn patience(&self, timers: &Timers) -> Duration {
        timers.drain_spread + timers.drain_deadline + self.watch.patience(timers) + LAPSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};
    use crate::spec::NodeRole;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn every_gateway_gets_a_new_incarnation_one_after_the_other() {
        let planted = Planted::new();
        let bed = planted.bed();
        let fault = Rolling { role: NodeRole::Gateway };
        let mut guard = fault.inject(&bed, &Step::new("roll")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        let by = Instant::now() + Duration::from_mins(5);
        let healed = guard.heal(by).await.unwrap();
        assert!(
            healed
                .evidence
                .iter()
                .any(|counter| counter.counter == "units_ready" && counter.after == 3)
        );
        assert_eq!(planted.drained_at_once(), 1);
        assert_eq!(planted.journal_states(), ["open", "healed"]);
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
    }

    #[tokio::test(start_paused = true)]
    async fn rolling_idle_gateways_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let mut guard =
            Rolling { role: NodeRole::Gateway }.inject(&bed, &Step::new("roll")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_rolling_restart_stops_and_leaves_every_node_running() {
        let planted = Planted::new();
        let bed = planted.bed();
        drop(Rolling { role: NodeRole::Gateway }.inject(&bed, &Step::new("roll")).await.unwrap());
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
        for node in ["gateway-1", "gateway-2", "gateway-3"] {
            assert_eq!(planted.state_of(node), NodeState::Running);
        }
        assert_eq!(planted.journal_states(), ["open", "undone"]);
    }
}
