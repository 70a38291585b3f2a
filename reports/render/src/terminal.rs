//! The report on a terminal: about twenty lines, and the slices of what broke.
use storm_judge::Report;
use storm_judge::finding::Outcome;
use storm_judge::report::Hypothesis;
use storm_judge::verdict::Verdict;

use crate::words::{Paint, columns};
use crate::{table, violation};

/// Violations drawn for each finding; the report files have ten.
const SLICES: usize = 3;

/// The report as text.
pub fn text(report: &Report, color: bool) -> String {
    let paint = Paint { on: color };
    let mut lines = head(report, paint);
    lines.extend(checks(report, paint));
    if let Some(window) = table::headline_window(report) {
        let rows = table::latency(report, window);
        if !rows.is_empty() {
            lines.push(format!(
                "latency in {window}: response from the intended start, service from the write"
            ));
            lines.extend(columns(&rows, "  "));
        }
    }
    let [moved, broken] = table::ledger(&report.ledger);
    lines.extend([format!("ledger    {moved}"), format!("          {broken}")]);
    lines.extend(report.faults.iter().map(|fault| format!("fault     {}", table::fault(fault))));
    lines.extend(
        report.recovery.iter().map(|recovery| format!("recovery  {}", table::recovery(recovery))),
    );
    lines.extend(cpu(report));
    lines.extend(containers(report));
    lines.extend(batches(report));
    lines.extend(report.damaged.iter().map(|part| format!("damaged   {part}")));
    lines.push(format!("again     {}", report.commands.again));
    lines.push(format!("repeat    {}", report.commands.repeat));
    lines.push(String::new());
    lines.join("\n")
}

fn head(report: &Report, paint: Paint) -> Vec<String> {
    let verdict = match report.verdict {
        Verdict::Pass => paint.good("PASS"),
        Verdict::Inconclusive => paint.unsure("INCONCLUSIVE"),
        Verdict::Fail => paint.bad("FAIL"),
    };
    let identity = &report.identity;
    let name = identity.experiment.as_ref().unwrap_or(&identity.scenario);
    let mut facts = vec![verdict, name.clone()];
    facts.extend(identity.arm.iter().map(|arm| format!("arm {arm}")));
    facts.push(identity.substrate.clone());
    facts.extend([
        format!("seed {}", identity.seed),
        format!("scale {}", identity.scale),
        format!("run {}", identity.run),
    ]);
    if !identity.variants.is_empty() {
        facts.push(format!("VARIANTS {}", identity.variants.join(" ")));
    }
    let mut lines = vec![facts.join("  "), format!("  {}", report.headline)];
    if !report.reasons.is_empty() {
        let reasons: Vec<&str> = report.reasons.iter().map(|reason| reason.name()).collect();
        lines.push(format!("  because: {}", reasons.join(", ")));
        lines.extend(report.reasons.iter().map(|reason| format!("  hint: {}", reason.cure())));
    }
    if let (Some(sentence), Some(is)) = (&report.hypothesis, report.hypothesis_is) {
        lines.push(format!("  hypothesis {}: {sentence}", hypothesis(is)));
    }
    lines
}

/// What became of a hypothesis, in words.
pub(crate) const fn hypothesis(is: Hypothesis) -> &'static str {
    match is {
        Hypothesis::Held => "held",
        Hypothesis::Deviated => "deviated",
        Hypothesis::NotEstablished => "not established",
    }
}

