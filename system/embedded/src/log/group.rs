//! Consumer groups: members, sticky cooperative assignment, fenced positions.
//!
//! A partition that moves is first taken from its member, who learns of it at its next heartbeat; the heartbeat after that
//! says that it has stopped, and only then somebody else gets the partition.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::log::Assignment;

/// Who has a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    Free,
    Owned(Arc<str>),
    /// To be given up by the member; `told`: its heartbeat has been answered without it.
    Leaving {
        member: Arc<str>,
        told: bool,
    },
}

#[derive(Clone, Debug)]
struct Claim {
    hold: Hold,
    /// Generation since which the present holder has it: commits of older ones are refused.
    granted: u64,
    position: Option<u64>,
}

/// One group on one topic.
#[derive(Debug)]
pub(super) struct Group {
    generation: u64,
    /// Members and the ends of their sessions.
    members: BTreeMap<Arc<str>, Duration>,
    claims: Vec<Claim>,
}

impl Group {
    pub(super) fn new(partitions: usize) -> Self {
        let claim = Claim { hold: Hold::Free, granted: 0, position: None };
        Self { generation: 0, members: BTreeMap::new(), claims: vec![claim; partitions] }
    }

    /// A heartbeat, which is also how a member joins.
    pub(super) fn beat(&mut self, now: Duration, session: Duration, member: &str) -> Assignment {
        self.expire(now);
        let ends = now + session;
        let present = self.members.get_key_value(member).map(|(name, _)| Arc::clone(name));
        let joined = present.is_none();
        if joined {
            self.generation += 1;
        }
        let name = present.unwrap_or_else(|| Arc::from(member));
        self.members.insert(Arc::clone(&name), ends);
        let mut changed = false;
        let generation = self.generation + 1;
        for claim in &mut self.claims {
            if let Hold::Leaving { member, told } = &mut claim.hold
                && *member == name
            {
                if *told {
                    claim.hold = Hold::Free;
                    claim.granted = generation;
                    changed = true;
                } else {
                    *told = true;
                }
            }
        }
        if changed {
            self.generation = generation;
        }
        self.rebalance();
        // What was taken from this member just now is answered by this very heartbeat.
        for claim in &mut self.claims {
            if let Hold::Leaving { member, told } = &mut claim.hold
                && *member == name
            {
                *told = true;
            }
        }
        let owned = (0_u32..)
            .zip(&self.claims)
            .filter(|(_, claim)| claim.hold == Hold::Owned(Arc::clone(&name)));
        Assignment {
            generation: self.generation,
            partitions: owned.map(|(partition, _)| partition).collect(),
            joined,
        }
    }

    pub(super) fn leave(&mut self, member: &str) {
        if self.members.remove(member).is_some() {
            self.release(&[Arc::from(member)]);
            self.rebalance();
        }
    }

