//! Stories of A1: what a fault explains, what the file allows, and what is amplification.
use storm_record::facts::FaultKind;
use storm_record::ledger::row::DelayRule;

use super::Backlog;
use crate::control::summarise;
use crate::finding::Outcome;
use crate::kit::{Judged, Kit, attempt, judged};
use crate::world::World;

const S: u64 = 1_000_000_000;
/// Calls a second that a quiet system makes.
const QUIET: u64 = 10;

/// A run and a control run that register and resume so many times a second.
fn connecting() -> Kit {
    let mut kit = Kit::with_recovery();
    for port in ["registry.register", "relay_queue.resume"] {
        add(&mut kit, port, |at_ns| at_ns / S * QUIET);
    }
    kit.record.control = Some(summarise(&kit.record));
    kit
}

/// Adds calls to a port, by the instant up to which they are counted.
fn add(kit: &mut Kit, port: &str, calls: impl Fn(u64) -> u64) {
    count(kit, &format!("port.{port}.calls"), calls);
}

/// Adds to a counter, by the instant up to which it is counted.
fn count(kit: &mut Kit, counter: &str, more: impl Fn(u64) -> u64) {
    for list in &mut kit.record.facts.counters {
        *list.counters.entry(String::from(counter)).or_default() += more(list.at_ns);
    }
}

/// Every device goes and comes back.
fn all_reconnect(kit: &mut Kit, at_ns: u64) -> u64 {
    let devices: Vec<u32> = kit.record.ledger.opened.iter().map(|opened| opened.device).collect();
    for device in &devices {
        kit.reconnect(*device, at_ns, at_ns + S / 10);
    }
    devices.len() as u64
}

#[test]
fn operations_that_grow_against_control_are_convicted() {
    let mut kit = Kit::with_recovery();
    let mut extra = 0;
    for list in kit.record.facts.counters.iter_mut().filter(|list| list.at_ns > 6 * S) {
        extra += 500;
        *list.counters.get_mut("port.log.append.calls").unwrap() += extra;
    }
    judged(&kit).only_fails("A1");
}

#[test]
fn devices_that_come_back_may_register_and_resume() {
    let mut kit = connecting();
    let devices = all_reconnect(&mut kit, 8 * S);
    assert!(devices * 3 / 3 > 2 * QUIET, "so many that it would be a peak");
    for port in ["registry.register", "relay_queue.resume"] {
        add(&mut kit, port, |at_ns| if at_ns > 8 * S { 3 * devices } else { 0 });
    }
    judged(&kit).passes();
}

#[test]
fn the_same_growth_without_a_connection_is_convicted() {
    for port in ["registry.register", "relay_queue.resume"] {
        let mut kit = connecting();
        let devices = kit.record.ledger.opened.len() as u64;
        add(&mut kit, port, |at_ns| if at_ns > 8 * S { 3 * devices } else { 0 });
        judged(&kit).only_fails("A1");
    }
}

#[test]
fn connections_explain_calls_until_they_are_opened_and_none_after() {
    let mut kit = connecting();
    let devices = all_reconnect(&mut kit, 7 * S);
    add(&mut kit, "registry.register", |at_ns| if at_ns > 11 * S { 3 * devices } else { 0 });
    let report = judged(&kit);
    report.only_fails("A1");
    assert!(report.finding("A1").evidence[0].what.contains("in one second"));
}

#[test]
fn what_a_port_left_undone_is_its_backlog_until_it_is_done() {
    let mut backlog = Backlog { usual_rate: 10.0, left: 0.0 };
    for done in [9.0, 8.0, 11.0, 9.0] {
        backlog.look(done, 1.0, false);
    }
    assert!(backlog.left.abs() < 1e-9, "a pace that varies leaves nothing: {}", backlog.left);
    for _ in 0..6 {
        backlog.look(0.0, 1.0, false);
    }
    assert!((backlog.left - 60.0).abs() < 1e-9);
    backlog.look(40.0, 1.0, false);
    assert!((backlog.left - 30.0).abs() < 1e-9);
    backlog.look(100.0, 1.0, false);
    assert!(backlog.left.abs() < 1e-9, "more than that is no backlog");
}

#[test]
fn what_a_held_group_reads_afterwards_is_its_backlog() {
    // Four tenths less for three seconds, and all of it in the next one.
    let reading_later = |kind, caught_up: u64| {
        let mut kit = Kit::with_recovery();
        kit.record.promises.bounds.insert(String::from("operations_peak"), 1.3);
        add(&mut kit, "registry.register", |at_ns| at_ns / S * 1_000);
        kit.record.control = Some(summarise(&kit.record));
        for list in &mut kit.record.facts.counters {
            let second = list.at_ns / S;
            let calls = list.counters.get_mut("port.registry.register.calls").unwrap();
            *calls -= (second.clamp(6, 9) - 6) * 400;
            *calls += if second > 9 { caught_up } else { 0 };
        }
        kit.fault(kind, 6 * S, 9 * S);
        judged(&kit)
    };
    reading_later(FaultKind::ConsumerPause, 1_200).passes();
    reading_later(FaultKind::ConsumerPause, 3_000).only_fails("A1");
    reading_later(FaultKind::PortSlow, 1_200).only_fails("A1");
}

