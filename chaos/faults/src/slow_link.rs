//! `slow-link`: client links get slower, each way, by a latency and a seeded jitter.

use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;
use storm_proxy::{Latency, PipeSnapshot, ProxyCounters, ToxicKind};

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::{Effect, HealGuard};
use crate::links::{About, Conditioned, Later};
use crate::nodes::{SLACK, micros};
use crate::roster::Roster;
use crate::spec::SlowLink;
use crate::witness::{Evidence, Reading};

const ABOUT: About = About {
    fault: "slow-link",
    witness: "chunks go on being delayed, by what was asked give or take 20 %",
    counters: &[
        "chunks_delayed",
        "delay_closeness_permille",
        "delay_given_mean_us",
        "proxies_conditioned",
    ],
    instant: false,
};

/// Given and asked may differ by 20 %.
const CLOSENESS_PERMILLE: u64 = 800;

impl Fault for SlowLink {
    fn counters(&self) -> &'static [&'static str] {
        ABOUT.counters
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        if self.latency.0 == 0 && self.jitter.0 == 0 {
            return Err(Refusal::Selector("a latency of 0 slows nothing"));
        }
        Ok(ABOUT.pick(roster, step, self.devices)?.what)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        self.describe(&bed.roster().await?, step)?;
        let latency =
            Latency { latency: self.latency.as_duration(), jitter: self.jitter.as_duration() };
        let kind = ToxicKind::Latency(latency);
        let (armed, links) =
            ABOUT.condition(bed, step, self.devices, (self.direction, Later::Hit), kind).await?;
        Ok(armed.acted(Slowed {
            links,
            latency: self.latency.as_duration() + self.jitter.as_duration(),
        }))
    }
}

struct Slowed {
    links: Conditioned,
    /// Longest delay.
    latency: Duration,
}

/// A figure of both directions, summed.
fn both(figure: impl Fn(&PipeSnapshot) -> u64) -> impl Fn(&ProxyCounters) -> u64 {
    move |counters| figure(&counters.up) + figure(&counters.down)
}

#[async_trait]
impl Effect for Slowed {
    async fn bites(&mut self, _: &Reach) -> Result<Vec<Reading>, BedError> {
        let (delayed_before, delayed) = self.links.moved(both(|pipe| pipe.delayed));
        let (asked_before, asked) = self.links.moved(both(|pipe| micros(pipe.delay_asked)));
        let (given_before, given) = self.links.moved(both(|pipe| micros(pipe.delay_given)));
        let chunks = delayed - delayed_before;
        let (asked, given) =
            (asked.saturating_sub(asked_before), given.saturating_sub(given_before));
        Ok(vec![
            Reading::flows("chunks_delayed", delayed_before, delayed, 1),
            Reading::stands(
                "delay_closeness_permille",
                0,
                closeness(asked, given),
                CLOSENESS_PERMILLE,
            ),
            Reading::noted("delay_given_mean_us", 0, given.checked_div(chunks).unwrap_or(0)),
            self.links.in_force(),
        ])
    }

    async fn gone(&mut self, _: &Reach) -> Result<Vec<Evidence>, BedError> {
        let mut evidence = self.links.gone();
        // Chunks stamped under the fault keep their stamps; it is over when the last one has left.
        let (_, held) = self.links.moved(both(|pipe| pipe.held_bytes));
        evidence.push(Evidence::new("nothing_held", 0, u64::from(held == 0), 1));
        Ok(evidence)
    }

    fn patience(&self, timers: &Timers) -> Duration {
        timers.ping * 5 / 4 + self.latency + SLACK
    }
}

/// How close two figures are: 1000 where they are equal, 800 where they differ by 20 % of what was asked.
fn closeness(asked: u64, given: u64) -> u64 {
    let off = u128::from(asked.abs_diff(given)) * 1_000;
    match off.checked_div(u128::from(asked)) {
        Some(off) => 1_000_u64.saturating_sub(u64::try_from(off).unwrap_or(u64::MAX)),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linked::Linked;
    use crate::planted::{all_devices, healed};
    use crate::spec::Direction;
    use storm_workload::units::Time;

    fn slow() -> SlowLink {
        SlowLink {
            devices: all_devices(),
            latency: Time::millis(60),
            jitter: Time(0),
            direction: Direction::Both,
        }
    }

    #[test]
    fn closeness_is_symmetric_around_what_was_asked() {
        assert_eq!(
            [closeness(100, 100), closeness(100, 80), closeness(100, 120)],
            [1_000, 800, 800]
        );
        assert_eq!([closeness(100, 300), closeness(0, 0), closeness(100, 0)], [0, 0, 0]);
    }

    #[tokio::test]
    async fn a_slow_link_is_witnessed_by_the_delay_it_gave() {
        let linked = Linked::start([1, 2, 3, 4]).await;
        let bed = linked.bed();
        let mut guard = slow().inject(&bed, &Step::new("slow")).await.unwrap();
        assert!(!guard.witness(tokio::time::Instant::now()).await.bites(), "nothing was delayed");
        linked.everybody_writes().await;
        linked.everything_arrived().await;
        let witness = guard.witness(guard.injected_at() + guard.patience()).await;
        assert!(0 < witness.evidence()[0].after, "{witness:?}");
        assert!(60_000 <= witness.evidence()[2].after, "{witness:?}");
        healed(guard).await;
        assert_eq!(linked.planted.journal_states(), ["open", "healed"]);
        linked.end(bed).await;
    }

    #[tokio::test]
    async fn slowing_links_by_nothing_is_refused() {
        let linked = Linked::start([1]).await;
        let bed = linked.bed();
        let fault = SlowLink { latency: Time(0), ..slow() };
        assert!(fault.inject(&bed, &Step::new("slow")).await.is_err());
        assert!(linked.planted.journal_states().is_empty(), "nothing was done");
        linked.end(bed).await;
    }
}
