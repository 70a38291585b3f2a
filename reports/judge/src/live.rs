//! Counts that convict while a run lasts: what the ledger of every shard knows at once, without a look at the plan.
use storm_record::ledger::counts::LedgerCounts;

/// Invariants that are broken by these counts, in report order, with the number of violations. Loss, holes and history are
/// known at the end only, and so is whether the relay brings what was fetched from history.
pub fn broken(counts: &LedgerCounts) -> Vec<(&'static str, u64)> {
    let all = [
        ("M2", counts.phantom + counts.corrupt + counts.stranger),
        ("M3", counts.refused_surfaced),
        ("M4", counts.duplicate + counts.answer_changed),
        ("M5", counts.disorder),
        ("M6", counts.disagreement),
        ("M7", counts.overtaken),
        ("M9", counts.dseq_hole),
        ("S1", counts.old_epoch),
        ("A3", counts.refused_bare),
    ];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_ledger_breaks_nothing_and_a_duplicate_breaks_m4() {
        assert!(broken(&LedgerCounts::default()).is_empty());
        assert_eq!(broken(&LedgerCounts { duplicate: 2, ..LedgerCounts::default() }), [("M4", 2)]);
    }
}
