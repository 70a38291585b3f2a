//! `history-down`: the store behind history and tables ends, and starts again at the heal with what it had written.

use crate::bed::Bed;
use crate::fault::{Description, Fault, InjectError, Refusal, Step};
use crate::heal_guard::HealGuard;
use crate::ports::{Stopped, of_everyone};
use crate::roster::Roster;
use crate::spec::{HistoryDown, Port};
use crate::undo::Undo;

const COUNTER: &str = "calls_failed";
const COUNTERS: &[&str] = &[COUNTER];

impl Fault for HistoryDown {
    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }

    fn describe(&self, _: &Roster, step: &Step) -> Result<Description, Refusal> {
        let witness = "calls of history and tables go on being made, and none is answered";
        of_everyone("history-down", Port::History, &Undo::HistoryStarted, witness, COUNTERS)
            .asked_by(step)
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        let what = self.describe(&bed.roster().await?, step)?;
        let stopped = Stopped::start(&bed.reach, Port::History, COUNTER).await?;
        let armed = bed.arm(step, what, Undo::HistoryStarted)?;
        bed.reach.control.history_stop().await?;
        Ok(armed.acted(stopped))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
