//! Which brokers were ended here: the one thing about brokers that is known while none of them answers.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A broker that was started answers within this, and its groups find each other again.
const BACK: Duration = Duration::from_secs(20);
/// What was heard of groups before brokers went stands for them this long.
const UNHEARD: Duration = Duration::from_mins(1);

/// Brokers that were ever ended; with the instant of its last start where one is no longer.
#[derive(Default)]
pub(super) struct Down(Mutex<BTreeMap<u32, Option<Instant>>>);

impl Down {
    pub(super) fn killed(&self, broker: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(broker, None);
    }

    pub(super) fn started(&self, broker: u32) {
        if let Some(up) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&broker) {
            *up = Some(Instant::now());
        }
    }

    /// Whether a broker is ended.
    pub(super) fn now(&self, broker: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&broker) == Some(&None)
    }

    /// How long what was heard stands for what nobody answers: not at all, unless a broker is ended or was a moment ago. Silence that has
    /// no such cause has to be told.
    pub(super) fn unheard(&self) -> Duration {
        let gone = |up: &Option<Instant>| up.is_none_or(|up| up.elapsed() < BACK);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.values().any(gone) { UNHEARD } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_excused_while_a_broker_is_ended_and_a_moment_longer() {
        let down = Down::default();
        down.started(1);
        assert_eq!(down.unheard(), Duration::ZERO, "nothing was ended");
        down.killed(1);
        tokio::time::advance(BACK * 3).await;
        assert!(down.now(1) && !down.now(2));
        assert_eq!(down.unheard(), UNHEARD);
        down.started(1);
        assert!(!down.now(1));
        assert_eq!(down.unheard(), UNHEARD);
        tokio::time::advance(BACK).await;
        assert_eq!(down.unheard(), Duration::ZERO);
    }
}
