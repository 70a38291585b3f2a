//! Which gateway gets a connection.
use std::net::SocketAddr;
use std::time::Duration;

use chat_ports::observe::{Counter, Gauge, Observer};
use chat_protocol::limits::Timers;
use tokio::time::Instant;

use super::{Backend, CONNECTIONS_MAX};

/// Failed dials in a row that eject a gateway.
const DIALS_TO_EJECT: u32 = 3;
/// Failed checks in a row after which a gateway counts as down.
const CHECKS_TO_FAIL: u32 = 2;
/// Least weight of a gateway that has just come back.
const WEIGHT_MIN: f64 = 0.1;

struct State {
    backend: Backend,
    open: u64,
    failed_dials: u32,
    failed_checks: u32,
    up: bool,
    ejected_until: Option<Instant>,
    back_since: Option<Instant>,
    gauge: Gauge,
}

/// All gateways and what is known of them.
pub(super) struct Backends {
    states: Vec<State>,
    eject: Duration,
    slow_start: Duration,
    ejected: Counter,
    panics: Counter,
    next: usize,
}

impl Backends {
    pub(super) fn new(backends: Vec<Backend>, timers: &Timers, observer: &Observer) -> Self {
        let states = backends.into_iter().map(|backend| {
            let gauge = observer
                .gauge(format!("balancer.{}.connections", backend.name), CONNECTIONS_MAX as u64);
            State {
                backend,
                open: 0,
                failed_dials: 0,
                failed_checks: 0,
                up: true,
                ejected_until: None,
                back_since: None,
                gauge,
            }
        });
        Self {
            states: states.collect(),
            eject: timers.window_min * 5,
            slow_start: timers.window_min * 10,
            ejected: observer.counter("balancer.ejected"),
            panics: observer.counter("balancer.panics"),
            next: 0,
        }
    }

    /// Places and addresses, for the checks.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.states.iter().map(|state| state.backend.addr).collect()
    }

    pub(super) fn spread(&self) -> Vec<(String, u64)> {
        self.states.iter().map(|state| (state.backend.name.clone(), state.open)).collect()
    }

    /// The gateway with the fewest connections for its weight, counted as open from now on. When more than half are down or
    /// ejected all are used: then it is more likely that the checks are wrong than that everybody is dead.
    pub(super) fn choose(&mut self, tried: &[usize], now: Instant) -> Option<(usize, SocketAddr)> {
        let slow_start = self.slow_start;
        let available =
            |state: &State| state.up && state.ejected_until.is_none_or(|until| now >= until);
        let panic =
            self.states.iter().filter(|state| available(state)).count() * 2 < self.states.len();
        if panic {
            self.panics.add(1);
        }
        let count = self.states.len();
        self.next = (self.next + 1) % count.max(1);
        // Equal ones take turns.
        let order = (0..count).map(|step| (self.next + step) % count);
        let load = |state: &State| {
            let ramp = state.back_since.map_or(1.0, |since| {
                now.saturating_duration_since(since).as_secs_f64()
                    / slow_start.as_secs_f64().max(0.001)
            });
            f64::from(u32::try_from(state.open).unwrap_or(u32::MAX) + 1)
                / ramp.clamp(WEIGHT_MIN, 1.0)
        };
        let chosen = order
            .filter(|place| !tried.contains(place) && (panic || available(&self.states[*place])))
            .min_by(|a, b| load(&self.states[*a]).total_cmp(&load(&self.states[*b])))?;
        let state = &mut self.states[chosen];
        state.open += 1;
        state.gauge.set(state.open);
        Some((chosen, state.backend.addr))
    }

    /// A connection of a gateway ended.
    pub(super) fn closed(&mut self, place: usize) {
        let state = &mut self.states[place];
        state.open = state.open.saturating_sub(1);
        state.gauge.set(state.open);
    }

    /// How a dial went.
    pub(super) fn dialled(&mut self, place: usize, well: bool, now: Instant) {
        let state = &mut self.states[place];
        if well {
            state.failed_dials = 0;
            if state.ejected_until.take().is_some() {
                state.back_since = Some(now);
            }
            return;
        }
        state.failed_dials += 1;
        if state.failed_dials >= DIALS_TO_EJECT {
            state.failed_dials = 0;
            state.ejected_until = Some(now + self.eject);
            self.ejected.add(1);
        }
    }

    /// How a check went.
    pub(super) fn checked(&mut self, place: usize, well: bool, now: Instant) {
        let state = &mut self.states[place];
        if well {
            state.failed_checks = 0;
            if !state.up {
                state.up = true;
                state.back_since = Some(now);
                state.ejected_until = None;
            }
            return;
        }
        state.failed_checks = state.failed_checks.saturating_add(1);
        if state.failed_checks >= CHECKS_TO_FAIL {
            state.up = false;
        }
    }
}
