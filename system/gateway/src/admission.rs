//! Which handshakes are let in: a token bucket, asked before any other work.
use std::time::Duration;

use tokio::time::Instant;

/// Tokens come at a steady rate; a tenth of a second's worth may be saved up.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_s: f64,
    most: f64,
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_s: u32, now: Instant) -> Self {
        let per_s = f64::from(per_s);
        let most = (per_s / 10.0).max(1.0);
        Self { per_s, most, tokens: most, filled: now }
    }

    /// Takes a token; without one, answers after how long there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_s).min(self.most);
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - self.tokens) / self.per_s;
        Err(Duration::try_from_secs_f64(missing)
            .unwrap_or(Duration::from_mins(1))
            .min(Duration::from_mins(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gets_the_rate_and_no_more() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, start);
        let admitted = (0..10_000_u32)
            .filter(|i| bucket.take(start + Duration::from_micros(u64::from(*i) * 100)).is_ok())
            .count();
        // Ten are saved up, and a second, less its last instant, brings a hundred less one.
        assert_eq!(admitted, 109);
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, start);
        bucket.take(start).unwrap();
        let wait = bucket.take(start).unwrap_err();
        assert!(bucket.take(start + wait).is_ok());
    }
}