    /// Puts members out whose session has ended.
    pub(super) fn expire(&mut self, now: Duration) {
        let gone: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, ends)| **ends <= now)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        if gone.is_empty() {
            return;
        }
        for name in &gone {
            self.members.remove(name);
        }
        self.release(&gone);
        self.rebalance();
    }

    /// When the next session ends.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.members.values().min().copied()
    }

    /// Stores positions, all or none of them.
    pub(super) fn commit(
        &mut self,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        for (partition, _) in positions {
            let claim = self.claim(*partition)?;
            if generation < claim.granted || generation > self.generation {
                return Err(PortError::Refused(format!(
                    "generation {generation} may not commit partition {partition}, which has moved in generation {}",
                    claim.granted
                )));
            }
        }
        for (partition, position) in positions {
            let index = *partition as usize;
            self.claims[index].position = Some(*position);
        }
        Ok(())
    }

    pub(super) fn position(&self, partition: u32) -> Option<u64> {
        self.claims.get(partition as usize).and_then(|claim| claim.position)
    }

    fn claim(&self, partition: u32) -> Result<&Claim, PortError> {
        self.claims
            .get(partition as usize)
            .ok_or_else(|| PortError::Refused(format!("there is no partition {partition}")))
    }

    fn release(&mut self, gone: &[Arc<str>]) {
        self.generation += 1;
        for claim in &mut self.claims {
            if let Hold::Owned(member) | Hold::Leaving { member, .. } = &claim.hold
                && gone.contains(member)
            {
                claim.hold = Hold::Free;
                claim.granted = self.generation;
            }
        }
    }

    /// Gives free partitions out and marks surplus ones for leaving; members keep what they have as far as shares allow.
    fn rebalance(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let (base, extra) =
            (self.claims.len() / self.members.len(), self.claims.len() % self.members.len());
        let mut owned: BTreeMap<Arc<str>, Vec<usize>> =
            self.members.keys().map(|name| (Arc::clone(name), Vec::new())).collect();
        for (index, claim) in self.claims.iter().enumerate() {
            if let Hold::Owned(member) = &claim.hold
                && let Some(list) = owned.get_mut(member)
            {
                list.push(index);
            }
        }
        // Members that have most get the larger shares, so that as little as possible moves.
        let mut order: Vec<Arc<str>> = owned.keys().cloned().collect();
        order.sort_by_key(|name| std::cmp::Reverse(owned[name].len()));
        let share: BTreeMap<Arc<str>, usize> = order
            .into_iter()
            .enumerate()
            .map(|(rank, name)| (name, base + usize::from(rank < extra)))
            .collect();
        let mut changed = false;
        for (name, list) in &mut owned {
            while list.len() > share[name] {
                let index = list.pop().expect("the list is longer than a share");
                self.claims[index].hold = Hold::Leaving { member: Arc::clone(name), told: false };
                changed = true;
            }
        }
        let generation = self.generation + 1;
        for claim in &mut self.claims {
            if claim.hold != Hold::Free {
                continue;
            }
            let poorest = owned
                .iter()
                .filter(|(name, list)| list.len() < share[*name])
                .min_by_key(|(_, list)| list.len());
            let Some(name) = poorest.map(|(name, _)| Arc::clone(name)) else { break };
            owned.get_mut(&name).expect("the name is a key of the map").push(usize::MAX);
            claim.hold = Hold::Owned(name);
            claim.granted = generation;
            changed = true;
        }
        if changed {
            self.generation = generation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn lone_member_gets_everything_at_its_first_beat() {
        let mut group = Group::new(4);
        assert_eq!(group.beat(at(0), SESSION, "a").partitions, [0, 1, 2, 3]);
    }

    #[test]
    fn partition_moves_only_after_its_member_said_that_it_stopped() {
        let mut group = Group::new(4);
        let first = group.beat(at(0), SESSION, "a");
        assert!(group.beat(at(1), SESSION, "b").partitions.is_empty());
        let told = group.beat(at(2), SESSION, "a");
        assert_eq!(told.partitions, [0, 1]);
        assert!(told.generation > first.generation);
        assert!(group.beat(at(3), SESSION, "b").partitions.is_empty());
        // Until it says so, the old member may still commit what it did.
        group.commit(first.generation, &[(3, 7)]).unwrap();
        group.beat(at(4), SESSION, "a");
        let given = group.beat(at(5), SESSION, "b");
        assert_eq!(given.partitions, [2, 3]);
        assert!(group.commit(told.generation, &[(3, 8)]).is_err());
        group.commit(given.generation, &[(3, 9)]).unwrap();
        assert_eq!(group.position(3), Some(9));
    }

    #[test]
    fn paused_member_loses_its_partitions_after_the_session_and_its_commit_is_refused() {
        let mut group = Group::new(2);
        let paused = group.beat(at(0), SESSION, "a");
        let heir = group.beat(at(3_000), SESSION, "b");
        assert_eq!(heir.partitions, [0, 1]);
        assert!(group.commit(paused.generation, &[(0, 5)]).is_err());
        group.commit(heir.generation, &[(0, 4)]).unwrap();
    }

    #[test]
    fn member_that_comes_back_is_told_that_it_starts_anew() {
        let mut group = Group::new(1);
        assert!(group.beat(at(0), SESSION, "a").joined);
        assert!(!group.beat(at(1), SESSION, "a").joined);
        // Nobody else is there, so it gets the same partition again.
        let again = group.beat(at(3_001), SESSION, "a");
        assert_eq!((again.partitions, again.joined), (vec![0], true));
    }

    #[test]
    fn stale_commit_is_refused_even_when_nobody_took_the_partition() {
        let mut group = Group::new(1);
        let paused = group.beat(at(0), SESSION, "a");
        group.expire(at(3_000));
        assert!(group.commit(paused.generation, &[(0, 5)]).is_err());
    }

    #[test]
    fn refused_commit_stores_nothing() {
        let mut group = Group::new(2);
        let own = group.beat(at(0), SESSION, "a");
        assert!(group.commit(own.generation, &[(0, 1), (9, 1)]).is_err());
        assert_eq!(group.position(0), None);
    }

    #[test]
    fn leaving_member_hands_over_at_once_and_others_keep_theirs() {
        let mut group = Group::new(6);
        for turn in 0..4 {
            for member in ["a", "b", "c"] {
                group.beat(at(turn), SESSION, member);
            }
        }
        let before: Vec<_> = ["a", "b"].map(|m| group.beat(at(5), SESSION, m).partitions).to_vec();
        assert!(before.iter().all(|p| p.len() == 2));
        group.leave("c");
        for (member, kept) in ["a", "b"].iter().zip(before) {
            let now = group.beat(at(6), SESSION, member).partitions;
            assert_eq!(now.len(), 3);
            assert!(kept.iter().all(|p| now.contains(p)));
        }
    }

    #[test]
    fn no_partition_has_two_living_members_that_were_told_so() {
        use chat_protocol::digest::mix;
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        for seed in 0..200 {
            let mut group = Group::new(7);
            let mut told: BTreeMap<&str, (Duration, Assignment)> = BTreeMap::new();
            for step in 0..200 {
                let draw = |what: u64, of: u64| mix(&[seed, step, what]) % of;
                let now = at(step * 200);
                let member = NAMES[usize::try_from(draw(0, 4)).unwrap()];
                if draw(1, 20) == 0 {
                    group.leave(member);
                    told.remove(member);
                } else {
                    told.insert(member, (now + SESSION, group.beat(now, SESSION, member)));
                }
                let living = told.values().filter(|(ends, _)| *ends > now);
                let mut owned: Vec<u32> =
                    living.flat_map(|(_, own)| own.partitions.iter().copied()).collect();
                let count = owned.len();
                owned.sort_unstable();
                owned.dedup();
                assert_eq!(owned.len(), count, "seed {seed} step {step}");
            }
        }
    }
}
