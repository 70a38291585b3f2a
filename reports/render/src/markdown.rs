//! `report.md`: for a comment on a change, under sixty lines.
use storm_judge::Report;
use storm_judge::finding::Outcome;

use crate::terminal::hypothesis;
use crate::{table, violation};

/// Rows of what broke and what is open, of each kind.
const ROWS_MAX: usize = 8;
/// Rows of faults.
const FAULTS_MAX: usize = 6;

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let identity = &report.identity;
    let name = identity.experiment.as_ref().unwrap_or(&identity.scenario);
    let arm = identity.arm.as_ref().map(|arm| format!(", arm {arm}")).unwrap_or_default();
    let mut lines = vec![
        format!("## {}: {name}{arm}", report.verdict.name()),
        String::new(),
        report.headline.clone(),
    ];
    if let (Some(sentence), Some(is)) = (&report.hypothesis, report.hypothesis_is) {
        lines.extend([String::new(), format!("Hypothesis **{}**: {sentence}", hypothesis(is))]);
    }
    lines.extend([
        String::new(),
        format!(
            "{}, seed {}, scale {}, plan `{}`, run `{}`, {}{}",
            identity.substrate,
            identity.seed,
            identity.scale,
            identity.plan_hash,
            identity.run,
            identity.host,
            if identity.variants.is_empty() {
                String::new()
            } else {
                format!(", **variants {}**", identity.variants.join(" "))
            }
        ),
        String::new(),
    ]);
    lines.extend(checks(report));
    if let Some(window) = table::headline_window(report) {
        lines.extend(grid(&table::latency(report, window)));
    }
    let [moved, broken] = table::ledger(&report.ledger);
    lines.extend([
        String::new(),
        format!("Ledger: {moved}"),
        format!("Broken: {broken}"),
        String::new(),
    ]);
    lines.extend(
        report.faults.iter().take(FAULTS_MAX).map(|fault| format!("- {}", table::fault(fault))),
    );
    if report.faults.len() > FAULTS_MAX {
        lines.push(format!(
            "- and {} faults more, in `report.json`",
            report.faults.len() - FAULTS_MAX
        ));
    }
    lines.extend(report.recovery.iter().map(|recovery| format!("- {}", table::recovery(recovery))));
    if !report.cpu.is_empty() {
        let head = ["threads", "cores", "us a send", "busiest"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head)
            .chain(report.cpu.iter().map(|group| table::cpu(group).to_vec()))
            .collect();
        lines.push(String::new());
        lines.extend(grid(&rows));
    }
    lines.extend(containers(report));
    lines.extend([String::new(), format!("`{}`", report.commands.repeat), String::new()]);
    lines.join("\n")
}

/// Cores and version of every container, and what the backends get at a time.
fn containers(report: &Report) -> Vec<String> {
    if report.identity.substrate != "containers" {
        return Vec::new();
    }
    let one = |(name, cores): (&str, f64)| {
        let version = report.identity.servers.get(name);
        let version = version.map(|version| format!(" ({version})")).unwrap_or_default();
        format!("{name}{version} {cores:.2}")
    };
    let parts: Vec<_> = table::containers(&report.cpu).into_iter().map(one).collect();
    let batches: Vec<_> = report.batches.iter().map(table::batch).collect();
    let said = [("Cores", parts), ("At a time", batches)];
    said.into_iter()
        .filter(|(_, words)| !words.is_empty())
        .flat_map(|(what, words)| [String::new(), format!("{what}: {}", words.join(", "))])
        .collect()
}

fn checks(report: &Report) -> Vec<String> {
    let pass = |outcome: Outcome| outcome == Outcome::Pass;
    let mut lines = vec![format!(
        "{} of {} checks hold, {} of {} gates are met, {} of {} guards hold.",
        report.findings.iter().filter(|finding| pass(finding.outcome)).count(),
        report.findings.len(),
        report.gates.iter().filter(|gate| pass(gate.outcome)).count(),
        report.gates.len(),
        report.guards.iter().filter(|guard| !guard.tripped).count(),
        report.guards.len(),
    )];
    let mut rows = Vec::new();
    for finding in table::with(report, Outcome::Fail) {
        rows.push(format!("- **broken** {}", table::finding(finding)));
        if let Some(first) = finding.evidence.first() {
            rows.extend(
                violation::lines(first, "")
                    .into_iter()
                    .take(2)
                    .map(|line| format!("  {}", line.trim())),
            );
        }
    }
    cut(&mut rows, &mut lines);
    rows.extend(
        table::with(report, Outcome::Inconclusive)
            .into_iter()
            .map(|f| format!("- open {}", table::finding(f))),
    );
    cut(&mut rows, &mut lines);
    let missed = report.gates.iter().filter(|gate| !pass(gate.outcome));
    rows.extend(missed.map(|gate| {
        format!(
            "- {} {}",
            if gate.outcome == Outcome::Fail { "**missed**" } else { "open" },
            table::gate(gate)
        )
    }));
    cut(&mut rows, &mut lines);
    let tripped = report.guards.iter().filter(|guard| guard.tripped);
    rows.extend(tripped.map(|guard| format!("- tripped {}: {}", guard.name, guard.shows)));
    cut(&mut rows, &mut lines);
    lines.push(String::new());
    lines
}

/// Moves rows to the page, the first ones only.
fn cut(rows: &mut Vec<String>, lines: &mut Vec<String>) {
    let left = rows.len().saturating_sub(ROWS_MAX);
    lines.extend(rows.drain(..).take(ROWS_MAX));
    if left > 0 {
        lines.push(format!("- and {left} lines more, in `report.json`"));
    }
}

fn grid(rows: &[Vec<String>]) -> Vec<String> {
    let line = |row: &Vec<String>| {
        format!("| {} |", row.iter().map(|cell| cell.trim()).collect::<Vec<_>>().join(" | "))
    };
    let Some((head, rows)) = rows.split_first() else { return Vec::new() };
    let rule = format!("|{}", "---|".repeat(head.len()));
    [line(head), rule].into_iter().chain(rows.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;

    #[test]
    fn page_stays_under_sixty_lines_whatever_broke() {
        let mut report = kit::failed();
        let (finding, gate, fault) =
            (report.findings[1].clone(), report.gates[1].clone(), report.faults[0].clone());
        report.findings.extend(std::iter::repeat_n(finding, 20));
        report.gates.extend(std::iter::repeat_n(gate, 20));
        report.faults.extend(std::iter::repeat_n(fault, 20));
        let page = markdown(&report);
        assert!(page.lines().count() < 60, "{} lines\n{page}", page.lines().count());
    }

    #[test]
    fn page_of_a_run_on_real_backends_names_them_with_their_versions() {
        let page = markdown(&kit::on_containers());
        assert!(
            page.contains("Cores: kafka-1 (4.1.0) 0.26, gateway-1 0.10, redis 0.06\n"),
            "{page}"
        );
        assert!(page.contains("At a time: kafka 2.6 records a batch (114 a second)\n"), "{page}");
    }

    #[test]
    fn page_of_a_broken_run() {
        insta::assert_snapshot!(markdown(&kit::failed()));
    }
}
