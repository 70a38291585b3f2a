//! Q1: progress.
use crate::case::Case;
use crate::finding::Finding;

pub(super) fn check(case: &Case<'_>, mut finding: Finding) -> Finding {
    let facts = &case.record.facts;
    let most_ms = case.bounds.progress_ns() / 1_000_000;
    // Before everything is healed a queue may wait; what waited then has the bound from the healing on.
    let healed =
        facts.faults.iter().filter_map(|log| log.healed_ns.or(log.injected_ns)).max().unwrap_or(0);
    let open = facts.faults.iter().any(|log| log.injected_ns.is_some() && log.healed_ns.is_none());
    let since_ms = |at_ns: u64| at_ns.saturating_sub(healed) / 1_000_000;
    for list in facts.lags.iter().filter(|list| !open && list.at_ns >= healed) {
        finding.cases += 1;
        for lag in list.lags.iter().filter(|lag| lag.oldest_ms.min(since_ms(list.at_ns)) > most_ms)
        {
            finding.violation(|| {
                let what = format!(
                    "{} waits {} ms in partition {} of {}",
                    lag.group, lag.oldest_ms, lag.partition, lag.topic
                );
                case.violation(what, None, Some(list.at_ns))
            });
        }
    }
    for list in facts.queues.iter().filter(|list| !open && list.at_ns >= healed) {
        finding.cases += 1;
        for queue in
            list.queues.iter().filter(|queue| queue.oldest_ms.min(since_ms(list.at_ns)) > most_ms)
        {
            // Devices that the plan keeps away may leave their queues waiting.
            if case
                .sessions
                .at(queue.device, list.at_ns)
                .is_some_and(|session| session.opened_ns + most_ms * 1_000_000 < list.at_ns)
            {
                finding.violation(|| {
                    let what = format!(
                        "an item waits {} ms in the queue of a connected device",
                        queue.oldest_ms
                    );
                    case.violation(what, Some(queue.device), Some(list.at_ns))
                });
            }
        }
    }
    finding.basis(format!("at most {most_ms} ms after healing")).closed()
}

#[cfg(test)]
mod tests {
    use storm_record::facts::{LagList, LagSeen};

    use crate::kit::{Kit, judged};

    #[test]
    fn a_group_that_waits_for_ever_is_convicted() {
        let mut kit = Kit::clean();
        let lag = LagSeen {
            group: "sequencer".to_owned(),
            topic: "chat.messages".to_owned(),
            partition: 3,
            behind: 1,
            oldest_ms: 200_000,
        };
        kit.record.facts.lags.push(LagList { at_ns: 300_000_000_000, lags: vec![lag] });
        judged(&kit).only_fails("Q1");
    }
}
