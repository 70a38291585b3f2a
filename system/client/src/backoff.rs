//! When to connect again: the first wait is uniform in the window that the server dictated, later ones are full jitter.
use std::time::Duration;

use chat_protocol::close::Reaction;
use chat_protocol::digest::mix;
use chat_protocol::limits::Timers;

use crate::app::{Attempt, Cause};
use crate::policy::{Backoff as Policy, Hints};

/// Attempt from which a device goes on that was told to stay away.
const SHED_ATTEMPT: u32 = 3;

/// A seeded stream of draws; sixteen bytes a device.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next draw, uniform over all values.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(&[self.seed, self.drawn])
    }

    /// Uniform in `0..=most`.
    pub fn up_to(&mut self, most: u64) -> u64 {
        let wide = u128::from(self.draw()) * (u128::from(most) + 1);
        u64::try_from(wide >> 64).expect("the upper half of a product of two 64-bit numbers")
    }
}

/// What came with the end of a connection or attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// What the close code asks for.
    pub reaction: Reaction,
    /// How long the session lasted; `None` when there was none.
    pub session_ns: Option<u64>,
    /// Not before this long.
    pub retry_after_ns: Option<u64>,
    /// A `drain` frame asked to reconnect at this time.
    pub drain_due_ns: Option<u64>,
}

/// Waits of one device.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: Policy,
    hints: Hints,
    base_ns: u64,
    cap_ns: u64,
    stable_ns: u64,
    window_ns: u64,
    /// Exponent of the next draw.
    next: u32,
}

impl Backoff {
    /// Before the first attempt.
    pub fn new(policy: Policy, hints: Hints, timers: &Timers) -> Self {
        Self {
            policy,
            hints,
            base_ns: nanos(timers.backoff_base),
            cap_ns: nanos(timers.backoff_cap),
            stable_ns: nanos(timers.stable),
            window_ns: nanos(timers.window_min),
            next: 0,
        }
    }

    /// The server dictated the window of the next first wait.
    pub fn window(&mut self, window_ns: u64) {
        self.window_ns = window_ns;
    }

    /// The attempt that the app's wish to be online starts: at once.
    pub fn join(&mut self, now: u64) -> Attempt {
        self.next = 0;
        Attempt {
            index: 0,
            since_ns: now,
            delay_ns: 0,
            bounds_ns: (0, 0),
            cause: Cause::Join,
            due_ns: now,
        }
    }

    /// The attempt that follows an end; `None` when there is nothing to come back to.
    pub fn after(&mut self, now: u64, end: &End, dice: &mut Dice) -> Option<Attempt> {
        let obey = self.hints == Hints::Obey;
        if obey
            && matches!(end.reaction, Reaction::Nothing | Reaction::Terminal)
            && end.drain_due_ns.is_none()
        {
            return None;
        }
        let stable = end.session_ns.is_some_and(|session| session >= self.stable_ns);
        if stable {
            self.next = 0;
        }
        let shed = obey && (end.reaction == Reaction::Shed || end.retry_after_ns.is_some());
        let index = if shed { self.next.max(SHED_ATTEMPT) } else { self.next };
        // The end of a session that a drain asked for is no failure, and neither is that of a long one.
        let asked = obey && (end.reaction == Reaction::Restart || end.drain_due_ns.is_some());
        if shed || !(stable || asked && end.session_ns.is_some()) {
            self.next = index.saturating_add(1);
        }
        let (cause, bounds) = if let Policy::Fixed(delay) = self.policy {
            (Cause::Backoff, (nanos(delay), nanos(delay)))
        } else if !obey {
            (Cause::Backoff, (0, self.capped(index)))
        } else if let Some(due) = end.drain_due_ns {
            // The server spread the times already.
            let wait = due.saturating_sub(now);
            (Cause::Drain, (wait, wait))
        } else if shed {
            let least = end.retry_after_ns.unwrap_or(0);
            (Cause::RetryAfter, (least, least.saturating_add(self.capped(index))))
        } else if matches!(end.reaction, Reaction::Window | Reaction::Restart)
            && end.session_ns.is_some()
        {
            // A session that keeps breaking early does not get back to a short window.
            let later = if index == 0 { 0 } else { self.capped(index) };
            (Cause::Window, (0, self.window_ns.max(later)))
        } else {
            (Cause::Backoff, (0, self.capped(index)))
        };
        let delay_ns = bounds.0 + dice.up_to(bounds.1 - bounds.0);
        Some(Attempt {
            index,
            since_ns: now,
            delay_ns,
            bounds_ns: bounds,
            cause,
            due_ns: now.saturating_add(delay_ns),
        })
    }

