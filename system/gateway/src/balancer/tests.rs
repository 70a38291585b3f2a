//! Stories of the choice of a gateway.
use std::sync::Arc;

use chat_ports::clock::SteadyClock;

use super::*;

fn backends(count: u16) -> Backends {
    let all = (0..count).map(|i| Backend {
        name: format!("gateway-{i}"),
        addr: ([127, 0, 0, 1], 7_101 + i).into(),
    });
    let observer = Observer::new(Arc::new(SteadyClock::new(0)));
    Backends::new(all.collect(), &Timers::DEFAULT, &observer)
}

fn open(backends: &mut Backends, count: usize, now: Instant) {
    for _ in 0..count {
        backends.choose(&[], now).unwrap();
    }
}

fn counts(backends: &Backends) -> Vec<u64> {
    backends.spread().into_iter().map(|(_, open)| open).collect()
}

#[test]
fn connections_spread_evenly() {
    let mut all = backends(3);
    open(&mut all, 300, Instant::now());
    assert_eq!(counts(&all), [100, 100, 100]);
}

#[test]
fn a_gateway_that_fails_its_checks_gets_nothing() {
    let mut all = backends(3);
    let now = Instant::now();
    all.checked(1, false, now);
    all.checked(1, false, now);
    open(&mut all, 100, now);
    assert_eq!(counts(&all), [50, 0, 50]);
}

#[test]
fn a_returned_gateway_is_filled_slowly() {
    let mut all = backends(2);
    let start = Instant::now();
    all.checked(1, false, start);
    all.checked(1, false, start);
    open(&mut all, 100, start);
    all.checked(1, true, start);
    open(&mut all, 20, start);
    // At a tenth of its weight it is full with a tenth of the other's connections.
    assert!(counts(&all)[1] <= 12, "{:?}", counts(&all));
    open(&mut all, 60, start + Timers::DEFAULT.window_min * 10);
    assert!(counts(&all)[1] >= 70, "{:?}", counts(&all));
}

#[test]
fn failed_dials_eject_for_a_while() {
    let mut all = backends(3);
    let now = Instant::now();
    for _ in 0..3 {
        all.dialled(0, false, now);
    }
    open(&mut all, 10, now);
    assert_eq!(counts(&all)[0], 0);
    open(&mut all, 30, now + Timers::DEFAULT.window_min * 6);
    assert!(counts(&all)[0] > 0);
}

#[test]
fn never_more_than_half_are_left_out() {
    let mut all = backends(3);
    let now = Instant::now();
    for place in 0..2 {
        all.checked(place, false, now);
        all.checked(place, false, now);
    }
    open(&mut all, 30, now);
    assert_eq!(counts(&all), [10, 10, 10]);
}

#[test]
fn heartbeats_slower_than_the_idle_timeout_are_refused() {
    let mut timers = Timers::DEFAULT;
    timers.ping = IDLE;
    assert!(timers.ping * 6 / 5 + timers.pong >= IDLE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(async {
        let listener = net::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let observer = Observer::new(Arc::new(SteadyClock::new(0)));
        Balancer::start(
            listener,
            Vec::new(),
            timers,
            &observer,
            &TaskTracker::new(),
            &CancellationToken::new(),
        )
        .err()
    });
    assert_eq!(refused, Some(BeatsTooSlow));
}
