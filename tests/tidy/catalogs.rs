//! The shipped files: each parses, plans, names its schema, stands in its table, and together they use every fault.
use std::collections::BTreeSet;

use crate::{chatstorm, files, names, report, text};

const CATALOGS: [(&str, &str); 2] = [("scenarios", "scenario"), ("chaos", "experiment")];

/// Faults that only files of users name so far; the tests of `storm-faults` cover them. `drain` is one step of `rolling`.
const FOR_OWN_FILES: [&str; 2] = ["drain", "reset"];

fn shipped(layer: &str) -> Vec<(String, String)> {
    files(&format!("{layer}/catalog"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), text(&path)))
        .collect()
}

#[test]
fn shipped_files_name_their_schema_and_stand_in_their_table() {
    let mut complaints = Vec::new();
    for (layer, kind) in CATALOGS {
        let page = text(format!("{layer}/README.md"));
        for (name, text) in shipped(layer) {
            let wanted = format!("# yaml-language-server: $schema=../../docs/schema/{kind}.json");
            if text.lines().next() != Some(wanted.as_str()) {
                complaints.push(format!(
                    "{layer}/catalog/{name}.yaml: the first line must be `{wanted}`"
                ));
            }
            if !text.lines().any(|line| line == format!("name: {name}")) {
                complaints.push(format!(
                    "{layer}/catalog/{name}.yaml: write `name: {name}`, as the file is called"
                ));
            }
            if !page.contains(&format!("| `{name}` |")) {
                complaints.push(format!("{layer}/README.md: add a row for `{name}`"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn catalogs_hold_what_is_shipped_under_unique_names() {
    let mut all = BTreeSet::new();
    for (layer, kind) in CATALOGS {
        let on_disk: Vec<String> = shipped(layer).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names(&format!("{kind}s")),
            on_disk,
            "{layer}/catalog: the list in code and the folder differ"
        );
        for name in on_disk {
            assert!(
                all.insert(name.clone()),
                "`{name}` is both a scenario and an experiment: rename one"
            );
        }
    }
}

#[test]
fn shipped_files_plan_at_their_own_scale_and_for_ci() {
    let mut complaints = Vec::new();
    for name in [names("scenarios"), names("experiments")].concat() {
        for scale in [&[][..], &["--scale", "ci"]] {
            let (code, _, err) = chatstorm(&[&["plan", name.as_str()], scale].concat());
            if code != 0 {
                complaints
                    .push(format!("chatstorm plan {name} {}: exit {code}\n{err}", scale.join(" ")));
            }
        }
    }
    report(&complaints);
}

#[test]
fn every_fault_is_used_by_a_shipped_experiment_or_known_not_to_be() {
    let text: String = shipped("chaos").into_iter().map(|(_, text)| text).collect();
    let mut complaints = Vec::new();
    for fault in names("faults") {
        let used = text.contains(&format!("fault: {{{fault}:"));
        let listed = FOR_OWN_FILES.contains(&fault.as_str());
        if !used && !listed {
            complaints.push(format!("no shipped experiment uses `{fault}`: use it, or remove it"));
        }
        if used && listed {
            complaints.push(format!("a shipped experiment uses `{fault}`: take it off the list in tests/tidy/catalogs.rs"));
        }
    }
    report(&complaints);
}

#[test]
fn every_variant_names_a_shipped_experiment_and_an_invariant() {
    let (experiments, invariants) = (names("experiments"), names("invariants"));
    let mut complaints = Vec::new();
    for variant in crate::json(&["list", "variants"]).as_array().unwrap() {
        let (name, experiment) = (&variant["name"], variant["experiment"].as_str().unwrap());
        if !experiments.iter().any(|known| known == experiment) {
            complaints.push(format!("{name}: there is no experiment `{experiment}`"));
        }
        let invariant = variant["convicted_by"].as_str().unwrap();
        if !invariants.iter().any(|known| known == invariant) {
            complaints.push(format!("{name}: there is no invariant `{invariant}`"));
        }
    }
    report(&complaints);
}
