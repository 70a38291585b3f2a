//! A broken promise as a slice: number, sender, recipient, route, node, fault active, every observation.
use storm_judge::finding::{Finding, Violation};

/// The lines of one violation.
pub fn lines(violation: &Violation, indent: &str) -> Vec<String> {
    let mut head = Vec::new();
    let facts = [
        ("number", &violation.number),
        ("sender", &violation.sender),
        ("recipient", &violation.recipient),
        ("route", &violation.route),
        ("window", &violation.window),
    ];
    if let Some(at_ms) = violation.at_ms {
        head.push(format!("at {}.{:03} s", at_ms / 1_000, at_ms % 1_000));
    }
    head.extend(
        facts
            .iter()
            .filter_map(|(label, fact)| fact.as_ref().map(|fact| format!("{label} {fact}"))),
    );
    if !violation.faults.is_empty() {
        head.push(format!("fault {}", violation.faults.join(", ")));
    }
    let mut lines = vec![format!("{indent}{}", violation.what)];
    if !head.is_empty() {
        lines.push(format!("{indent}  {}", head.join("  ")));
    }
    lines.extend(violation.observed.iter().map(|seen| format!("{indent}  seen: {seen}")));
    lines
}

/// How many of a finding's violations are shown, in words; nothing when all are.
pub fn rest(finding: &Finding) -> Option<String> {
    let shown = u64::try_from(finding.evidence.len()).unwrap_or(u64::MAX);
    (shown < finding.violations)
        .then(|| format!("{} of {} violations; all are in the record", shown, finding.violations))
}
