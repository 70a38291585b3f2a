//! What `explain` and `list` know: exit codes, reasons, invariants, metrics, faults, variants and the glossary.
pub mod faults;
pub mod glossary;

use serde::Serialize;
use storm_judge::invariant::{self, Class};
use storm_judge::verdict::Reason;
use storm_workload::metrics::{Metric, Unit};

use crate::exit::Exit;
use crate::variants::VARIANTS;

/// One meaning of a word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Meaning {
    /// The word as it is written everywhere.
    pub word: String,
    /// What kind of word it is.
    pub kind: &'static str,
    /// What it means.
    pub meaning: String,
    /// More, by label.
    pub more: Vec<(&'static str, String)>,
}

impl Meaning {
    fn new(kind: &'static str, word: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self { word: word.into(), kind, meaning: meaning.into(), more: Vec::new() }
    }

    fn with(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.more.push((label, text.into()));
        self
    }

    /// As lines for people.
    pub fn text(&self) -> String {
        let more: Vec<String> =
            self.more.iter().map(|(label, text)| format!("  {label}: {text}\n")).collect();
        format!("{} ({})\n  {}\n{}", self.word, self.kind, self.meaning, more.concat())
    }
}

/// Every meaning of every word.
pub fn all() -> Vec<Meaning> {
    let exits = Exit::ALL
        .iter()
        .map(|exit| Meaning::new("exit code", exit.code().to_string(), exit.meaning()));
    let reasons = Reason::ALL.iter().map(|reason| {
        Meaning::new("verdict reason", reason.name(), reason.about())
            .with("verdict", "Inconclusive, exit code 12 (13 when stopped)")
    });
    let invariants = invariant::ALL.iter().map(|invariant| {
        let (kind, counts, broken) = match invariant.class {
            Class::Safety => ("invariant", "whatever else happened", "Fail, exit code 11"),
            Class::Conduct => {
                ("invariant", "when the generator kept its schedule", "Fail, exit code 11")
            }
            Class::Validity => ("validity check", "always", "Inconclusive, exit code 12"),
        };
        let variants: Vec<&str> =
            VARIANTS.iter().filter(|v| v.convicted_by == invariant.id).map(|v| v.name).collect();
        let meaning = Meaning::new(kind, invariant.id, invariant.title)
            .with("demands", invariant.demands)
            .with("counts", counts)
            .with("broken", broken);
        if variants.is_empty() { meaning } else { meaning.with("convicts", variants.join(", ")) }
    });
    let metrics = Metric::ALL.iter().map(|metric| {
        let unit = match metric.unit() {
            Unit::Time => "time",
            Unit::Share => "share of 1",
            Unit::Count => "count",
            Unit::Index => "plain number",
        };
        Meaning::new("metric", metric.name(), metric.about()).with("unit", unit)
    });
    let faults = faults::FAULTS.iter().map(|fault| {
        Meaning::new("fault", fault.name, fault.does)
            .with("witness", fault.witness)
            .with("undo", fault.undo)
    });
    let variants = VARIANTS.iter().map(|variant| {
        Meaning::new("known-bad variant", variant.name, variant.does)
            .with("seen in", variant.seen_in)
            .with("experiment", variant.place())
            .with("convicted by", variant.convicted_by)
    });
    let terms = glossary::terms().into_iter().map(|term| {
        let meaning = Meaning::new("term", term.word, term.meaning);
        if term.not.is_empty() { meaning } else { meaning.with("not", term.not) }
    });
    exits
        .chain(reasons)
        .chain(invariants)
        .chain(metrics)
        .chain(faults)
        .chain(variants)
        .chain(terms)
        .collect()
}

/// The meanings of one word; upper and lower case are the same.
pub fn find(word: &str) -> Vec<Meaning> {
    all().into_iter().filter(|meaning| meaning.word.eq_ignore_ascii_case(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_convicted_by_a_known_invariant() {
        for variant in VARIANTS {
            assert!(
                invariant::find(variant.convicted_by).is_some(),
                "{} names no invariant: {}",
                variant.name,
                variant.convicted_by
            );
        }
    }

    #[test]
    fn every_fault_of_the_file_format_has_its_words() {
        let mut known: Vec<&str> = storm_faults::spec::FaultSpec::NAMES.to_vec();
        known.sort_unstable();
        assert_eq!(faults::FAULTS.iter().map(|word| word.name).collect::<Vec<_>>(), known);
    }

    #[test]
    fn words_of_every_kind_are_found() {
        for (word, kind) in [
            ("11", "exit code"),
            ("no-final-phase", "verdict reason"),
            ("m9", "invariant"),
            ("Z2", "validity check"),
            ("message.delivered", "metric"),
            ("black-hole", "fault"),
            ("sessions.no_lease", "known-bad variant"),
            ("fold", "term"),
        ] {
            assert!(find(word).iter().any(|meaning| meaning.kind == kind), "{word} as {kind}");
        }
        assert!(find("unheard-of").is_empty());
    }
}
