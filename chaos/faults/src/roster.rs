//! Everything that can be hit, and the seeded choice among it.

use std::collections::BTreeSet;

use storm_workload::draw::Key;

use crate::fault::Refusal;
use crate::spec::{BrokerSelector, DeviceSelector, NodeRole, NodeSelector};

/// One node that can be hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// Name.
    pub name: String,
    /// Roles it hosts.
    pub roles: Vec<String>,
}

/// Everything that can be hit, running or not, so that a choice depends on the plan and the seed alone.
///
/// A bed makes one from the running system; a plan can make one from names, without a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Seed of the run.
    pub seed: u64,
    /// Nodes, sorted by name.
    pub nodes: Vec<NodePlace>,
    /// Brokers of the event log, sorted.
    pub brokers: Vec<u32>,
    /// Devices of the plan, sorted, whether planned online or not.
    pub devices: Vec<u64>,
    /// Whether client links run through proxies.
    pub links: bool,
}

impl NodePlace {
    pub(crate) fn plays(&self, role: NodeRole) -> bool {
        let has = |name: &str| self.roles.iter().any(|role| role == name);
        match role {
            NodeRole::Gateway => has("gateway"),
            NodeRole::Balancer => has("balancer"),
            NodeRole::Sessions => has("sessions"),
            NodeRole::Messaging => has("messaging"),
            NodeRole::Relay => has("relay"),
            NodeRole::History => has("history"),
            NodeRole::Service => ["sessions", "messaging", "relay", "history"].into_iter().any(has),
        }
    }

    /// Whether clients connect to it.
    pub(crate) fn serves_clients(&self) -> bool {
        self.plays(NodeRole::Gateway) || self.plays(NodeRole::Balancer)
    }
}

impl Roster {
    /// The nodes that a selector means.
    pub(crate) fn pick_nodes(
        &self,
        step: &str,
        selector: &NodeSelector,
    ) -> Result<Vec<NodePlace>, Refusal> {
        if let Some(why) = selector.fault() {
            return Err(Refusal::Selector(why));
        }
        if let Some(name) = &selector.name {
            let found = self.nodes.iter().find(|node| node.name == *name);
            return Ok(vec![
                found.cloned().ok_or_else(|| Refusal::NoSuchNode { name: name.clone() })?,
            ]);
        }
        let role = selector.role.ok_or(Refusal::Selector("give `role` or `name`"))?;
        let among = self.of_role(role)?;
        let wanted = match (selector.count, selector.share) {
            (Some(count), _) => u64::from(count),
            (None, Some(share)) => share.of(count_of(&among)).max(1),
            (None, None) => 1,
        };
        let picked = self.draw(step, &among, wanted, "nodes")?;
        Ok(picked.into_iter().map(|node| (*node).clone()).collect())
    }

    /// All nodes of a role.
    pub(crate) fn of_role(&self, role: NodeRole) -> Result<Vec<&NodePlace>, Refusal> {
        let among: Vec<&NodePlace> = self.nodes.iter().filter(|node| node.plays(role)).collect();
        if among.is_empty() { Err(Refusal::Empty { what: "nodes of the role" }) } else { Ok(among) }
    }

    /// The devices that a selector means, sorted. Their links have to run through proxies.
    pub(crate) fn pick_devices(
        &self,
        step: &str,
        selector: DeviceSelector,
    ) -> Result<BTreeSet<u64>, Refusal> {
        if let Some(why) = selector.fault() {
            return Err(Refusal::Selector(why));
        }
        if !self.links {
            return Err(Refusal::NoProxies);
        }
        if self.devices.is_empty() {
            return Err(Refusal::Empty { what: "devices" });
        }
        let wanted = selector.wanted(count_of(&self.devices));
        Ok(self.draw(step, &self.devices, wanted, "devices")?.into_iter().copied().collect())
    }

    /// The brokers that a selector means, where that is known before the injection; `None` where a leader decides.
    pub(crate) fn pick_brokers(
        &self,
        step: &str,
        selector: BrokerSelector,
    ) -> Result<Option<Vec<u32>>, Refusal> {
        if self.brokers.is_empty() {
            return Err(Refusal::Empty { what: "brokers" });
        }
        match selector {
            BrokerSelector::Count(0) => Err(Refusal::Selector("a `count` of 0 selects nothing")),
            BrokerSelector::Count(count) => {
                let mut picked: Vec<u32> = self
                    .draw(step, &self.brokers, u64::from(count), "brokers")?
                    .into_iter()
                    .copied()
                    .collect();
                picked.sort_unstable();
                Ok(Some(picked))
            }
            BrokerSelector::Broker(number) => {
                let at = usize::try_from(number).unwrap_or(usize::MAX);
                let broker = self.brokers.get(at).ok_or(Refusal::TooFew {
                    what: "brokers",
                    asked: u64::from(number) + 1,
                    there: count_of(&self.brokers),
                })?;
                Ok(Some(vec![*broker]))
            }
            BrokerSelector::LeaderOf(_) | BrokerSelector::FollowersOf(_) => Ok(None),
        }
    }

