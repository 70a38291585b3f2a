//! A1: no amplification.
#![expect(clippy::cast_precision_loss, reason = "counters of a run are far below 2^52")]
use std::collections::{BTreeMap, BTreeSet};

use storm_record::control::{ControlSummary, ControlWindow};
use storm_record::facts::{CounterList, FaultKind, FaultLog};
use storm_record::ledger::row::DelayRule;
use storm_record::promises::ControlWanted;
use storm_workload::Population;
use storm_workload::plan::Window;

use crate::case::Case;
use crate::control::{agrees, increase};
use crate::finding::Finding;
use crate::verdict::Reason;

/// Mean over a window, times control.
const MEAN: f64 = 1.5;
/// Peak second, times the control's mean.
const PEAK: f64 = 3.0;
/// A port below this share of its usual pace is held up, and what it leaves undone meanwhile it may make good at any pace: a backlog
/// that is worked off is work put off, not work added. The mean still bounds all of it. While a consumer group is held by a fault
/// its share alone may be missing, so any pace below the usual one counts then.
const HELD_UP: f64 = 0.5;
/// Attempts a common cut, where the server dictates a window.
const CONNECTS: f64 = 1.5;
/// Calls for each connection opened, on top of the control's share: one to register, one to renew or take over what the registry
/// still knows of the device, one to resume its queue. Reconnecting is work that a cut makes by design, and how much of it there
/// may be is bounded elsewhere: attempts a cut connection by [`connects`], their spread by B2.
const CALLS_A_CONNECT: u64 = 3;
/// Ports that a device which connects makes a gateway call.
const CONNECTING: [&str; 2] = ["registry calls", "relay_queue calls"];
/// Pages of history for each conversation of each device after the store of all queues was wiped: every device reads everything it may
/// have lost, and once more for each time that it found something.
const PAGES_A_CONVERSATION: u64 = 4;
/// Operations a delivery below which a port is idle and a ratio says nothing.
const IDLE: f64 = 0.01;
/// Windows that are compared.
const HELD: [Window; 3] = [Window::Fault, Window::Heal, Window::Recovery];

/// Whether a counter is one of operations or bytes of the ports this invariant bounds.
fn bounded(name: &str) -> bool {
    let of = name.starts_with("port.registry.")
        || name.starts_with("port.log.")
        || name.starts_with("port.history.")
        || name.starts_with("port.relay");
    of && matches!(name.rsplit('.').next(), Some("calls" | "bytes"))
}

/// Sums by port and kind: single operations of a port trade places during recovery.
fn by_port(counters: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, value) in counters.iter().filter(|(name, _)| bounded(name)) {
        let port = name.split('.').nth(1).unwrap_or_default();
        let kind = name.rsplit('.').next().unwrap_or_default();
        *sums.entry(format!("{port} {kind}")).or_default() += value;
    }
    sums
}

/// Work that a fault makes by design: when connections were opened, and what has to be read from history.
struct Openings {
    at_ns: Vec<u64>,
    /// What devices may read after a wipe.
    reading: Option<Reading>,
    /// The node that held the connection before may have taken its route away so long before the device opened the next: it
    /// found the silence first.
    ahead_ns: u64,
}

/// What devices may read from history because the store of all queues was wiped.
struct Reading {
    wiped_ns: u64,
    pages: u64,
    /// Everything that was ever sent to a device or by it, once.
    bytes: u64,
}

impl Reading {
    fn of(case: &Case<'_>, control: &ControlSummary) -> Option<Self> {
        let wiped = |log: &&FaultLog| log.kind == Some(FaultKind::RegistryWipe);
        let wiped_ns = case.record.facts.faults.iter().find(wiped)?.injected_ns?;
        let (mut sends, mut bytes) = (0, 0);
        for window in &control.windows {
            sends += window.sends;
            bytes += by_port(&window.counters).get("history bytes").copied().unwrap_or(0);
        }
        let messages: u64 = case
            .spans()
            .map(|(at, _)| case.record.counts(at))
            .map(|counts| counts.delivered + counts.written)
            .sum();
        let pages = PAGES_A_CONVERSATION * conversations(case.world.people());
        Some(Self { wiped_ns, pages, bytes: messages.saturating_mul(bytes / sends.max(1)) })
    }
}

impl Openings {
    fn of(case: &Case<'_>, control: &ControlSummary) -> Self {
        let mut all: Vec<u64> =
            case.record.ledger.opened.iter().map(|opened| opened.at_ns).collect();
        all.sort_unstable();
        let reading = Reading::of(case, control);
        Self { at_ns: all, reading, ahead_ns: case.bounds.half_open_ns() }
    }

