//! M9: the relay is exact.
use std::collections::{BTreeMap, BTreeSet};

use chat_protocol::ConvId;
use storm_record::Number;
use storm_record::facts::SystemWhat;
use storm_record::ledger::Outcome as Sent;
use storm_record::ledger::number::Device;
use storm_record::ledger::row::{ResumeOutcome, Row};

use crate::case::Case;
use crate::finding::{Finding, Outcome};
use crate::verdict::Reason;
use crate::world::{Planned, World};

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let ledger = &case.record.ledger;
    let facts = &case.record.facts;
    let counts = ledger.counts();
    let mut finding = finding.cases(counts.delivered + counts.opened).basis(format!(
        "resumes: {} ok, {} rebased, {} new, {} gap; {} from history, {} unannounced, {} of them brought by the relay later",
        counts.resume_ok,
        counts.resume_rebased,
        counts.resume_new,
        counts.resume_gap,
        counts.backfilled,
        counts.unannounced,
        counts.brought
    ));
    // A device that waits too long asks history; what the relay brings all the same was late, which is for the gates to say.
    let brought: BTreeSet<_> = ledger.rows.iter().filter_map(brought).collect();
    // Some of what came late may have found no room for the row that says so. Which ones is not known, only how many.
    let mut untold = counts.brought.saturating_sub(brought.len() as u64);
    let emptied = emptied(case);
    let mut excused = 0;
    for row in &ledger.rows {
        match row {
            Row::DseqHole { device, expected, got, at_ns, .. } => finding.violation(|| {
                let what = format!(
                    "queue position {got} came where {expected} was due, and no skip was named"
                );
                case.violation(what, Some(*device), Some(*at_ns))
            }),
            Row::Backfill { n, device, conv, cseq, at_ns }
                if !brought.contains(&(*device, *conv, *cseq)) =>
            {
                if emptied.contains(&(*device, *n)) {
                    excused += 1;
                    continue;
                }
                if 0 < untold {
                    untold -= 1;
                    continue;
                }
                finding.violation(|| {
                    let what = format!(
                        "cseq {cseq} had to be fetched from history although no loss was announced"
                    );
                    case.slice_of_number(what, *n, Some(*device), *at_ns)
                });
            }
            _ => {}
        }
    }
    let rows = counts.dseq_hole + counts.unannounced.saturating_sub(counts.brought + excused);
    finding.violations(
        rows.saturating_sub(finding.violations),
        "holes and unannounced back-fills beyond the rows kept",
    );
    let certain = finding.outcome == Outcome::Fail;
    let events_lost = facts.system.iter().any(|fact| fact.what == SystemWhat::EventsLost);
    for opened in &ledger.opened {
        let announced = |fact: &&storm_record::facts::SystemFact| {
            matches!(fact.what, SystemWhat::FloorRaised(device) if device == opened.device)
                && fact.at_ns <= opened.at_ns + 1_000_000_000
        };
        let denied = matches!(opened.resume, ResumeOutcome::New | ResumeOutcome::Gap);
        if denied
            && let Some((epoch, dseq)) = opened.offered
            && !facts.system.iter().any(|fact| announced(&fact))
        {
            finding.violation(|| {
                let outcome = if opened.resume == ResumeOutcome::New { "new" } else { "gap" };
                let what = format!(
                    "cursor {epoch}.{dseq} was answered `{outcome}` although no queue lost content"
                );
                case.violation(what, Some(opened.device), Some(opened.at_ns))
            });
        }
    }
    if events_lost && !certain && finding.outcome == Outcome::Fail {
        // The announcement may be among the events that were lost.
        finding.outcome = Outcome::Inconclusive;
        finding.reason = Some(Reason::ObserverLost);
        return finding;
    }
    if !case.read() {
        finding.unless_convicted(Reason::NoFinalPhase);
        return finding;
    }
    let last = facts.queues.iter().filter(|list| list.last);
    let mut looked = 0;
    for list in last {
        looked += list.looked;
        for queue in &list.queues {
            finding.violation(|| {
                let what = format!(
                    "{} items left in the queue after the drain, the oldest {} ms old",
                    queue.items, queue.oldest_ms
                );
                case.violation(what, Some(queue.device), Some(list.at_ns))
            });
        }
    }
    never_came(case, &mut finding);
    if looked == 0 {
        finding.unless_convicted(Reason::NoFinalPhase);
    }
    finding.closed()
}

/// Back-fills of messages that were due before the system said that content of the device's queue was lost. A device without cursor is
/// not told so, and finds what it lacks in history. What was due later has to come through the relay.
fn emptied(case: &Case<'_>) -> BTreeSet<(Device, Number)> {
    let facts = &case.record.facts;
    let mut last = BTreeMap::new();
    for fact in &facts.system {
        if let SystemWhat::FloorRaised(device) = fact.what {
            last.insert(device, fact.at_ns);
        }
    }
    let filled = case.record.ledger.rows.iter().filter_map(|row| match row {
        Row::Backfill { n, device, .. } => Some((*n, (*device, *last.get(device)?))),
        _ => None,
    });
    let mut asked: BTreeMap<Number, Vec<(Device, u64)>> = BTreeMap::new();
    for (n, of) in filled {
        asked.entry(n).or_default().push(of);
    }
    if asked.is_empty() {
        return BTreeSet::new();
    }
    let due =
        case.world.planned(facts).filter_map(|planned| Some((asked.get(&planned.n)?, planned)));
    due.flat_map(|(of, planned)| {
        let before = of.iter().filter(move |(_, emptied_ns)| planned.due_ns <= *emptied_ns);
        before.map(move |(device, _)| (*device, planned.n))
    })
    .collect()
}