    /// So many of `among`, in its order. The choice hangs on the seed, the step and the list, and on nothing drawn before.
    fn draw<'a, T>(
        &self,
        step: &str,
        among: &'a [T],
        wanted: u64,
        what: &'static str,
    ) -> Result<Vec<&'a T>, Refusal> {
        let there = count_of(among);
        if there < wanted {
            return Err(Refusal::TooFew { what, asked: wanted, there });
        }
        let key = Key::new(self.seed, &format!("fault targets: {step}"));
        let mut ranks: Vec<(u64, usize)> =
            (0_u64..).zip(0..among.len()).map(|(k, at)| (key.bits(k, 0), at)).collect();
        ranks.sort_unstable();
        ranks.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        ranks.sort_unstable_by_key(|(_, at)| *at);
        Ok(ranks.into_iter().map(|(_, at)| &among[at]).collect())
    }
}

fn count_of<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use storm_workload::units::Share;

    use super::*;
    use crate::spec::LeaderOf;

    fn roster(seed: u64) -> Roster {
        let node = |name: &str, role: &str| NodePlace {
            name: String::from(name),
            roles: vec![String::from(role)],
        };
        Roster {
            seed,
            nodes: vec![
                node("gateway-1", "gateway"),
                node("gateway-2", "gateway"),
                node("gateway-3", "gateway"),
                node("services-1", "relay"),
            ],
            brokers: vec![1, 2, 3],
            devices: (0..1_000).map(|user| user * 256).collect(),
            links: true,
        }
    }

    fn share(share: u32) -> DeviceSelector {
        DeviceSelector { share: Some(Share(share)), count: None }
    }

    fn role(role: NodeRole) -> NodeSelector {
        NodeSelector { role: Some(role), count: None, share: None, name: None }
    }

    #[test]
    fn the_same_seed_and_step_hit_the_same_targets_in_any_order_of_asking() {
        let nodes =
            |roster: &Roster, step| roster.pick_nodes(step, &role(NodeRole::Gateway)).unwrap();
        let devices = |roster: &Roster, step| roster.pick_devices(step, share(400_000)).unwrap();
        let (one, two) = (roster(42), roster(42));
        let (first, second) = (devices(&one, "a"), nodes(&one, "b"));
        assert_eq!((nodes(&two, "b"), devices(&two, "a")), (second, first.clone()));
        assert_eq!(first.len(), 400);
        assert_ne!(devices(&one, "other step"), first);
        assert_ne!(devices(&roster(43), "a"), first);
    }

    #[test]
    fn every_gateway_is_hit_by_some_seed() {
        let hit: BTreeSet<String> = (0..30)
            .map(|seed| {
                roster(seed).pick_nodes("kill", &role(NodeRole::Gateway)).unwrap()[0].name.clone()
            })
            .collect();
        assert_eq!(hit.len(), 3);
    }

    #[test]
    fn an_empty_or_impossible_selection_is_refused() {
        let roster = roster(1);
        let empty = roster.pick_nodes("s", &role(NodeRole::Balancer));
        assert_eq!(empty, Err(Refusal::Empty { what: "nodes of the role" }));
        let four = NodeSelector { count: Some(4), ..role(NodeRole::Gateway) };
        assert_eq!(
            roster.pick_nodes("s", &four),
            Err(Refusal::TooFew { what: "nodes", asked: 4, there: 3 })
        );
        let name = NodeSelector {
            role: None,
            name: Some(String::from("gateway-9")),
            ..role(NodeRole::Gateway)
        };
        assert_eq!(
            roster.pick_nodes("s", &name),
            Err(Refusal::NoSuchNode { name: String::from("gateway-9") })
        );
        let unlinked = Roster { links: false, ..roster.clone() };
        assert_eq!(unlinked.pick_devices("s", share(1)), Err(Refusal::NoProxies));
        let nobody = Roster { devices: Vec::new(), ..roster };
        assert_eq!(nobody.pick_devices("s", share(1)), Err(Refusal::Empty { what: "devices" }));
    }

    #[test]
    fn brokers_are_numbered_from_nought_and_leaders_are_left_to_the_injection() {
        let roster = roster(1);
        assert_eq!(roster.pick_brokers("s", BrokerSelector::Broker(0)), Ok(Some(vec![1])));
        assert!(roster.pick_brokers("s", BrokerSelector::Broker(3)).is_err());
        assert_eq!(roster.pick_brokers("s", BrokerSelector::Count(3)), Ok(Some(vec![1, 2, 3])));
        assert_eq!(
            roster.pick_brokers("s", BrokerSelector::LeaderOf(LeaderOf::BusiestPartition)),
            Ok(None)
        );
    }
}