    /// Calls of a port in a span that connections or a wipe explain.
    fn explain(&self, port: &str, from_ns: u64, to_ns: u64) -> u64 {
        let read = self.reading.as_ref().filter(|reading| reading.wiped_ns <= to_ns);
        if port == "history calls" {
            return read.map_or(0, |reading| reading.pages);
        }
        if port == "history bytes" {
            return read.map_or(0, |reading| reading.bytes);
        }
        if !CONNECTING.contains(&port) {
            return 0;
        }
        let before = |at_ns: u64| self.at_ns.partition_point(|opened| *opened < at_ns) as u64;
        CALLS_A_CONNECT * (before(to_ns + self.ahead_ns) - before(from_ns))
    }
}

/// Conversations, once for each device of either side.
fn conversations(people: &Population) -> u64 {
    let mut pairs = BTreeSet::new();
    for user in 0..people.users() {
        pairs.extend(
            people.contacts_of(user).iter().map(|other| (user.min(*other), user.max(*other))),
        );
    }
    let devices = |user| people.devices_of(user).len() as u64;
    pairs.into_iter().map(|(one, other)| devices(one) + devices(other)).sum()
}

fn a_unit(value: u64, units: u64) -> f64 {
    value as f64 / units.max(1) as f64
}

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let record = case.record;
    if record.promises.control == ControlWanted::None {
        return finding.not_applicable("no control run is asked for");
    }
    let mut finding = finding;
    let Some(control) = &record.control else {
        finding.unless_convicted(Reason::NoControl);
        return finding;
    };
    if let Err(why) = agrees(case) {
        finding.basis.push(why);
        finding.unless_convicted(Reason::ControlMismatch);
        return finding;
    }
    let held: Vec<&ControlWindow> =
        control.windows.iter().filter(|window| HELD.contains(&window.window)).collect();
    let (mut deliveries, mut sends, mut attempts, mut counters) = (0, 0, 0, BTreeMap::new());
    for window in &held {
        deliveries += window.deliveries;
        sends += window.sends;
        attempts += window.attempts;
        for (name, value) in &window.counters {
            *counters.entry(name.clone()).or_default() += value;
        }
    }
    let usual = by_port(&counters);
    let spans: Vec<_> = case.spans().filter(|(_, span)| HELD.contains(&span.window)).collect();
    let (Some((_, first)), Some((_, last))) = (spans.first(), spans.last()) else {
        return finding.not_applicable("no window beside the steady one");
    };
    let mine =
        spans.iter().fold(storm_record::slices::SliceCounts::default(), |mut all, (at, _)| {
            all.add(&record.counts(*at));
            all
        });
    let now = by_port(&increase(&record.facts.counters, first.from_ns, last.to_ns));
    let openings = Openings::of(case, control);
    let most_mean = case.bound("operations_a_delivery", MEAN);
    let most_peak = case.bound("operations_peak", PEAK);
    for (port, usual) in &usual {
        let usual = a_unit(*usual, deliveries);
        if usual < IDLE {
            continue;
        }
        finding.cases += 1;
        let explained = openings.explain(port, first.from_ns, last.to_ns);
        let calls = now.get(port).copied().unwrap_or(0);
        let mean = a_unit(calls.saturating_sub(explained), mine.delivered);
        if mean > most_mean * usual {
            finding.violation(|| {
                let what = format!(
                    "{port}: {mean:.3} a delivery{}, control {usual:.3}, at most {most_mean} times that",
                    beside(explained)
                );
                case.violation(what, None, Some(first.from_ns))
            });
        }
        // Peaks are compared a second, not a delivery: in an outage there is none.
        let seconds = held.iter().map(|window| window.len_ns).sum::<u64>() as f64 / 1e9;
        let usual_rate = usual * deliveries as f64 / seconds.max(1.0);
        let peak = peak(case, port, &openings, usual_rate, (first.from_ns, last.to_ns));
        if let Some(Peak { at_ns, rate, explained }) = peak
            && rate > most_peak * usual_rate
        {
            finding.violation(|| {
                let what = format!(
                    "{port}: {rate:.0} in one second{}, control {usual_rate:.0}, at most {most_peak} times that",
                    beside(explained)
                );
                case.violation(what, None, Some(at_ns))
            });
        }
    }
    let (usual, mean) = (a_unit(attempts, sends), a_unit(mine.attempts, mine.written));
    if sends > 0 && mine.written > 0 {
        finding.cases += 1;
        finding.basis.push(format!("{mean:.3} attempts a send, control {usual:.3}"));
        // An outage that outlasts the retry timer has the client send again by its own policy; its file says how often.
        let most = case.bound("attempts_a_send", MEAN);
        if mean > most * usual.max(1.0) {
            finding.violation(|| {
                let what = format!(
                    "{mean:.3} attempts a send, control {usual:.3}, at most {most} times that"
                );
                case.violation(what, None, Some(first.from_ns))
            });
        }
    }
    connects(case, &mut finding);
    finding.closed()
}

