//! Brokers that a fault aims at: which, and what they count.

use chat_control::inspect::BrokerInfo;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, InjectError, Refusal, Step, Targets};
use crate::nodes::count_of;
use crate::roster::Roster;
use crate::spec::{BrokerSelector, LeaderOf};
use crate::undo::Undo;
use crate::witness::Evidence;

/// Topic whose partitions carry the messages.
const MESSAGE_TOPIC: &str = "chat.messages";

/// What a broker fault says about itself, as data.
pub(crate) struct About {
    pub(crate) fault: &'static str,
    pub(crate) witness: &'static str,
    pub(crate) counters: &'static [&'static str],
    pub(crate) undo: fn(Vec<u32>) -> Undo,
}

impl About {
    pub(crate) fn describe(
        &self,
        roster: &Roster,
        step: &Step,
        selector: BrokerSelector,
    ) -> Result<Description, Refusal> {
        let (targets, undo) = if let Some(brokers) = roster.pick_brokers(&step.id, selector)? {
            (Targets::Brokers(brokers.clone()), (self.undo)(brokers).in_words())
        } else {
            let words = later(selector);
            // The same sentence, about whoever it will be.
            let undo = (self.undo)(Vec::new()).in_words();
            (Targets::BrokersLater(words.clone()), format!("{undo}({words})"))
        };
        self.description(targets, undo).asked_by(step)
    }

    fn description(&self, targets: Targets, undo: String) -> Description {
        // Every sender and every reader goes through the log.
        let blast = Blast { nodes: Vec::new(), devices: DeviceBlast::Everyone };
        Description {
            fault: self.fault,
            targets,
            blast,
            undo,
            witness: self.witness,
            counters: self.counters,
        }
    }

    /// The brokers meant now, their description and undo.
    pub(crate) async fn pick(
        &self,
        bed: &Bed,
        step: &Step,
        selector: BrokerSelector,
    ) -> Result<(BrokerWatch, Description, Undo), InjectError> {
        let roster = bed.roster().await?;
        let before = bed.reach.brokers().await?;
        let picked = match (roster.pick_brokers(&step.id, selector)?, selector) {
            (Some(brokers), _) => brokers,
            (None, BrokerSelector::LeaderOf(of)) => vec![leader(&before, of)?],
            (None, BrokerSelector::FollowersOf(of)) => {
                let leader = leader(&before, of)?;
                before.iter().map(|broker| broker.id).filter(|id| *id != leader).collect()
            }
            (None, BrokerSelector::Count(_) | BrokerSelector::Broker(_)) => Vec::new(),
        };
        if picked.is_empty() {
            return Err(Refusal::Empty { what: "brokers" }.into());
        }
        let undo = (self.undo)(picked.clone());
        let what =
            self.description(Targets::Brokers(picked.clone()), undo.in_words()).asked_by(step)?;
        Ok((BrokerWatch { picked, before }, what, undo))
    }
}

fn later(selector: BrokerSelector) -> String {
    let of = |of| match of {
        LeaderOf::BusiestPartition => String::from("the busiest partition"),
        LeaderOf::Partition(partition) => format!("partition {partition} of the messages"),
    };
    match selector {
        BrokerSelector::FollowersOf(leader) => {
            format!("every broker but the leader of {}, at the injection", of(leader))
        }
        BrokerSelector::LeaderOf(leader) => {
            format!("the leader of {}, at the injection", of(leader))
        }
        BrokerSelector::Count(_) | BrokerSelector::Broker(_) => String::from("brokers"),
    }
}

/// The broker that leads a partition; of the busiest one, the broker that led most bytes, the lowest number where two are equal.
fn leader(brokers: &[BrokerInfo], of: LeaderOf) -> Result<u32, Refusal> {
    let found = match of {
        LeaderOf::BusiestPartition => {
            let leading = brokers.iter().filter(|broker| broker.up && !broker.leads.is_empty());
            leading.max_by_key(|broker| (broker.bytes_led, std::cmp::Reverse(broker.id)))
        }
        LeaderOf::Partition(partition) => {
            let name = format!("{MESSAGE_TOPIC}/{partition}");
            brokers.iter().find(|broker| broker.up && broker.leads.contains(&name))
        }
    };
    found.map(|broker| broker.id).ok_or(Refusal::Empty { what: "leaders of the partition" })
}

/// Watches the brokers of one fault.
pub(crate) struct BrokerWatch {
    pub(crate) picked: Vec<u32>,
    pub(crate) before: Vec<BrokerInfo>,
}

impl BrokerWatch {
    fn ours<'a>(&self, brokers: &'a [BrokerInfo]) -> impl Iterator<Item = &'a BrokerInfo> {
        brokers.iter().filter(|broker| self.picked.contains(&broker.id))
    }

    pub(crate) fn count(&self) -> u64 {
        count_of(self.picked.iter())
    }

    pub(crate) fn down(&self, now: &[BrokerInfo]) -> u64 {
        count_of(self.ours(now).filter(|broker| !broker.up))
    }

    /// Partitions that one of the brokers led and that nobody alive leads now: the last replica in sync stays the only one that
    /// may lead, so neither its place in the ISR nor an epoch changes.
    pub(crate) fn leaderless(&self, now: &[BrokerInfo]) -> u64 {
        let led = |name: &String| now.iter().any(|broker| broker.up && broker.leads.contains(name));
        count_of(self.ours(&self.before).flat_map(|broker| &broker.leads).filter(|name| !led(name)))
    }

    /// Replicas of the brokers that fell out of the ISR since the act.
    pub(crate) fn shrunk(&self, now: &[BrokerInfo]) -> u64 {
        let fell = |before: &BrokerInfo| {
            let after =
                now.iter().find(|broker| broker.id == before.id).map_or(0, |broker| broker.in_sync);
            u64::try_from(before.in_sync.saturating_sub(after)).unwrap_or(u64::MAX)
        };
        self.ours(&self.before).map(fell).sum()
    }

    /// Evidence that the brokers serve and hold every replica of theirs in sync.
    pub(crate) async fn in_sync(
        &self,
        reach: &Reach,
    ) -> Result<(Evidence, Vec<BrokerInfo>), BedError> {
        let now = reach.brokers().await?;
        let synced = count_of(
            self.ours(&now).filter(|broker| broker.up && broker.in_sync == broker.replicas),
        );
        Ok((Evidence::new("brokers_in_sync", 0, synced, self.count()), now))
    }
}

/// Sum of the leader epochs; every broker tells the same, but for one that is behind.
pub(crate) fn leader_epochs(brokers: &[BrokerInfo]) -> u64 {
    brokers.iter().map(|broker| broker.leader_epochs).max().unwrap_or(0)
}

/// The slowest append of any leader in the last second; a slow follower shows at its leaders.
pub(crate) fn append_us(brokers: &[BrokerInfo]) -> u64 {
    brokers.iter().map(|broker| broker.append_us).max().unwrap_or(0)
}
