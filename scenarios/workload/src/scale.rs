//! Running a file smaller than it was written: a factor, or the preset for quick gates.

use crate::distribution::Distribution;
use crate::file::{Load, Scenario};
use crate::gate::Gate;
use crate::metrics::Kind;
use crate::system::Timers;
use crate::units::{Factor, MILLION, Rate, Time};

/// Sends a second under `--scale ci`, unless the overrides say otherwise.
pub const CI_RATE: Rate = Rate::per_second(500);
/// Users under `--scale ci`, unless an experiment asks for more.
pub const CI_USERS: u32 = 600;
/// Durations under `--scale ci` are divided by this.
pub const CI_TIME_DIVISOR: u64 = 10;
/// No window gets shorter than this under `--scale ci`, unless it was before or the overrides say more.
const CI_WINDOW_MIN: Time = Time::seconds(3);

/// How much smaller a run is than its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Rates, users and the connect rate times this; timers, phases and bounds as they are.
    Factor(Factor),
    /// Short timers, 500 sends a second, 600 users, durations a tenth; where a run stands may change rate and shortest window.
    Ci,
}

impl std::str::FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "ci" {
            return Ok(Scale::Ci);
        }
        match Factor::parse(text) {
            Ok(factor) if factor.0 > 0 => Ok(Scale::Factor(factor)),
            _ => Err(format!("`{text}` is no scale: write `ci` or a factor such as `0.3`")),
        }
    }
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scale::Factor(factor) => factor.fmt(f),
            Scale::Ci => f.write_str("ci"),
        }
    }
}

/// By how much the parts of a file shrank; what an experiment's counts and durations follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shrink {
    /// Sends a second.
    pub rate: Factor,
    /// Users and devices.
    pub users: Factor,
    /// Durations are divided by this.
    pub time_divisor: u64,
    /// No window gets shorter than this, unless it was before.
    pub window_min: Time,
}

impl Shrink {
    /// Nothing shrank.
    pub const NONE: Self =
        Self { rate: Factor::ONE, users: Factor::ONE, time_divisor: 1, window_min: CI_WINDOW_MIN };

    /// A duration of a window or step.
    pub fn time(self, time: Time) -> Time {
        Time(time.0 / self.time_divisor)
    }

    /// The length of a window: a tenth, but long enough to hold some slices.
    pub fn window(self, time: Time) -> Time {
        if self.time_divisor == 1 { time } else { self.time(time).max(time.min(self.window_min)) }
    }

    /// A number of devices or connections; at least 1.
    pub fn devices(self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.users.of(n).max(1) }
    }

    /// Samples, windows and time bounds of one gate.
    pub fn gate(self, gate: &mut Gate) {
        if let Some(samples) = gate.min_samples {
            let by_devices = gate.metric.name().starts_with("connect.")
                || gate.metric.name().starts_with("relay.");
            let shrunk = if by_devices {
                self.users.of(samples)
            } else {
                self.rate.of(samples) / self.time_divisor
            };
            gate.min_samples = Some(shrunk.max(1));
        } else if gate.metric.kind() == Kind::Latency && self != Self::NONE {
            let shrunk = self.rate.of(gate.samples_needed()) / self.time_divisor;
            gate.min_samples = Some(shrunk.clamp(20, gate.samples_needed()));
        }
        gate.window = gate.window.map(|window| self.time(window).max(Time::seconds(1)).min(window));
    }
}

/// What replaces a part of the preset `ci`; `None` leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ci {
    /// Sends a second.
    pub rate: Option<Rate>,
    /// Users.
    pub users: Option<u32>,
    /// The shortest window.
    pub window: Option<Time>,
}

/// Shrinks a scenario in place.
pub fn shrink(scenario: &mut Scenario, scale: Scale, ci: Ci) -> Shrink {
    let ci_rate = ci.rate.unwrap_or(CI_RATE);
    let total: u64 = scenario.streams.values().map(|s| s.rate.0).sum();
    let users = scenario.population.users;
    let shrink = match scale {
        Scale::Factor(factor) => {
            scenario.population.users =
                u32::try_from(factor.of(u64::from(users))).unwrap_or(u32::MAX).max(2);
            scenario.sessions.connect = Rate(factor.of(scenario.sessions.connect.0).max(MILLION));
            Shrink { rate: factor, users: factor, ..Shrink::NONE }
        }
        Scale::Ci => {
            let wanted = ci.users.unwrap_or(CI_USERS);
            scenario.population.users = users.min(wanted);
            scenario.system.timers = Timers::Short;
            let rate = Factor::ratio(ci_rate.0.min(total), total);
            let users = Factor::ratio(u64::from(scenario.population.users), u64::from(users));
            Shrink {
                rate,
                users,
                time_divisor: CI_TIME_DIVISOR,
                window_min: ci.window.unwrap_or(CI_WINDOW_MIN),
            }
        }
    };
    for stream in scenario.streams.values_mut() {
        // The preset's total is met exactly; a factor in millionths would miss it by a send now and then.
        let rate = match scale {
            Scale::Ci if total > ci_rate.0 => {
                let part = u128::from(stream.rate.0) * u128::from(ci_rate.0) / u128::from(total);
                u64::try_from(part).unwrap_or(u64::MAX)
            }
            Scale::Ci => stream.rate.0,
            Scale::Factor(factor) => factor.of(stream.rate.0),
        };
        stream.rate = Rate(rate.max(1));
    }
    for phase in &mut scenario.phases {
        if !matches!(phase.load, Load::None) {
            phase.for_ = phase.for_.map(|len| shrink.window(len));
        }
    }
    if shrink.time_divisor > 1 {
        scenario.sessions.away = shorter(&scenario.sessions.away, shrink);
    }
    for gate in &mut scenario.slo {
        shrink.gate(gate);
    }
    shrink
}

fn shorter(away: &Distribution<Time>, shrink: Shrink) -> Distribution<Time> {
    away.map(|time| Time(shrink.time(time).0.max(1)))
}