#[test]
fn connections_explain_no_calls_of_other_ports() {
    let mut kit = connecting();
    let devices = all_reconnect(&mut kit, 8 * S);
    add(&mut kit, "log.append", |at_ns| if at_ns > 8 * S { 30 * devices } else { 0 });
    judged(&kit).only_fails("A1");
}

#[test]
fn devices_whose_queues_were_wiped_may_read_history_and_no_more_than_they_need() {
    let reading = |kind, times: u64| {
        let mut kit = Kit::with_recovery();
        add(&mut kit, "history.page", |at_ns| at_ns / S * QUIET);
        kit.record.control = Some(summarise(&kit.record));
        let world = World::read(&kit.record.plan).unwrap();
        let all = super::conversations(world.people());
        assert!(all > 3 * QUIET, "so many that it would be a peak");
        let read = |at_ns| if at_ns > 8 * S { times * all } else { 0 };
        add(&mut kit, "history.page", read);
        kit.fault(kind, 8 * S - 1, 8 * S);
        judged(&kit)
    };
    let wiped = reading(FaultKind::RegistryWipe, 4).finding("A1").outcome;
    assert_eq!(wiped, Outcome::Pass);
    for (kind, times) in [(FaultKind::RegistryWipe, 20), (FaultKind::PortSlow, 4)] {
        assert_eq!(reading(kind, times).finding("A1").outcome, Outcome::Fail, "{kind:?}");
    }
}

#[test]
fn devices_whose_queues_were_wiped_may_read_each_message_again_once() {
    const BYTES: &str = "port.history.page.bytes";
    let reading = |kind, quarters: u64| {
        let mut kit = Kit::with_recovery();
        count(&mut kit, BYTES, |at_ns| at_ns / S * 1_000);
        kit.record.control = Some(summarise(&kit.record));
        let more = allowed(&kit) * quarters / 4;
        count(&mut kit, BYTES, |at_ns| if at_ns > 8 * S { more } else { 0 });
        kit.fault(kind, 8 * S - 1, 8 * S);
        judged(&kit)
    };
    reading(FaultKind::RegistryWipe, 4).passes();
    for (kind, quarters) in [(FaultKind::RegistryWipe, 16), (FaultKind::PortSlow, 4)] {
        reading(kind, quarters).only_fails("A1");
    }
}

/// Bytes of all messages that were sent or delivered, by what a send costs in the control run, which is the run itself here.
fn allowed(kit: &Kit) -> u64 {
    let windows = &kit.record.control.as_ref().unwrap().windows;
    let sends: u64 = windows.iter().map(|window| window.sends).sum();
    let deliveries: u64 = windows.iter().map(|window| window.deliveries).sum();
    let last = kit.record.facts.counters.last().unwrap();
    last.counters["port.history.page.bytes"] / sends * (sends + deliveries)
}

/// A run in which a port is called more often from a second on, by the calls of a second, under a file that allows so much.
fn busier(bounds: &[(&str, f64)], more: impl Fn(u64) -> u64) -> Judged {
    let mut kit = connecting();
    add(&mut kit, "registry.register", |at_ns| more(at_ns / S));
    let bounds = bounds.iter().map(|(name, most)| (String::from(*name), *most));
    kit.record.promises.bounds.extend(bounds);
    judged(&kit)
}

#[test]
fn file_that_allows_more_operations_a_delivery_gets_so_many_and_no_more() {
    let doubled = |second: u64| second.saturating_sub(6) * QUIET;
    busier(&[], doubled).only_fails("A1");
    busier(&[("operations_a_delivery", 2.5)], doubled).passes();
    busier(&[("operations_a_delivery", 1.8)], doubled).only_fails("A1");
}

#[test]
fn file_that_allows_a_higher_peak_gets_one_so_high_and_no_higher() {
    let burst = |second: u64| if second > 8 { 8 * QUIET } else { 0 };
    let mean = ("operations_a_delivery", 5.0);
    busier(&[mean], burst).only_fails("A1");
    busier(&[mean, ("operations_peak", 4.0)], burst).passes();
    busier(&[mean, ("operations_peak", 3.3)], burst).only_fails("A1");
}

#[test]
fn attempts_a_cut_connection_stay_bounded() {
    let mut kit = connecting();
    let rule = DelayRule::Window(S);
    let spread = |device: u32| u64::from(device) % 100 * (S / 100);
    for device in 1_000..1_200 {
        kit.record.ledger.attempts.push(attempt(device, 1, 8 * S, spread(device), rule));
    }
    judged(&kit).passes();
    for device in 1_000..1_200 {
        let again = attempt(device, 2, 9 * S, spread(device), DelayRule::Backoff);
        kit.record.ledger.attempts.push(again);
    }
    assert_eq!(judged(&kit).finding("A1").outcome, Outcome::Fail);
}
