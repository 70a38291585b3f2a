//! `black-hole`: open client links go silent in one or both ways without closing; at the heal the held bytes flow on.
//!
//! What the devices dial meanwhile works: the old connection is half open, and its node may still take it for alive. With `told: device`
//! the device's end is reset, so that it comes back before its node misses it.

use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;
use storm_proxy::{OnHeal, Stall, ToxicKind};

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::links::{About, Conditioned, Later};
use crate::nodes::{SLACK, count_of};
use crate::roster::Roster;
use crate::spec::{BlackHole, Told};
use crate::witness::{Evidence, Reading};

const ABOUT: About = About {
    fault: "black-hole",
    witness: "the links open at the injection are stalled, and bytes are held on them; links dialled later are sound",
    counters: &[
        "links_stalled",
        "links_holding",
        "devices_told",
        "bytes_held",
        "proxies_conditioned",
    ],
    instant: false,
};

impl Fault for BlackHole {
    fn counters(&self) -> &'static [&'static str] {
        ABOUT.counters
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        Ok(ABOUT.pick(roster, step, self.devices)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let told = match self.told {
            Told::Nobody => storm_proxy::Told::Nobody,
            Told::Device => storm_proxy::Told::Client,
        };
        let kind = ToxicKind::Stall(Stall { on_heal: OnHeal::Resume, told });
        let (armed, links) =
            ABOUT.condition(bed, step, self.devices, (self.direction, Later::Spared), kind).await?;
        Ok(armed.acted(Silenced { links, told: self.told }))
    }
}

struct Silenced {
    links: Conditioned,
    told: Told,
}

#[async_trait]
impl Effect for Silenced {
    async fn bites(&mut self, _: &Reach) -> Result<Vec<Reading>, BedError> {
        let hit = self.links.hit();
        let held = |link: &storm_proxy::ConnectionSnapshot| -> u64 {
            [&link.up, &link.down]
                .into_iter()
                .map(|pipe| pipe.held_bytes + pipe.held_bytes_kernel)
                .sum()
        };
        let stalled = count_of(hit.iter().filter(|link| 0 < link.up.stalled + link.down.stalled));
        let holding = count_of(hit.iter().filter(|link| 0 < held(link)));
        let told = count_of(hit.iter().filter(|link| link.client_told));
        let must_know = if self.told == Told::Device { self.links.required() } else { 0 };
        Ok(vec![
            Reading::once("links_stalled", 0, stalled, self.links.required()),
            // Something was said and did not arrive: on a link where nobody speaks a hole is no fault.
            Reading::once("links_holding", 0, holding, 1),
            Reading::once("devices_told", 0, told, must_know),
            Reading::noted("bytes_held", 0, hit.iter().map(held).sum()),
            self.links.in_force(),
        ])
    }

    async fn gone(&mut self, _: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(self.links.gone())
    }

    fn patience(&self, timers: &Timers) -> Duration {
        // Even an idle device pings within that time.
        timers.ping * 5 / 4 + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linked::Linked;
    use crate::planted::{all_devices, healed, some_devices};
    use crate::spec::Direction;

    #[tokio::test]
    async fn a_black_hole_holds_bytes_and_lets_them_flow_at_the_heal() {
        let linked = Linked::start([1, 2, 3, 4]).await;
        let bed = linked.bed();
        let fault =
            BlackHole { devices: some_devices(2), direction: Direction::Both, told: Told::Nobody };
        let mut guard = fault.inject(&bed, &Step::new("silent")).await.unwrap();
        assert!(!guard.witness(tokio::time::Instant::now()).await.bites(), "nobody has spoken");
        linked.everybody_writes().await;
        let witness = guard.witness(guard.injected_at() + guard.patience()).await;
        assert!(witness.bites(), "{witness:?}");
        assert_eq!(witness.evidence()[0].after, 2);
        healed(guard).await;
        linked.everything_arrived().await;
        assert_eq!(linked.planted.journal_states(), ["open", "healed"]);
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn a_link_dialled_while_the_old_one_is_half_open_works() {
        let linked = Linked::start([1, 2]).await;
        let bed = linked.bed();
        let fault =
            BlackHole { devices: all_devices(), direction: Direction::Both, told: Told::Nobody };
        let mut guard = fault.inject(&bed, &Step::new("silent")).await.unwrap();
        linked.everybody_writes().await;
        linked.dial(1).await;
        linked.newest_carries().await;
        let witness = guard.witness(guard.injected_at() + guard.patience()).await;
        assert!(witness.bites(), "{witness:?}");
        assert_eq!(witness.evidence()[0].after, 2, "the new link is not counted as stalled");
        healed(guard).await;
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn a_device_that_is_told_comes_back_while_its_node_waits() {
        let linked = Linked::start([1]).await;
        let bed = linked.bed();
        let (devices, direction) = (all_devices(), Direction::Both);
        let fault = BlackHole { devices, direction, told: Told::Device };
        let mut guard = fault.inject(&bed, &Step::new("roam")).await.unwrap();
        linked.nodes_write().await;
        linked.dial(1).await;
        linked.newest_carries().await;
        assert_eq!(linked.open_links(), 2, "the node's end of the old link is still there");
        let witness = guard.witness(guard.injected_at() + guard.patience()).await;
        assert!(witness.bites(), "{witness:?}");
        let told = &witness.evidence()[2];
        assert_eq!((told.counter.as_str(), told.after), ("devices_told", 1));
        healed(guard).await;
        linked.newest_carries().await;
        assert_eq!(linked.open_links(), 1);
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn a_black_hole_without_links_is_missed() {
        let linked = Linked::start([]).await;
        let bed = linked.bed();
        let fault =
            BlackHole { devices: all_devices(), direction: Direction::Down, told: Told::Nobody };
        let mut guard = fault.inject(&bed, &Step::new("silent")).await.unwrap();
        assert!(matches!(
            guard.witness(tokio::time::Instant::now()).await,
            crate::Witness::Missed(_)
        ));
        healed(guard).await;
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn a_dropped_black_hole_is_taken_away_by_the_janitor() {
        let linked = Linked::start([1, 2]).await;
        let bed = linked.bed();
        let fault =
            BlackHole { devices: all_devices(), direction: Direction::Both, told: Told::Nobody };
        drop(fault.inject(&bed, &Step::new("silent")).await.unwrap());
        linked.everybody_writes().await;
        linked.everything_arrived().await;
        linked.end(bed).await;
        assert_eq!(linked.planted.journal_states(), ["open", "undone"]);
    }
}