fn checks(report: &Report, paint: Paint) -> Vec<String> {
    let (pass, fail) = (table::with(report, Outcome::Pass), table::with(report, Outcome::Fail));
    let (unsure, aside) =
        (table::with(report, Outcome::Inconclusive), table::with(report, Outcome::NotApplicable));
    let mut line = format!("checks    {} of {} hold", pass.len(), report.findings.len());
    if !aside.is_empty() {
        line += &[", not applicable: ", &table::ids(&aside)].concat();
    }
    let weak: Vec<_> = pass.into_iter().filter(|finding| !finding.weak.is_empty()).collect();
    if !weak.is_empty() {
        line += &[", weakly tested: ", &table::ids(&weak)].concat();
    }
    let mut lines = vec![line];
    for finding in weak {
        lines.push(format!("  weak {}: {}", finding.id, finding.weak.join("; ")));
    }
    for finding in fail {
        lines.push(format!("  {} {}", paint.bad("broken"), table::finding(finding)));
        for violation in finding.evidence.iter().take(SLICES) {
            lines.extend(violation::lines(violation, "    "));
        }
        lines.extend(violation::rest(finding).map(|rest| format!("    {rest}")));
    }
    for finding in unsure {
        lines.push(format!("  {} {}", paint.unsure("open"), table::finding(finding)));
        lines.extend(finding.basis.first().map(|basis| format!("    {basis}")));
    }
    let met = report.gates.iter().filter(|gate| gate.outcome == Outcome::Pass).count();
    lines.push(format!("gates     {met} of {} met", report.gates.len()));
    for gate in report.gates.iter().filter(|gate| gate.outcome != Outcome::Pass) {
        let word = match gate.outcome {
            Outcome::Fail if gate.fails => paint.bad("missed"),
            Outcome::Fail => paint.unsure("missed, reported only"),
            _ => paint.unsure("open"),
        };
        lines.push(format!("  {word} {}", table::gate(gate)));
    }
    let tripped: Vec<_> = report.guards.iter().filter(|guard| guard.tripped).collect();
    lines.push(format!(
        "guards    {} of {} hold",
        report.guards.len() - tripped.len(),
        report.guards.len()
    ));
    lines.extend(
        tripped
            .iter()
            .map(|guard| format!("  {} {}: {}", paint.unsure("tripped"), guard.name, guard.shows)),
    );
    lines
}

fn cpu(report: &Report) -> Option<String> {
    let groups: Vec<String> = report
        .cpu
        .iter()
        .map(|group| {
            format!("{} {:.2} cores ({:.1} us a send)", group.group, group.cores, group.us_a_send)
        })
        .collect();
    (!groups.is_empty()).then(|| format!("cpu       {}", groups.join(", ")))
}

/// CPU of every container, the busiest first; nothing where everything is a thread.
fn containers(report: &Report) -> Option<String> {
    if report.identity.substrate != "containers" {
        return None;
    }
    let parts = table::containers(&report.cpu);
    let parts: Vec<_> = parts.iter().map(|(name, cores)| format!("{name} {cores:.2}")).collect();
    (!parts.is_empty()).then(|| format!("  cores of {}", parts.join(", ")))
}

fn batches(report: &Report) -> Option<String> {
    let rows: Vec<_> = report.batches.iter().map(table::batch).collect();
    (!rows.is_empty()).then(|| format!("batches   {}", rows.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;

    #[test]
    fn passing_run_fits_a_screen() {
        let text = text(&kit::passed(), false);
        assert!(text.lines().count() <= 24, "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn run_on_real_backends_shows_every_container_and_what_it_gets_at_a_time() {
        let text = text(&kit::on_containers(), false);
        assert!(text.contains("  cores of kafka-1 0.26, gateway-1 0.10, redis 0.06\n"), "{text}");
        assert!(text.contains("batches   kafka 2.6 records a batch (114 a second)\n"), "{text}");
    }

    #[test]
    fn broken_invariant_is_drawn_with_its_slices() {
        insta::assert_snapshot!(text(&kit::failed(), false));
    }

    #[test]
    fn colour_changes_no_word() {
        let plain = text(&kit::failed(), false);
        let mut coloured = text(&kit::failed(), true);
        for code in ["\u{1b}[1;32m", "\u{1b}[1;31m", "\u{1b}[1;33m", "\u{1b}[0m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(plain, coloured);
    }
}
