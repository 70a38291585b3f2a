//! Client links that a fault conditions: toxics put on every proxy at once, and what the proxies count.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use storm_proxy::{
    CloseCause, ConnectionSnapshot, ControlError, ProxyControl, ProxyCounters, Stream, Targets,
    Toxic, ToxicKind,
};

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{self, Blast, Description, DeviceBlast, InjectError, Refusal, Step};
use crate::heal_guard::Armed;
use crate::nodes::count_of;
use crate::roster::Roster;
use crate::spec::{DeviceSelector, Direction};
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

/// Shares, per mille, of the links picked that must be seen hit: a link may end by itself at that moment.
const HIT_PERMILLE: u64 = 950;

/// What a link fault says about itself, as data.
pub(crate) struct About {
    pub(crate) fault: &'static str,
    pub(crate) witness: &'static str,
    pub(crate) counters: &'static [&'static str],
    /// Whether it is over in an instant and has nothing to undo.
    pub(crate) instant: bool,
}

/// What a fault does to the links that its devices dial while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// They are as bad as those before: the trouble is where the device is, and it stays there.
    Hit,
    /// They are sound: the trouble is in a connection. A half-open one is dangerous just because the device's next one works,
    /// so that two routes of one device meet.
    Spared,
}

/// The devices picked and what is said about them.
pub(crate) struct PickedLinks {
    pub(crate) devices: Arc<BTreeSet<u64>>,
    pub(crate) what: Description,
    pub(crate) undo: Undo,
}

impl About {
    pub(crate) fn pick(
        &self,
        roster: &Roster,
        step: &Step,
        selector: DeviceSelector,
    ) -> Result<PickedLinks, Refusal> {
        let devices = roster.pick_devices(&step.id, selector)?;
        let undo = if self.instant { Undo::Nothing } else { Undo::ToxicRemoved(self.toxic(step)) };
        let list: Vec<u64> = devices.iter().copied().collect();
        let what = Description {
            fault: self.fault,
            targets: fault::Targets::Devices(list.clone()),
            blast: Blast { nodes: Vec::new(), devices: DeviceBlast::These(list) },
            undo: undo.in_words(),
            witness: self.witness,
            counters: self.counters,
        };
        Ok(PickedLinks { devices: Arc::new(devices), what: what.asked_by(step)?, undo })
    }

    /// Name of the toxic, so that a step finds its own.
    fn toxic(&self, step: &Step) -> String {
        format!("{}:{}", self.fault, step.id)
    }

    /// Picks devices and puts one toxic on their open links, and on those dialled later as [`Later`] says.
    pub(crate) async fn condition(
        &self,
        bed: &Bed,
        step: &Step,
        selector: DeviceSelector,
        (direction, later): (Direction, Later),
        kind: ToxicKind,
    ) -> Result<(Armed, Conditioned), InjectError> {
        let picked = self.pick(&bed.roster().await?, step, selector)?;
        let armed = bed.arm(step, picked.what, picked.undo)?;
        let stream = match direction {
            Direction::Up => Stream::Up,
            Direction::Down => Stream::Down,
            Direction::Both => Stream::Both,
        };
        let name = self.toxic(step);
        let toxic = Toxic::new(name.as_str(), kind).on(stream);
        let conditioned =
            Conditioned::put(&bed.reach, name, &picked.devices, &toxic, later).await?;
        Ok((armed, conditioned))
    }
}

/// Links under one toxic.
pub(crate) struct Conditioned {
    toxic: String,
    /// Open links of the devices when the toxic came.
    pub(crate) picked: u64,
    before: Vec<(ProxyControl, ProxyCounters)>,
}

impl Conditioned {
    async fn put(
        reach: &Reach,
        name: String,
        devices: &Arc<BTreeSet<u64>>,
        toxic: &Toxic,
        later: Later,
    ) -> Result<Conditioned, BedError> {
        let (mut picked, mut before, mut aimed) = (0, Vec::new(), Vec::new());
        for proxy in reach.proxies() {
            let open = links_of(&proxy, devices);
            picked += count_of(open.iter());
            aimed.push(match later {
                Later::Hit => Targets::Devices(Arc::clone(devices)),
                Later::Spared => Targets::connections(open),
            });
            before.push((proxy.clone(), proxy.counters()));
        }
        // Published on all before any is waited for, so that the links turn bad together.
        let mut pending = Vec::new();
        for ((proxy, _), targets) in before.iter().zip(aimed) {
            pending.push((proxy, proxy.put_toxic(toxic.clone().aimed_at(targets))?));
        }
        for (proxy, generation) in pending {
            proxy.applied(generation).await?;
        }
        Ok(Conditioned { toxic: name, picked, before })
    }

    /// How many of the picked links have to be seen hit.
    pub(crate) fn required(&self) -> u64 {
        share_of_picked(self.picked)
    }

