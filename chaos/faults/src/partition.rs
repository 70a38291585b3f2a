//! `partition`: one node's calls to a backend are lost.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{NodeWatch, SLACK, device_list, millis};
use crate::ports::CallWatch;
use crate::roster::{NodePlace, Roster};
use crate::spec::{Partition, Port};
use crate::witness::{Evidence, LAPSE, Reading};

const COUNTERS: &[&str] = &["calls_cut", "lease_behind_ms"];

impl Partition {
    fn pick(&self, roster: &Roster, step: &Step) -> Result<(NodePlace, Description), Refusal> {
        let mut nodes = roster.pick_nodes(&step.id, &self.node)?;
        let node = match (nodes.pop(), nodes.is_empty()) {
            (Some(node), true) => node,
            (_, false) => return Err(Refusal::Selector("a partition cuts off one node")),
            (None, true) => return Err(Refusal::Empty { what: "nodes" }),
        };
        if node.plays(crate::spec::NodeRole::Balancer) {
            return Err(Refusal::Unfit { name: node.name, wanted: "node that calls this port" });
        }
        let devices =
            if node.serves_clients() { DeviceBlast::OfNodes } else { DeviceBlast::Everyone };
        let what = Description {
            fault: "partition",
            targets: self.port.targets(Some(node.name.clone())),
            blast: Blast { nodes: vec![node.name.clone()], devices },
            undo: self.port.cleared(Some(node.name.clone())).in_words(),
            witness: "the node goes on calling, and no call is answered",
            counters: COUNTERS,
        };
        Ok((node, what.asked_by(step)?))
    }
}

impl Fault for Partition {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(self.pick(roster, step)?.1)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let (node, what) = self.pick(&bed.roster().await?, step)?;
        let ports = self.port.names();
        let undo = self.port.cleared(Some(node.name.clone()));
        let watch = NodeWatch::start(&bed.reach, vec![node.clone()]).await?;
        let calls = CallWatch::start(&bed.reach, ports, Some(node.name.clone())).await?;
        let armed = bed.arm(step, what, undo)?.hitting(device_list(&watch));
        for port in ports {
            bed.reach.control.port_rule(port, Some(&node.name), Some(PortRule::Cut)).await?;
        }
        Ok(armed.acted(CutOff { port: self.port, calls, watch }))
    }
}

struct CutOff {
    port: Port,
    calls: CallWatch,
    watch: NodeWatch,
}

#[async_trait]
impl Effect for CutOff {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = self.watch.look(reach).await?;
        let mut readings = vec![self.calls.stopped(reach, "calls_cut").await?];
        if self.port == Port::Registry
            && let Some(behind) = self.watch.lease_behind_ms(&now, &reach.timers)
        {
            // A renewal that was lost is evidence beside the node's own word.
            readings.push(Reading::once(
                "lease_behind_ms",
                0,
                behind,
                millis(reach.timers.lease_renew) * 5 / 4,
            ));
        }
        Ok(readings)
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        let mut evidence = self.watch.serving(reach, false).await?;
        evidence.push(self.calls.answered(reach).await?);
        Ok(evidence)
    }

    fn patience(&self, timers: &Timers) -> Duration {
        self.port.beat(timers) * 2 + SLACK
    }

    fn lapse(&self, timers: &Timers) -> Duration {
        // A node that fenced itself still tries to join, though more rarely than it renewed.
        LAPSE.max(self.port.beat(timers) * 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, gateway_role, healed, named, witnessed};
    use crate::spec::{NodeSelector, Port};

    #[tokio::test(start_paused = true)]
    async fn a_gateway_cut_from_the_registry_loses_renewals_and_recovers() {
        let planted = Planted::new();
        let bed = planted.bed();
        let fault = Partition { node: gateway_role(), port: Port::Registry };
        let mut guard = fault.inject(&bed, &Step::new("cut")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        healed(guard).await;
        assert!(planted.ports_ruled().is_empty());
        assert_eq!(planted.journal_states(), ["open", "healed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn cutting_off_a_node_that_calls_nobody_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let fault = Partition { node: named("gateway-2"), port: Port::Registry };
        let mut guard = fault.inject(&bed, &Step::new("cut")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        drop(guard);
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
        assert!(planted.ports_ruled().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_one_node_can_be_cut_off() {
        let planted = Planted::new();
        let bed = planted.bed();
        let node = NodeSelector { count: Some(2), ..gateway_role() };
        let fault = Partition { node, port: Port::Registry };
        assert!(fault.inject(&bed, &Step::new("cut")).await.is_err());
        assert!(planted.journal_states().is_empty());
    }
}
