//! `registry-wipe`: the store behind registry and relay queues is emptied in one instant, and built up again by those who live.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use chat_control::inspect::{NodeState, RouteView};
use chat_protocol::DeviceId;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{SLACK, count_of};
use crate::ports::of_everyone;
use crate::roster::Roster;
use crate::spec::{Port, RegistryWipe};
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

const COUNTERS: &[&str] = &["routes_lost", "queues_lost"];

/// Devices whose queues are looked at.
const QUEUES_MAX: usize = 512;

impl Fault for RegistryWipe {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        let witness = "no route and no relay queue is what it was before";
        of_everyone("registry-wipe", Port::Registry, &Undo::Nothing, witness, COUNTERS)
            .asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let before = Held::of(&bed.reach).await?;
        let armed = bed.arm(step, what, Undo::Nothing)?;
        bed.reach.control.store_wipe().await?;
        Ok(armed.acted(Wiped { before, seen: None }))
    }
}

/// What the store holds that a new one numbers anew.
struct Held {
    routes: BTreeMap<DeviceId, Option<RouteView>>,
    /// Epochs of the queues of some devices.
    queues: BTreeMap<DeviceId, u64>,
}

impl Held {
    async fn of(reach: &Reach) -> Result<Held, BedError> {
        let (routes, _) = reach.control.routes(0).await?;
        let routes = routes.into_iter().map(|change| (change.device, change.route)).collect();
        let devices = reach.devices.list();
        let asked: Vec<_> =
            devices.iter().take(QUEUES_MAX).map(|place| DeviceId(place.device)).collect();
        let queues = reach.control.queues(&asked).await?;
        let queues = queues.iter().filter(|view| 0 < view.epoch).map(|v| (v.device, v.epoch));
        Ok(Held { routes, queues: queues.collect() })
    }

    /// How many of these a later look does not show as they were.
    fn lost(&self, now: &Held) -> (u64, u64) {
        let route = |(device, route): &(&DeviceId, _)| now.routes.get(device) != Some(*route);
        let queue = |(device, epoch): &(&DeviceId, _)| now.queues.get(device) != Some(*epoch);
        (count_of(self.routes.iter().filter(route)), count_of(self.queues.iter().filter(queue)))
    }
}

struct Wiped {
    before: Held,
    /// The look that showed that everything was lost. It happens once, and a look reads every key.
    seen: Option<Vec<Reading>>,
}

#[async_trait]
impl Effect for Wiped {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        if let Some(seen) = &self.seen {
            return Ok(seen.clone());
        }
        let (routes, queues) = self.before.lost(&Held::of(reach).await?);
        // A device that moves loses its route too, so only all of them are evidence.
        let all = count_of(self.before.routes.iter()).max(1);
        let lost = Reading::once("routes_lost", 0, routes, all);
        let all = count_of(self.before.queues.iter());
        let queues = match all {
            0 => Reading::noted("queues_lost", 0, queues),
            all => Reading::once("queues_lost", 0, queues, all),
        };
        let readings = vec![lost, queues];
        if readings.iter().all(|reading| reading.evidence.holds()) {
            self.seen = Some(readings.clone());
        }
        Ok(readings)
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        let (nodes, leases) = (reach.control.nodes().await?, reach.control.leases().await?);
        let leased = |node: &&chat_control::inspect::NodeInfo| {
            let ours = |lease: &&chat_control::inspect::LeaseView| {
                lease.node == node.name && lease.epoch == node.epoch
            };
            leases.iter().find(ours).is_some_and(|lease| 0 < lease.left_ms)
        };
        let run: Vec<_> = nodes
            .iter()
            // A balancer joins no registry.
            .filter(|node| node.state == NodeState::Running && 0 < node.epoch)
            .collect();
        let alive = count_of(run.iter().copied().filter(|node| leased(node)));
        let (routes, _) = reach.control.routes(0).await?;
        let routed: BTreeSet<_> = routes.iter().map(|change| change.device.0).collect();
        let devices = reach.devices.list();
        let connected: Vec<_> = devices.iter().filter(|place| place.connected).collect();
        let back = count_of(connected.iter().filter(|place| routed.contains(&place.device)));
        // One in a hundred may be on the way between two connections.
        let wanted = (count_of(connected.iter()) * 99 / 100).max(1);
        Ok(vec![
            Evidence::new("leases_alive", 0, alive, count_of(run.iter()).max(1)),
            Evidence::new("routes_back", 0, back, wanted),
        ])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        timers.lease_renew + timers.store_call + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};

    #[tokio::test(start_paused = true)]
    async fn a_wiped_registry_has_lost_everything_and_is_built_up_again() {
        let planted = Planted::new();
        let bed = planted.bed();
        let mut guard = RegistryWipe {}.inject(&bed, &Step::new("wipe")).await.unwrap();
        let witness = witnessed(&mut guard).await;
        assert!(witness.bites());
        assert_eq!(witness.evidence()[0].required, 30);
        let looks = planted.queue_looks();
        assert!(witnessed(&mut guard).await.bites());
        assert_eq!(planted.queue_looks(), looks, "what was lost once is not looked for again");
        healed(guard).await;
        assert_eq!(planted.journal_states(), ["open", "healed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wipe_that_left_the_store_as_it_was_is_missed() {
        let planted = Planted::new();
        planted.ignore_rules();
        let bed = planted.bed();
        let mut guard = RegistryWipe {}.inject(&bed, &Step::new("wipe")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_nobody_fills_again_is_not_seen_healed() {
        let planted = Planted::new();
        planted.stay_wiped();
        let bed = planted.bed();
        let mut guard = RegistryWipe {}.inject(&bed, &Step::new("wipe")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        let by = tokio::time::Instant::now() + crate::HEAL_WAIT;
        let error = guard.heal(by).await.unwrap_err();
        assert!(matches!(error, crate::HealError::NotWitnessed { .. }), "{error}");
    }
}