    /// The cap applies before the jitter.
    fn capped(&self, exponent: u32) -> u64 {
        self.base_ns.saturating_mul(1_u64 << exponent.min(32)).min(self.cap_ns)
    }
}

/// Nanoseconds of a timer.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_protocol::close;

    const SECOND: u64 = 1_000_000_000;

    fn end(code: Option<u16>, session_s: Option<u64>) -> End {
        End {
            reaction: close::reaction(code),
            session_ns: session_s.map(|s| s * SECOND),
            retry_after_ns: None,
            drain_due_ns: None,
        }
    }

    fn backoff() -> Backoff {
        Backoff::new(Policy::FullJitter, Hints::Obey, &Timers::DEFAULT)
    }

    #[test]
    fn first_wait_is_uniform_in_the_dictated_window() {
        let mut bins = [0_u32; 10];
        for seed in 0..10_000 {
            let mut backoff = backoff();
            backoff.window(20 * SECOND);
            let attempt = backoff.after(5, &end(None, Some(100)), &mut Dice::new(seed)).unwrap();
            assert_eq!(
                (attempt.index, attempt.cause, attempt.bounds_ns),
                (0, Cause::Window, (0, 20 * SECOND))
            );
            assert_eq!(attempt.due_ns, 5 + attempt.delay_ns);
            bins[usize::try_from(attempt.delay_ns / (2 * SECOND)).unwrap().min(9)] += 1;
        }
        assert!(bins.iter().all(|n| (850..1150).contains(n)), "{bins:?}");
    }

    #[test]
    fn later_waits_double_to_the_cap_and_jitter_comes_after_it() {
        let (mut backoff, mut dice) = (backoff(), Dice::new(1));
        let bounds: Vec<_> = (0..9)
            .map(|_| backoff.after(0, &end(None, None), &mut dice).unwrap().bounds_ns.1 / 1_000_000)
            .collect();
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn only_a_stable_session_starts_the_count_again() {
        let (mut backoff, mut dice) = (backoff(), Dice::new(1));
        for _ in 0..4 {
            backoff.after(0, &end(None, None), &mut dice);
        }
        assert_eq!(backoff.after(0, &end(None, Some(59)), &mut dice).unwrap().index, 4);
        assert_eq!(backoff.after(0, &end(None, Some(60)), &mut dice).unwrap().index, 0);
    }

    #[test]
    fn shed_load_waits_for_the_hint_and_starts_further_back() {
        let (mut backoff, mut dice) = (backoff(), Dice::new(1));
        let shed = End { retry_after_ns: Some(7 * SECOND), ..end(Some(close::SHED), Some(100)) };
        let attempt = backoff.after(0, &shed, &mut dice).unwrap();
        assert_eq!((attempt.index, attempt.cause), (3, Cause::RetryAfter));
        assert_eq!(attempt.bounds_ns, (7 * SECOND, 11 * SECOND));
        assert!(attempt.delay_ns >= 7 * SECOND);
    }

    #[test]
    fn drain_time_is_obeyed_and_raises_nothing() {
        let (mut backoff, mut dice) = (backoff(), Dice::new(1));
        let drained = End { drain_due_ns: Some(9 * SECOND), ..end(Some(close::RESTART), Some(1)) };
        let attempt = backoff.after(4 * SECOND, &drained, &mut dice).unwrap();
        assert_eq!((attempt.index, attempt.delay_ns, attempt.cause), (0, 5 * SECOND, Cause::Drain));
        assert_eq!(backoff.after(0, &end(None, None), &mut dice).unwrap().index, 0);
    }

    #[test]
    fn terminal_codes_end_the_device_unless_hints_are_ignored() {
        let mut dice = Dice::new(1);
        for code in [close::DISPLACED, close::VERSION, close::PROTOCOL, 4999] {
            assert_eq!(backoff().after(0, &end(Some(code), Some(100)), &mut dice), None, "{code}");
            let mut deaf = Backoff::new(Policy::FullJitter, Hints::Ignore, &Timers::DEFAULT);
            assert!(deaf.after(0, &end(Some(code), Some(100)), &mut dice).is_some(), "{code}");
        }
    }

    #[test]
    fn fixed_policy_waits_the_same_every_time() {
        let mut fixed =
            Backoff::new(Policy::Fixed(Duration::from_secs(1)), Hints::Obey, &Timers::DEFAULT);
        let mut dice = Dice::new(1);
        for session in [Some(100), None, None, None] {
            assert_eq!(fixed.after(0, &end(None, session), &mut dice).unwrap().delay_ns, SECOND);
        }
    }
}