    /// Open links that the toxic hits.
    pub(crate) fn hit(&self) -> Vec<ConnectionSnapshot> {
        let all = self.before.iter().flat_map(|(proxy, _)| proxy.connections());
        all.filter(|link| link.toxics_hit.iter().any(|name| **name == self.toxic)).collect()
    }

    /// What a counter of the proxies said before and says now, summed.
    pub(crate) fn moved(&self, counter: impl Fn(&ProxyCounters) -> u64) -> (u64, u64) {
        let before = self.before.iter().map(|(_, counters)| counter(counters)).sum();
        let after = self.before.iter().map(|(proxy, _)| counter(&proxy.counters())).sum();
        (before, after)
    }

    /// Proxies on which the toxic is in force.
    pub(crate) fn in_force(&self) -> Reading {
        let count = count_of(self.before.iter().filter(|(proxy, _)| self.stands_on(proxy)));
        Reading::stands("proxies_conditioned", 0, count, count_of(self.before.iter()))
    }

    /// Evidence of its absence: no proxy has the rule, no link obeys it, nothing is held on its account.
    pub(crate) fn gone(&self) -> Vec<Evidence> {
        let neutral = |proxy: &ProxyControl| {
            let counters = proxy.counters();
            !self.stands_on(proxy) && counters.generation == counters.generation_applied
        };
        let clear = count_of(self.before.iter().filter(|(proxy, _)| neutral(proxy)));
        let left = u64::from(self.hit().is_empty());
        vec![
            Evidence::new("proxies_clear", 0, clear, count_of(self.before.iter())),
            Evidence::new("no_link_hit", 0, left, 1),
        ]
    }

    fn stands_on(&self, proxy: &ProxyControl) -> bool {
        proxy.rules().1.toxics.iter().any(|toxic| *toxic.name == *self.toxic)
    }
}

/// Links cut in one instant.
pub(crate) struct Cut {
    pub(crate) picked: u64,
    pub(crate) spread: Duration,
    before: Vec<(ProxyControl, u64)>,
}

impl Cut {
    /// Resets the open links of the devices on all proxies, then waits until they are gone.
    pub(crate) async fn now(
        reach: &Reach,
        devices: &Arc<BTreeSet<u64>>,
    ) -> Result<Cut, ControlError> {
        let proxies = reach.proxies();
        let targets = Targets::Devices(Arc::clone(devices));
        let before: Vec<_> = proxies.iter().map(|proxy| (proxy.clone(), cuts(proxy))).collect();
        let began = tokio::time::Instant::now();
        let (mut picked, mut pending) = (0, Vec::new());
        for proxy in &proxies {
            let (links, generation) = proxy.cut(&targets)?;
            picked += u64::try_from(links).unwrap_or(u64::MAX);
            pending.push((proxy, generation));
        }
        for (proxy, generation) in pending {
            proxy.applied(generation).await?;
        }
        Ok(Cut { picked, spread: began.elapsed(), before })
    }

    pub(crate) fn counted(&self) -> (u64, u64) {
        let before = self.before.iter().map(|(_, cuts)| cuts).sum();
        (before, self.before.iter().map(|(proxy, _)| cuts(proxy)).sum())
    }

    pub(crate) fn required(&self) -> u64 {
        share_of_picked(self.picked)
    }

    /// Proxies that take connections again, of all.
    pub(crate) fn listening(&self) -> Evidence {
        let open = count_of(self.before.iter().filter(|(proxy, _)| proxy.counters().listening));
        Evidence::new("proxies_open", 0, open, count_of(self.before.iter()))
    }
}

/// How many links of these devices are older than `since`, and on how many of them the node has said nothing for `silence`.
pub(crate) fn silent_links(
    reach: &Reach,
    devices: &BTreeSet<u64>,
    since: Duration,
    silence: Duration,
) -> (u64, u64) {
    let (mut there, mut silent) = (0, 0);
    for link in reach.proxies().iter().flat_map(ProxyControl::connections) {
        if since < link.age && link.device.is_some_and(|device| devices.contains(&device)) {
            there += 1;
            silent += u64::from(silence <= link.down.last_in_age.unwrap_or(link.age));
        }
    }
    (there, silent)
}

/// The open links of these devices on one proxy, by ordinal.
fn links_of(proxy: &ProxyControl, devices: &BTreeSet<u64>) -> Vec<u64> {
    let ours =
        |link: &ConnectionSnapshot| link.device.is_some_and(|device| devices.contains(&device));
    proxy.connections().into_iter().filter(ours).map(|link| link.ordinal).collect()
}

fn cuts(proxy: &ProxyControl) -> u64 {
    proxy.counters().closed_by(CloseCause::Cut)
}

fn share_of_picked(picked: u64) -> u64 {
    (picked * HIT_PERMILLE / 1_000).max(1)
}
