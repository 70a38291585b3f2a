//! `port-stall`: calls of every node to a backend are held, and go on at the heal.

use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Fault, InjectError, Refusal, Step, Targets};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::SLACK;
use crate::ports::{CallWatch, owned};
use crate::roster::Roster;
use crate::spec::{Port, PortStall};
use crate::undo::Undo;
use crate::witness::{Evidence, LAPSE, Reading};

const COUNTERS: &[&str] = &["calls_held"];

impl PortStall {
    fn undo(&self) -> Undo {
        Undo::PortsCleared { ports: owned(self.port.names()), node: None }
    }
}

impl Fault for PortStall {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        let what = Description {
            fault: "port-stall",
            targets: Targets::Ports { ports: owned(self.port.names()), node: None },
            blast: Blast { nodes: Vec::new(), devices: DeviceBlast::Everyone },
            undo: self.undo().in_words(),
            witness: "calls go on being made, and none is answered",
            counters: COUNTERS,
        };
        what.asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let ports = self.port.names();
        let calls = CallWatch::start(&bed.reach, ports, None).await?;
        let armed = bed.arm(step, what, self.undo())?;
        for port in ports {
            bed.reach.control.port_rule(port, None, Some(PortRule::Stall)).await?;
        }
        Ok(armed.acted(Stalled { calls, port: self.port }))
    }
}

struct Stalled {
    calls: CallWatch,
    port: Port,
}

#[async_trait]
impl Effect for Stalled {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        Ok(vec![self.calls.stopped(reach, "calls_held").await?])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.calls.answered(reach).await?])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        self.port.beat(timers) + SLACK
    }

    fn lapse(&self, timers: &Timers) -> Duration {
        LAPSE.max(self.port.beat(timers) * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};

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
