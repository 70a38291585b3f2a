//! `latency`: every byte arrives later, in order, by a fixed time and a seeded jitter.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::dice::within;

/// Attributes of `latency`. Chunks keep the stamp they were given, so its removal lets what is under way arrive on time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Added to every chunk; at most ten minutes.
    pub latency: Duration,
    /// Half the width of the uniform spread around `latency`; a sum below zero counts as zero.
    pub jitter: Duration,
}

impl Latency {
    /// A fixed delay without jitter.
    pub fn fixed(latency: Duration) -> Latency {
        Latency { latency, jitter: Duration::ZERO }
    }

    /// The delay of the next chunk.
    pub(crate) fn draw(&self, dice: &mut ChaCha8Rng) -> Duration {
        if self.jitter.is_zero() {
            return self.latency;
        }
        let spread = u64::try_from(self.jitter.as_nanos() * 2).unwrap_or(u64::MAX);
        let up = Duration::from_nanos(within(dice, spread));
        (self.latency + up).saturating_sub(self.jitter)
    }
}
