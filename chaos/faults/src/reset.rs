//! `reset`: client links are reset, and those dialled again meanwhile as well.

use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;
use storm_proxy::{CloseCause, ResetPeer, ToxicKind};

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::links::{About, Conditioned, Later};
use crate::nodes::SLACK;
use crate::roster::Roster;
use crate::spec::{Direction, Reset};
use crate::witness::{Evidence, Reading};

const ABOUT: About = About {
    fault: "reset",
    witness: "as many links were reset as were open among those picked",
    counters: &["connections_cut", "proxies_conditioned"],
    instant: false,
};

impl Fault for Reset {
    fn counters(&self) -> &'static [&'static str] {
        ABOUT.counters
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(ABOUT.pick(roster, step, self.devices)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let kind = ToxicKind::ResetPeer(ResetPeer { timeout: Duration::ZERO });
        let (armed, links) =
            ABOUT.condition(bed, step, self.devices, (Direction::Both, Later::Hit), kind).await?;
        Ok(armed.acted(Resetting { links }))
    }
}

struct Resetting {
    links: Conditioned,
}

#[async_trait]
impl Effect for Resetting {
    async fn bites(&mut self, _: &Reach) -> Result<Vec<Reading>, BedError> {
        let (before, after) =
            self.links.moved(|counters| counters.closed_by(CloseCause::ResetInjected));
        Ok(vec![
            Reading::once("connections_cut", before, after, self.links.required()),
            self.links.in_force(),
        ])
    }

    async fn gone(&mut self, _: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(self.links.gone())
    }

    fn patience(&self, _: &Timers) -> Duration {
        SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linked::Linked;
    use crate::planted::{all_devices, healed, some_devices};

    #[tokio::test]
    async fn picked_links_are_reset_and_others_are_not() {
        let linked = Linked::start([1, 2, 3, 4]).await;
        let bed = linked.bed();
        let mut guard =
            Reset { devices: some_devices(2) }.inject(&bed, &Step::new("rst")).await.unwrap();
        let witness = guard.witness(guard.injected_at() + guard.patience()).await;
        assert!(witness.bites(), "{witness:?}");
        assert_eq!(witness.evidence()[0].after, 2);
        healed(guard).await;
        assert_eq!(linked.open_links(), 2);
        assert_eq!(linked.planted.journal_states(), ["open", "healed"]);
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn a_link_dialled_again_meanwhile_is_reset_too() {
        let linked = Linked::start([1]).await;
        let bed = linked.bed();
        let mut guard =
            Reset { devices: all_devices() }.inject(&bed, &Step::new("rst")).await.unwrap();
        assert!(guard.witness(guard.injected_at() + guard.patience()).await.bites());
        linked.dial(1).await;
        linked.newest_is_cut().await;
        let witness = guard.witness(tokio::time::Instant::now()).await;
        assert_eq!(witness.evidence()[0].after, 2);
        healed(guard).await;
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn resetting_nobody_is_missed() {
        let linked = Linked::start([]).await;
        let bed = linked.bed();
        let mut guard =
            Reset { devices: all_devices() }.inject(&bed, &Step::new("rst")).await.unwrap();
        assert!(!guard.witness(tokio::time::Instant::now()).await.bites());
        healed(guard).await;
        linked.end(bed).await;
    }
}
