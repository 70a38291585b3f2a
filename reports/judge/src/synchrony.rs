//! How much reconnect attempts coincide: 0 for independent ones, 9 when all fall into one tenth of their window.
#![expect(clippy::cast_precision_loss, reason = "counts of attempts are far below 2^52")]

/// Attempts below which a window says nothing: under independence the standard deviation of the index is 0.043 at 100.
pub const ATTEMPTS_MIN: usize = 100;
/// Bins of a window.
const BINS: usize = 10;

/// A first attempt after a cut.
#[derive(Clone, Copy, Debug)]
pub struct First {
    /// Delay since the cut.
    pub delay_ns: u64,
    /// Largest delay the policy declares: the server's window, else the base delay.
    pub window_ns: u64,
}

/// The two parts of the index; `None` where no window has enough attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synchrony {
    /// Of first attempts.
    pub j1: Option<f64>,
    /// Of later ones.
    pub j2: Option<f64>,
}

impl Synchrony {
    /// The larger part.
    pub fn value(&self) -> f64 {
        self.j1.unwrap_or(f64::MIN).max(self.j2.unwrap_or(f64::MIN))
    }
}

/// (variance - mean) / mean^2 of the counts of ten equal bins.
fn spread(bins: [u64; BINS]) -> f64 {
    let total: u64 = bins.iter().sum();
    let mean = total as f64 / BINS as f64;
    let variance =
        bins.iter().map(|count| (*count as f64 - mean).powi(2)).sum::<f64>() / BINS as f64;
    (variance - mean) / (mean * mean)
}

/// The index of a common cut. `later` are instants since the cut; `step_ns` is the length of their windows: one second at the
/// default timers. Later attempts count from the second window on.
pub fn index(first: &[First], later: &[u64], step_ns: u64) -> Option<Synchrony> {
    let j1 = (first.len() >= ATTEMPTS_MIN).then(|| {
        let mut bins = [0; BINS];
        for First { delay_ns, window_ns } in first {
            let bin = u128::from(*delay_ns) * BINS as u128 / u128::from((*window_ns).max(1));
            bins[usize::try_from(bin).unwrap_or(BINS).min(BINS - 1)] += 1;
        }
        spread(bins)
    });
    let step_ns = step_ns.max(BINS as u64);
    let mut windows: std::collections::BTreeMap<u64, [u64; BINS]> =
        std::collections::BTreeMap::new();
    for at in later.iter().filter(|at| **at >= step_ns) {
        let bin = u128::from(at % step_ns) * BINS as u128 / u128::from(step_ns);
        windows.entry(at / step_ns).or_default()
            [usize::try_from(bin).unwrap_or(0).min(BINS - 1)] += 1;
    }
    let counted = windows.values().map(|bins| (bins.iter().sum::<u64>(), *bins));
    let counted: Vec<_> = counted.filter(|(count, _)| *count >= ATTEMPTS_MIN as u64).collect();
    let weight: u64 = counted.iter().map(|(count, _)| count).sum();
    let j2 = (weight > 0).then(|| {
        counted.iter().map(|(count, bins)| spread(*bins) * *count as f64).sum::<f64>()
            / weight as f64
    });
    (j1.is_some() || j2.is_some()).then_some(Synchrony { j1, j2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seeded uniform draw in [0, 1).
    struct Draw(u64);

    impl Draw {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ z >> 31) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    const S: f64 = 1e9;

    /// The model of the design: everybody is cut at once, nothing is accepted for 8 s, then 15 % of those outside a second.
    /// `delay` draws the delay of attempt i in seconds; `window` is the largest first one.
    fn model(devices: u32, window: f64, mut delay: impl FnMut(&mut Draw, u32) -> f64) -> Synchrony {
        let mut draw = Draw(7);
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for _ in 0..devices {
            let mut at = 0.0;
            for attempt in 0..64 {
                let wait = delay(&mut draw, attempt);
                at += wait;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "seconds below a minute"
                )]
                let ns = (at * S) as u64;
                if attempt == 0 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "seconds below a minute"
                    )]
                    first.push(First {
                        delay_ns: (wait * S) as u64,
                        window_ns: (window * S) as u64,
                    });
                } else {
                    later.push(ns);
                }
                if at > 8.0 && draw.next() < 1.0 - 0.85_f64.powf((at - 8.0).min(1.0)) {
                    break;
                }
            }
        }
        index(&first, &later, 1_000_000_000).unwrap()
    }

    #[test]
    fn a_fixed_delay_is_as_synchronous_as_can_be() {
        for devices in [500, 10_000] {
            let seen = model(devices, 1.0, |_, _| 1.0);
            assert!((8.97..=9.0).contains(&seen.j1.unwrap()), "{seen:?}");
            assert!((8.9..=9.0).contains(&seen.j2.unwrap()), "{seen:?}");
        }
    }

    #[test]
    fn a_fifth_of_jitter_is_not_enough_and_half_is_better() {
        for devices in [500, 10_000] {
            let fifth = model(devices, 1.2, |draw, _| 0.8 + 0.4 * draw.next());
            assert!((1.6..=2.0).contains(&fifth.j1.unwrap()), "{fifth:?}");
            assert!(fifth.j2.unwrap() > 0.15, "{fifth:?}");
            let half = model(devices, 1.0, |draw, _| 0.5 + 0.5 * draw.next());
            assert!((0.9..=1.1).contains(&half.j1.unwrap()), "{half:?}");
        }
    }

    #[test]
    fn full_jitter_and_a_dictated_window_are_spread_out() {
        let full = |draw: &mut Draw, attempt: u32| {
            draw.next() * (0.5 * f64::from(1_u32 << attempt.min(10))).min(30.0)
        };
        for devices in [500, 10_000] {
            let seen = model(devices, 0.5, full);
            assert!(seen.j1.unwrap().abs() < 0.05, "{seen:?}");
            assert!(seen.j2.unwrap() < 0.1, "{seen:?}");
            let ours = model(devices, 20.0, |draw, attempt| {
                if attempt == 0 { draw.next() * 20.0 } else { full(draw, attempt) }
            });
            assert!(ours.value() < 0.05, "{ours:?}");
        }
    }

    #[test]
    fn few_attempts_say_nothing() {
        let first = vec![First { delay_ns: 1, window_ns: 10 }; ATTEMPTS_MIN - 1];
        assert_eq!(index(&first, &[], 1_000_000_000), None);
    }
}
