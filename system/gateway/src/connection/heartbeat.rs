//! Heartbeats of one connection: when to ask, and when to give up.
use std::time::Duration;

use chat_protocol::digest::mix;
use tokio::time::Instant;

use crate::deps::{Deps, HeartbeatRule};

/// What the time calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// A ping.
    Ping,
    /// The end: no pong came in time.
    Close,
}

/// State of the heartbeats.
#[derive(Debug)]
pub(crate) struct Beats {
    period: Duration,
    patience: Duration,
    seed: u64,
    ping_at: Option<Instant>,
    asked: Option<Instant>,
    count: u64,
}

impl Beats {
    pub(crate) fn new(deps: &Deps, conn: u64, now: Instant) -> Self {
        let on = deps.policies.heartbeat == HeartbeatRule::Both;
        let mut beats = Self {
            period: deps.timers.ping,
            patience: deps.timers.pong,
            seed: mix(&[deps.seed, conn]),
            ping_at: None,
            asked: None,
            count: 0,
        };
        beats.ping_at = on.then(|| now + beats.jittered());
        beats
    }

    /// The period, give or take a fifth.
    fn jittered(&mut self) -> Duration {
        self.count += 1;
        let permille = u32::try_from(mix(&[self.seed, self.count]) % 401).unwrap_or(200);
        self.period * (800 + permille) / 1_000
    }

    /// What is due now; a ping counts as sent.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.asked.is_some_and(|asked| now >= asked + self.patience) {
            return Due::Close;
        }
        if self.ping_at.is_some_and(|at| now >= at) {
            let next = now + self.jittered();
            self.ping_at = Some(next);
            self.asked.get_or_insert(now);
            return Due::Ping;
        }
        Due::Nothing
    }

    /// A pong came.
    pub(crate) fn pong(&mut self) {
        self.asked = None;
    }

    /// When something will be due next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let give_up = self.asked.map(|asked| asked + self.patience);
        [self.ping_at, give_up].into_iter().flatten().min()
    }
}
