//! `cut-all`: client links are reset together in one instant; what devices dial afterwards is left alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::links::{About, Cut};
use crate::nodes::{SLACK, millis};
use crate::roster::Roster;
use crate::spec::CutAll;
use crate::witness::{Evidence, Reading};

const ABOUT: About = About {
    fault: "cut-all",
    witness: "as many links were reset as were open among those picked; the time it took is noted",
    counters: &["connections_cut", "cut_spread_ms"],
    instant: true,
};

impl Fault for CutAll {
    fn counters(&self) -> &'static [&'static str] {
        ABOUT.counters
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(ABOUT.pick(roster, step, self.devices)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let picked = ABOUT.pick(&bed.roster().await?, step, self.devices)?;
        let devices = Arc::clone(&picked.devices);
        let armed = bed.arm(step, picked.what, picked.undo)?;
        let cut = Cut::now(&bed.reach, &devices).await?;
        Ok(armed.acted(AllCut { cut }))
    }
}

struct AllCut {
    cut: Cut,
}

#[async_trait]
impl Effect for AllCut {
    async fn bites(&mut self, _: &Reach) -> Result<Vec<Reading>, BedError> {
        let (before, after) = self.cut.counted();
        Ok(vec![
            Reading::once("connections_cut", before, after, self.cut.required()),
            Reading::noted("cut_spread_ms", 0, millis(self.cut.spread)),
        ])
    }

    async fn gone(&mut self, _: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.cut.listening()])
    }

    fn patience(&self, _: &Timers) -> Duration {
        SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linked::Linked;
    use crate::planted::{all_devices, healed};
    use crate::spec::DeviceSelector;
    use storm_workload::units::Share;

    #[tokio::test]
    async fn half_of_the_links_are_cut_once_and_new_ones_live() {
        let linked = Linked::start([1, 2, 3, 4]).await;
        let bed = linked.bed();
        let devices = DeviceSelector { share: Some(Share(500_000)), count: None };
        let mut guard = CutAll { devices }.inject(&bed, &Step::new("storm")).await.unwrap();
        let witness = guard.witness(guard.injected_at() + guard.patience()).await;
        assert!(witness.bites(), "{witness:?}");
        assert_eq!(witness.evidence()[0].after, 2);
        linked.dial(1).await;
        linked.dial(2).await;
        assert_eq!(linked.open_links(), 4);
        healed(guard).await;
        assert_eq!(linked.planted.journal_states(), ["open", "healed"]);
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn cutting_nobody_is_missed() {
        let linked = Linked::start([]).await;
        let bed = linked.bed();
        let mut guard =
            CutAll { devices: all_devices() }.inject(&bed, &Step::new("storm")).await.unwrap();
        assert!(!guard.witness(tokio::time::Instant::now()).await.bites());
        healed(guard).await;
        linked.end(bed).await;
    }
}
