//! `broker-kill`: brokers of the event log stop, and start again at the heal.

use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::brokers::{About, BrokerWatch, leader_epochs};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::SLACK;
use crate::roster::Roster;
use crate::spec::BrokerKill;
use crate::undo::Undo;
use crate::witness::{Evidence, LAPSE, Reading};

/// Brokers are asked about brokers: with the majority gone a look takes several seconds until it says that nobody answers.
const UNHEARD: Duration = Duration::from_secs(7);

const ABOUT: About = About {
    fault: "broker-kill",
    witness: "the broker is down, and a leader moved or went missing, or a replica fell out of the ISR",
    counters: &[
        "brokers_down",
        "partitions_touched",
        "leader_epochs",
        "replicas_out_of_sync",
        "partitions_leaderless",
    ],
    undo: Undo::BrokersStarted,
};

impl Fault for BrokerKill {
    fn counters(&self) -> &'static [&'static str] {
        ABOUT.counters
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        ABOUT.describe(roster, step, self.broker)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let (watch, what, undo) = ABOUT.pick(bed, step, self.broker).await?;
        let armed = bed.arm(step, what, undo)?;
        for broker in &watch.picked {
            bed.reach.control.broker_kill(*broker).await?;
        }
        Ok(armed.acted(Down { watch }))
    }
}

struct Down {
    watch: BrokerWatch,
}

#[async_trait]
impl Effect for Down {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = reach.brokers().await?;
        let (epochs_before, epochs) = (leader_epochs(&self.watch.before), leader_epochs(&now));
        let shrunk = self.watch.shrunk(&now);
        let leaderless = self.watch.leaderless(&now);
        let touched = epochs.saturating_sub(epochs_before) + shrunk + leaderless;
        Ok(vec![
            Reading::stands("brokers_down", 0, self.watch.down(&now), self.watch.count()),
            Reading::once("partitions_touched", 0, touched, 1),
            Reading::noted("leader_epochs", epochs_before, epochs),
            Reading::noted("replicas_out_of_sync", 0, shrunk),
            Reading::noted("partitions_leaderless", 0, leaderless),
        ])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.watch.in_sync(reach).await?.0])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        timers.log_election + timers.log_append + SLACK
    }

    fn lapse(&self, _timers: &Timers) -> Duration {
        LAPSE + UNHEARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};
    use crate::spec::{BrokerSelector, LeaderOf};

    #[tokio::test(start_paused = true)]
    async fn the_leader_of_the_busiest_partition_dies_and_comes_back_in_sync() {
        let planted = Planted::new();
        let bed = planted.bed();
        let fault = BrokerKill { broker: BrokerSelector::LeaderOf(LeaderOf::BusiestPartition) };
        let mut guard = fault.inject(&bed, &Step::new("broker")).await.unwrap();
        assert_eq!(guard.targets(), &crate::Targets::Brokers(vec![2]));
        assert!(witnessed(&mut guard).await.bites());
        healed(guard).await;
        assert_eq!(planted.journal_states(), ["open", "healed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_without_replicas_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let fault = BrokerKill { broker: BrokerSelector::Broker(0) };
        let mut guard = fault.inject(&bed, &Step::new("broker")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }

    #[tokio::test(start_paused = true)]
    async fn all_brokers_die_and_a_drop_brings_them_back() {
        let planted = Planted::new();
        let bed = planted.bed();
        let fault = BrokerKill { broker: BrokerSelector::Count(3) };
        drop(fault.inject(&bed, &Step::new("broker")).await.unwrap());
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
        assert!(planted.brokers_up());
        assert_eq!(planted.journal_states(), ["open", "undone"]);
    }
}
