//! `history-down`: the store behind history and tables ends, and starts again at the heal with what it had written.

use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Fault, InjectError, Refusal, Step, Targets};
use crate::heal_guard::{Effect, HealGuard};
use crate::nodes::SLACK;
use crate::ports::{CallWatch, owned};
use crate::roster::Roster;
use crate::spec::{HistoryDown, Port};
use crate::undo::Undo;
use crate::witness::{Evidence, LAPSE, Reading};

const COUNTERS: &[&str] = &["calls_failed"];

impl Fault for HistoryDown {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        let what = Description {
            fault: "history-down",
            targets: Targets::Ports { ports: owned(Port::History.names()), node: None },
            blast: Blast { nodes: Vec::new(), devices: DeviceBlast::Everyone },
            undo: Undo::HistoryStarted.in_words(),
            witness: "calls of history and tables go on being made, and none is answered",
            counters: COUNTERS,
        };
        what.asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let calls = CallWatch::start(&bed.reach, Port::History.names(), None).await?;
        let armed = bed.arm(step, what, Undo::HistoryStarted)?;
        bed.reach.control.history_stop().await?;
        Ok(armed.acted(Down { calls }))
    }
}

struct Down {
    calls: CallWatch,
}

#[async_trait]
impl Effect for Down {
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError> {
        Ok(vec![self.calls.stopped(reach, "calls_failed").await?])
    }

    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError> {
        Ok(vec![self.calls.answered(reach).await?])
    }

    fn patience(&self, timers: &Timers) -> Duration {
        Port::History.beat(timers) + SLACK
    }

    fn lapse(&self, timers: &Timers) -> Duration {
        LAPSE.max(Port::History.beat(timers) * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::{Planted, healed, witnessed};

    #[tokio::test(start_paused = true)]
    async fn a_history_that_ends_answers_nobody_until_it_starts_again() {
        let planted = Planted::new();
        let bed = planted.bed();
        let mut guard = HistoryDown {}.inject(&bed, &Step::new("down")).await.unwrap();
        assert!(witnessed(&mut guard).await.bites());
        assert!(planted.history_down());
        healed(guard).await;
        assert!(!planted.history_down());
        assert_eq!(planted.journal_states(), ["open", "healed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_history_that_nobody_calls_is_missed_and_started_by_a_drop() {
        let planted = Planted::new();
        planted.idle();
        let bed = planted.bed();
        let mut guard = HistoryDown {}.inject(&bed, &Step::new("down")).await.unwrap();
        assert!(!witnessed(&mut guard).await.bites());
        drop(guard);
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
        assert!(!planted.history_down());
        assert_eq!(planted.journal_states(), ["open", "undone"]);
    }
}
