//! `broker-slow`: brokers take longer for every append they lead and every replica fetch.

use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::brokers::{About, BrokerWatch, append_us};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{SLACK, micros, millis};
use crate::roster::Roster;
use crate::spec::BrokerSlow;
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

const ABOUT: About = About {
    fault: "broker-slow",
    witness: "appends take the delay or longer, or replicas of the slow broker fell out of the ISR",
    counters: &["log_slowed", "append_us", "replicas_out_of_sync"],
    undo: Undo::BrokersNormal,
};

impl Fault for BrokerSlow {
    fn counters(&self) -> &'static [&'static str] {
        ABOUT.counters
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        if millis(self.delay.as_duration()) == 0 {
            return Err(Refusal::Selector("a `delay` under 1ms slows nothing"));
        }
        ABOUT.describe(roster, step, self.broker)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        self.describe(&bed.roster().await?, step)?;
        let delay = self.delay.as_duration();
        let (watch, what, undo) = ABOUT.pick(bed, step, self.broker).await?;
        let armed = bed.arm(step, what, undo)?;
        for broker in &watch.picked {
            bed.reach.control.broker_slow(*broker, millis(delay)).await?;
        }
        Ok(armed.acted(Slowed { watch, delay }))
    }
}

struct Slowed {
    watch: BrokerWatch,
    delay: Duration,
}

#[async_trait]
impl Effect for Slowed {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = reach.brokers().await?;
        let (append, shrunk) = (append_us(&now), self.watch.shrunk(&now));
        let slowed = micros(self.delay) <= append || 0 < shrunk;
        Ok(vec![
            Reading::stands("log_slowed", 0, u64::from(slowed), 1),
            Reading::noted("append_us", append_us(&self.watch.before), append),
            Reading::noted("replicas_out_of_sync", 0, shrunk),
        ])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        let (synced, now) = self.watch.in_sync(reach).await?;
        // Within twice what it was; a baseline of nearly nothing is taken as half of the delay.
        let bound = (append_us(&self.watch.before) * 2).max(micros(self.delay) / 2);
        let normal = u64::from(append_us(&now) < bound);
        Ok(vec![synced, Evidence::new("append_normal", 0, normal, 1)])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        self.delay * 2 + timers.log_append + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};
    use crate::spec::{BrokerSelector, LeaderOf};
    use storm_workload::units::Time;

    #[tokio::test(start_paused = true)]
    async fn slow_followers_show_in_the_appends_of_their_leader() {
        let planted = Planted::new();
        let bed = planted.bed();
        let broker = BrokerSelector::FollowersOf(LeaderOf::Partition(0));
        let fault = BrokerSlow { broker, delay: Time::millis(100) };
        let mut guard = fault.inject(&bed, &Step::new("slow")).await.unwrap();
        assert_eq!(guard.targets(), &crate::Targets::Brokers(vec![2, 3]));
        assert!(witnessed(&mut guard).await.bites());
        healed(guard).await;
        assert_eq!(planted.journal_states(), ["open", "healed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_broker_that_nobody_appends_to_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let fault = BrokerSlow { broker: BrokerSelector::Count(1), delay: Time::millis(100) };
        let mut guard = fault.inject(&bed, &Step::new("slow")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }
}
