//! M10: history equals delivery.
use std::collections::BTreeMap;

use chat_protocol::ConvId;

use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;
use crate::world::World;

/// What devices saw of one conversation.
#[derive(Clone, Default)]
struct Seen {
    /// Up to where the furthest device that can be compared saw everything.
    top: u32,
    /// Digests of the devices that saw everything up to there. Two are M6's to tell; history may agree with either.
    digests: Vec<u64>,
}

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let mut finding = finding;
    let ledger = &case.record.ledger;
    if !case.read() {
        finding.unless_convicted(Reason::NoFinalPhase);
        return finding;
    }
    let mut seen: BTreeMap<ConvId, Seen> = BTreeMap::new();
    for row in ledger.pairs().sorted() {
        let Some(conv) = world_conv(case, row.device, row.peer) else { continue };
        let seen = seen.entry(conv).or_default();
        // A device whose own sends have no answer does not know all of them.
        let clear = row.pair.window == 0
            && ledger.pairs().beyond(row.device, row.peer).is_empty()
            && !case.survey.unknown_of.contains_key(&(row.device, row.peer));
        if !clear || row.pair.low < seen.top {
            continue;
        }
        if row.pair.low > seen.top {
            *seen = Seen { top: row.pair.low, digests: Vec::new() };
        }
        seen.digests.push(row.pair.digest());
    }
    let mut unclear = 0;
    for (conv, seen) in &seen {
        if seen.digests.is_empty() {
            unclear += 1;
            continue;
        }
        let Some(history) = case.record.facts.digests.get(conv) else {
            finding.violation(|| {
                case.violation(
                    format!("history has nothing of {conv}, devices saw {} messages", seen.top),
                    None,
                    None,
                )
            });
            continue;
        };
        finding.cases += 1;
        if !seen.digests.contains(&history.digest)
            || history.rows != u64::from(seen.top)
            || history.top != u64::from(seen.top)
        {
            finding.violation(|| {
                let what = format!(
                    "history of {conv} has {} rows up to cseq {} with another digest than the {} messages devices saw",
                    history.rows, history.top, seen.top
                );
                case.violation(what, None, None)
            });
        }
    }
    for (conv, history) in &case.record.facts.digests {
        if history.rows > 0 && !seen.contains_key(conv) && case.survey.unknown == 0 {
            finding.violation(|| {
                case.violation(
                    format!("history has {} rows of {conv}, no device saw any", history.rows),
                    None,
                    None,
                )
            });
        }
    }
    if unclear > 0 {
        finding
            .weak
            .push(format!("{unclear} conversations cannot be compared: unanswered sends or holes"));
    }
    finding.closed()
}

fn world_conv(case: &Case<'_>, device: u32, peer: u32) -> Option<ConvId> {
    if device >= case.world.people().devices() {
        return None;
    }
    World::conv(case.world.user_of(device), peer)
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};

    #[test]
    fn a_renumbered_row_in_history_is_convicted() {
        let mut kit = Kit::clean();
        let digest = kit.record.facts.digests.values_mut().next().unwrap();
        digest.digest ^= 1;
        judged(&kit).only_fails("M10");
    }

    #[test]
    fn a_missing_conversation_is_convicted() {
        let mut kit = Kit::clean();
        kit.record.facts.digests.pop_first();
        judged(&kit).only_fails("M10");
    }
}
