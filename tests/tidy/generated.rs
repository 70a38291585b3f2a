//! Files that the code writes: schemas, the command line's help, and the reference pages.
use std::fs;

use serde_json::Value;

use crate::{chatstorm, json, root};

const VERBS: [&str; 9] =
    ["run", "plan", "up", "report", "demo", "list", "explain", "schema", "doctor"];
const NOTE: &str = "<!-- Generated: `UPDATE_DOCS=1 cargo test --test tidy` writes it anew. -->";

fn compare(path: &str, fresh: &str) {
    let place = root().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, fresh).unwrap();
    }
    let stored = fs::read_to_string(&place).unwrap_or_default();
    assert!(
        stored == fresh,
        "{path} is stale: `UPDATE_DOCS=1 cargo test --test tidy` writes it anew"
    );
}

/// Cells of a table cannot hold its separator.
fn cell(value: &Value) -> String {
    value.as_str().unwrap().replace('|', "\\|")
}

fn table(title: &str, about: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let (head, line) = (head.join(" | "), "---|".repeat(head.len()));
    let rows: Vec<String> = rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
    format!("# {title}\n\n{NOTE}\n\n{about}\n\n| {head} |\n|{line}\n{}", rows.concat())
}

#[test]
fn schemas_are_fresh() {
    for of in ["scenario", "experiment", "report"] {
        let (code, out, err) = chatstorm(&["schema", of]);
        assert_eq!(code, 0, "{err}");
        compare(&format!("docs/schema/{of}.json"), &out);
    }
}

#[test]
fn help_is_fresh() {
    let (_, help, _) = chatstorm(&["--help"]);
    let section = |verb: &str| {
        let (code, help, err) = chatstorm(&[verb, "--help"]);
        assert_eq!(code, 0, "{err}");
        format!("\n## {verb}\n\n```\n{help}```\n")
    };
    let sections: Vec<String> = VERBS.into_iter().map(section).collect();
    compare(
        "docs/command-line.md",
        &format!("# Command line\n\n{NOTE}\n\n```\n{help}```\n{}", sections.concat()),
    );
}

#[test]
fn page_of_variants_is_fresh() {
    let rows: Vec<Vec<String>> = json(&["list", "variants"])
        .as_array()
        .unwrap()
        .iter()
        .map(|v| {
            let name = format!("`{}`", cell(&v["name"]));
            vec![
                name,
                cell(&v["does"]),
                cell(&v["seen_in"]),
                v["arm"].as_str().map_or_else(
                    || cell(&v["experiment"]),
                    |arm| format!("{} --arm {arm}", cell(&v["experiment"])),
                ),
                cell(&v["convicted_by"]),
            ]
        })
        .collect();
    let about = "Each plants one bug that was seen in the field, so that a checker can be seen failing: \
                 `chatstorm run EXPERIMENT --scale ci --set system.variants='[NAME]'` must end with exit code 11 and the named \
                 invariant broken. The table in code is `src/variants.rs`.";
    let head = ["Variant", "What it does wrong", "Seen in", "Experiment", "Convicted by"];
    compare("docs/variants.md", &table("Known-bad variants", about, &head, &rows));
}

#[test]
fn pages_of_words_are_fresh() {
    for (topic, title, about) in [
        (
            "faults",
            "Faults",
            "What an experiment file can make wrong; `chatstorm explain NAME` says what witnesses each.",
        ),
        (
            "invariants",
            "Invariants",
            "What may never break (exit code 11), and the validity checks Z1 to Z4 without which nothing counts (12).",
        ),
        ("metrics", "Metrics", "The series that a gate can name, with their unit."),
    ] {
        let rows: Vec<Vec<String>> = json(&["list", topic])
            .as_array()
            .unwrap()
            .iter()
            .map(|line| vec![format!("`{}`", cell(&line["name"])), cell(&line["about"])])
            .collect();
        compare(&format!("docs/{topic}.md"), &table(title, about, &["Name", "Meaning"], &rows));
    }
}

#[test]
fn exit_codes_of_the_readme_are_those_of_the_code() {
    let page = crate::text("README.md");
    for code in ["0", "1", "2", "3", "10", "11", "12", "13"] {
        assert!(page.contains(&format!("\n| {code} | ")), "README.md: add exit code {code}");
        let (exit, out, _) = chatstorm(&["explain", code]);
        assert_eq!(exit, 0);
        assert!(out.contains("exit code"), "{out}");
    }
}