/// What was left out of a figure, in words.
fn beside(explained: u64) -> String {
    if explained == 0 {
        return String::new();
    }
    format!(" beside {explained} that the fault explains")
}

/// The busiest second of a port.
struct Peak {
    at_ns: u64,
    /// Operations a second that neither connections nor a backlog explain.
    rate: f64,
    /// Those that they do, over the looks.
    explained: u64,
}

/// What a port has left undone while it was held up.
struct Backlog {
    usual_rate: f64,
    left: f64,
}

impl Backlog {
    fn look(&mut self, done: f64, seconds: f64, group_held: bool) {
        let usual = self.usual_rate * seconds;
        if group_held || done < HELD_UP * usual || done > usual {
            self.left = (self.left + usual - done).max(0.0);
        }
    }
}

/// The busiest second of a port, smoothed over three looks since they are not exactly a second apart.
fn peak(
    case: &Case<'_>,
    port: &str,
    openings: &Openings,
    usual_rate: f64,
    (from_ns, to_ns): (u64, u64),
) -> Option<Peak> {
    let looks: Vec<_> = case
        .record
        .facts
        .counters
        .iter()
        .filter(|list| (from_ns..=to_ns).contains(&list.at_ns))
        .collect();
    let value = |list: &CounterList| by_port(&list.counters).get(port).copied().unwrap_or(0);
    let seconds = |from: &CounterList, to: &CounterList| (to.at_ns - from.at_ns) as f64 / 1e9;
    let rose = |from: &CounterList, to: &CounterList| {
        let explained = openings.explain(port, from.at_ns, to.at_ns);
        (value(to).saturating_sub(value(from)).saturating_sub(explained) as f64, explained)
    };
    let held = pauses(case);
    let (mut best, mut backlog) = (None::<Peak>, Backlog { usual_rate, left: 0.0 });
    for pair in looks.windows(4) {
        let (first, last) = (pair[0], pair[3]);
        let (more, explained) = rose(first, last);
        let rate = (more - backlog.left).max(0.0) / seconds(first, last).max(0.001);
        let group_held = held.iter().any(|(from, to)| *from <= first.at_ns && pair[1].at_ns <= *to);
        backlog.look(rose(first, pair[1]).0, seconds(first, pair[1]), group_held);
        if best.as_ref().is_none_or(|known| rate > known.rate) {
            best = Some(Peak { at_ns: last.at_ns, rate, explained });
        }
    }
    best
}

/// When a consumer group was held, from and to.
fn pauses(case: &Case<'_>) -> Vec<(u64, u64)> {
    let faults = &case.record.facts.faults;
    let pauses = faults.iter().filter(|log| log.kind == Some(FaultKind::ConsumerPause));
    pauses.filter_map(|log| Some((log.injected_ns?, log.healed_ns?))).collect()
}

/// Attempts for each connection that was cut and found a window dictated.
fn connects(case: &Case<'_>, finding: &mut Finding) {
    let attempts = &case.record.ledger.attempts;
    let cut =
        attempts.iter().filter(|attempt| matches!(attempt.rule, DelayRule::Window(_))).count();
    let again = attempts.iter().filter(|attempt| attempt.rule == DelayRule::Backoff).count();
    if cut < crate::synchrony::ATTEMPTS_MIN {
        return;
    }
    finding.cases += 1;
    let mean = (cut + again) as f64 / cut as f64;
    finding.basis.push(format!("{mean:.2} attempts a cut connection"));
    let most = case.bound("connects_a_cut", CONNECTS);
    // Where nodes are gone or refuse by admission, the backoff's own envelope bounds attempts, not this.
    let refused =
        case.record.facts.faults.iter().any(|log| log.kind.is_some_and(FaultKind::stops_node));
    if mean > most && !refused {
        finding.violation(|| {
            let what = format!("{mean:.2} attempts a cut connection, at most {most:.2}");
            case.violation(what, None, None)
        });
    }
}

#[cfg(test)]
mod tests;
