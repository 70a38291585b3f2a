//! `consumer-pause`: a consumer group of the event log stops reading, and reads on at the heal.

use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Fault, InjectError, Refusal, Step, Targets};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::{SLACK, millis};
use crate::roster::Roster;
use crate::spec::{ConsumerPause, Group};
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

const COUNTERS: &[&str] = &["lag_oldest_ms", "lag_records"];

/// Added to the commit interval: a group that reads is never that far behind in a steady state.
const BEHIND: Duration = Duration::from_secs(1);

impl Group {
    /// Name of the group in the event log.
    const fn log_name(self) -> &'static str {
        match self {
            Group::Messaging => "sequencer",
            Group::History => "history-writer",
        }
    }
}

impl Fault for ConsumerPause {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        let group = String::from(self.group.log_name());
        let what = Description {
            fault: "consumer-pause",
            targets: Targets::Group(group.clone()),
            blast: Blast { nodes: Vec::new(), devices: DeviceBlast::Everyone },
            undo: Undo::GroupResumed(group).in_words(),
            witness: "the group's oldest unread record gets older than commits explain, and records pile up",
            counters: COUNTERS,
        };
        what.asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let group = self.group.log_name();
        let before = Lag::of(&bed.reach, group).await?;
        let armed = bed.arm(step, what, Undo::GroupResumed(String::from(group)))?;
        bed.reach.control.consumer_pause(group, true).await?;
        Ok(armed.acted(Held { group, before, resumed_at: None }))
    }
}

/// How far a group is behind, over all its partitions.
#[derive(Clone, Copy)]
struct Lag {
    position: u64,
    records: u64,
    oldest_ms: u64,
}

impl Lag {
    async fn of(reach: &Reach, group: &str) -> Result<Lag, BedError> {
        let mut lag = Lag { position: 0, records: 0, oldest_ms: 0 };
        for part in reach.control.lags().await?.iter().filter(|part| part.group == group) {
            lag.position += part.position;
            lag.records += part.end.saturating_sub(part.position);
            lag.oldest_ms = lag.oldest_ms.max(part.oldest_ms);
        }
        Ok(lag)
    }
}

struct Held {
    group: &'static str,
    before: Lag,
    /// Position at the first look after the undo.
    resumed_at: Option<u64>,
}

fn behind_ms(timers: &Timers) -> u64 {
    millis(timers.commit + BEHIND)
}

#[async_trait]
impl Effect for Held {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        let now = Lag::of(reach, self.group).await?;
        Ok(vec![
            Reading::stands(
                "lag_oldest_ms",
                self.before.oldest_ms,
                now.oldest_ms,
                behind_ms(&reach.timers),
            ),
            Reading::once("lag_records", self.before.records, now.records, 1),
        ])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        let now = Lag::of(reach, self.group).await?;
        let resumed_at = *self.resumed_at.get_or_insert(now.position);
        let moved = Evidence::new("position", resumed_at, now.position, 1);
        // A group that has nothing left to read has read.
        let idle = u64::from(now.records == 0);
        let reads = Evidence::new("group_reads", 0, idle.max(u64::from(moved.holds())), 1);
        Ok(vec![reads, Evidence { required: 0, ..moved }])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        timers.commit + BEHIND + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};

    #[tokio::test(start_paused = true)]
    async fn a_paused_group_falls_behind_and_reads_on() {
        for group in [Group::Messaging, Group::History] {
            let planted = Planted::new();
            let bed = planted.bed();
            let mut guard = ConsumerPause { group }.inject(&bed, &Step::new("hold")).await.unwrap();
            assert!(!guard.witness(tokio::time::Instant::now()).await.bites());
            assert!(witnessed(&mut guard).await.bites());
            healed(guard).await;
            assert_eq!(planted.journal_states(), ["open", "healed"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pausing_a_group_that_has_nothing_to_read_is_missed() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let fault = ConsumerPause { group: Group::History };
        let mut guard = fault.inject(&bed, &Step::new("hold")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        healed(guard).await;
    }
}