/// Which back-fill a row takes back.
fn brought(row: &Row) -> Option<(Device, ConvId, u64)> {
    match row {
        Row::Brought { device, conv, cseq, .. } => Some((*device, *conv, *cseq)),
        _ => None,
    }
}

/// Deliveries that are owed, whose messages history holds, and that are in no queue any more: only the relay can have lost them.
fn never_came(case: &Case<'_>, finding: &mut Finding) {
    let conv = |planned: &Planned| World::conv(case.world.user_of(planned.sender), planned.to_user);
    let mut written: BTreeMap<ConvId, u64> = case
        .survey
        .lost
        .first
        .iter()
        .filter_map(|(planned, _)| Some((conv(planned)?, 0)))
        .collect();
    if written.is_empty() {
        return;
    }
    // Sends without an answer may have taken rows too, so a conversation is clear only if all of them are there.
    let ledger = &case.record.ledger;
    for planned in case.world.planned(&case.record.facts) {
        let took = ledger.was_submitted(planned.n) && ledger.outcome(planned.n) != Sent::Rejected;
        if took && let Some(count) = conv(&planned).and_then(|conv| written.get_mut(&conv)) {
            *count += 1;
        }
    }
    for (planned, missing) in &case.survey.lost.first {
        let Some(conv) = conv(planned) else { continue };
        let rows = case.record.facts.digests.get(&conv).map_or(0, |history| history.rows);
        if written.get(&conv).is_none_or(|written| rows < *written) {
            continue;
        }
        for slot in (0..32_u8).filter(|slot| missing >> slot & 1 == 1) {
            let device = case.world.device_in(planned, slot);
            finding.violation(|| {
                case.slice_of("in history, and never came through the relay", planned, device)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use storm_record::facts::{QueueSeen, SystemFact, SystemWhat};
    use storm_record::ledger::Surfaced;
    use storm_record::ledger::row::{ResumeOutcome, Row};

    use crate::kit::{Kit, judged};
    use crate::world::World;

    #[test]
    fn a_jump_in_the_queue_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.ledger.dseq_hole(1, 1, 5, 7, 2_000_000_000);
        judged(&kit).only_fails("M9");
    }

    #[test]
    fn what_only_history_had_is_convicted_and_what_the_relay_brought_late_is_not() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        let Surfaced { device, conv, cseq, at_ns, .. } = kit.surfacing(n);
        kit.record.ledger.rows.push(Row::Backfill { n, device, conv, cseq, at_ns });
        judged(&kit).only_fails("M9");
        kit.record.ledger.rows.push(Row::Brought { device, conv, cseq, at_ns: at_ns + 1 });
        judged(&kit).passes();
    }

    #[test]
    fn what_was_due_before_a_queue_was_emptied_may_come_from_history_and_nothing_later() {
        let fetched = |later_ns: u64| {
            let mut kit = Kit::clean();
            let n = kit.some_number();
            let Surfaced { device, conv, cseq, at_ns, .. } = kit.surfacing(n);
            kit.record.ledger.rows.push(Row::Backfill { n, device, conv, cseq, at_ns });
            let world = World::read(&kit.record.plan).unwrap();
            let due_ns = world.find(&kit.record.facts, n).unwrap().due_ns;
            kit.record.facts.system.push(SystemFact {
                at_ns: due_ns - 1 + later_ns,
                node: "services-1".into(),
                what: SystemWhat::FloorRaised(device),
            });
            judged(&kit)
        };
        fetched(1).passes();
        fetched(0).only_fails("M9");
    }

    #[test]
    fn a_late_message_whose_second_row_found_no_room_is_not_convicted() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        let seen = kit.surfacing(n);
        let ledger = &mut kit.record.ledger;
        // The same message comes from history first, and then by the relay.
        ledger.streams_mut()[0].delivered.clear(n.k, 0);
        let pair = *ledger.pairs().get(seen.device, seen.peer).unwrap();
        let Surfaced { device, conv, cseq, at_ns, .. } = seen;
        ledger.surfaced(&Surfaced { backfilled: true, ..seen });
        *ledger.pairs_mut().entry(device, seen.peer) = pair;
        ledger.wire_duplicate(device, conv, cseq, false, at_ns + 1);
        ledger.rows.retain(|row| !matches!(row, Row::Brought { .. }));
        judged(&kit).passes();
        let lost = Row::Backfill { n, device, conv, cseq: cseq + 1, at_ns };
        kit.record.ledger.rows.push(lost);
        judged(&kit).only_fails("M9");
    }

    #[test]
    fn a_valid_cursor_that_is_denied_is_convicted() {
        let mut kit = Kit::clean();
        let opened = &mut kit.record.ledger.opened[3];
        opened.offered = Some((1, 9));
        opened.resume = ResumeOutcome::Gap;
        judged(&kit).only_fails("M9");
    }

    #[test]
    fn a_delivery_that_history_holds_was_lost_by_the_relay() {
        let mut kit = Kit::clean();
        let n = kit.some_number();
        kit.record.ledger.streams_mut()[0].delivered.clear(n.k, 0);
        judged(&kit).only_fail(&["M1", "M9"]);
    }

    #[test]
    fn a_queue_that_is_not_empty_at_the_end_is_convicted() {
        let mut kit = Kit::clean();
        let last = kit.record.facts.queues.last_mut().unwrap();
        last.queues.push(QueueSeen { device: 2, items: 3, oldest_ms: 10 });
        judged(&kit).only_fails("M9");
    }
}
