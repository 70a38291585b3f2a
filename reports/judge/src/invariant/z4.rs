//! Z4: one monotonic clock.
use crate::case::Case;
use crate::finding::Finding;
use crate::verdict::Reason;

pub(super) fn check(case: &Case<'_>, finding: Finding) -> Finding {
    let negative: u64 = case.record.slices.iter().map(|slice| slice.counts.clock_negative).sum();
    let mut finding = finding.cases(1).basis(format!("{negative} negative time differences"));
    if negative > 0 {
        finding.unless_convicted(Reason::ClockUnbounded);
    }
    finding
}

#[cfg(test)]
mod tests {
    use crate::kit::{Kit, judged};
    use crate::verdict::Reason;

    #[test]
    fn one_negative_difference_is_too_many() {
        let mut kit = Kit::clean();
        kit.record.slices[3].counts.clock_negative = 1;
        judged(&kit).is_unsettled_by("Z4", Reason::ClockUnbounded);
    }
}
