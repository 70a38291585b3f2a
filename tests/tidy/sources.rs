//! Rules of single files: module docs, words, leftovers, sockets, sizes.
use std::fs;
use std::path::{Path, PathBuf};

use crate::{files, report, root, text};

/// No file is larger: large files belong into releases, not into history.
const BYTES_MAX: u64 = 256 * 1024;

/// Words that the glossary replaces: (word in two halves, what to write). Halves, so that this file does not hold the word.
const WORDS: [([&str; 2], &str); 5] = [
    (["zom", "bie"], "stale route"),
    (["fake ", "user"], "user or device"),
    (["chaos ", "monkey"], "fault"),
    (["chaos ", "test"], "experiment"),
    (["thundering ", "herd"], "reconnect storm"),
];
/// An abbreviation that is only banned in capitals.
const RATE: [&str; 2] = ["R", "PS"];
/// What is left over from work: (mark in two halves, what to do).
const LEFTOVERS: [([&str; 2], &str); 6] = [
    (["FIX", "ME"], "fix it, or open an issue"),
    (["TO", "DO"], "do it, or open an issue"),
    (["db", "g!("], "remove it"),
    (["to", "do!("], "build it, or leave it out"),
    (["unimple", "mented!("], "build it, or leave it out"),
    (["#[ig", "nore"], "a test runs or is removed"),
];
/// Folders of one machine have no place in a repository.
const MACHINE: [[&str; 2]; 3] = [["/ro", "ot/"], ["/ho", "me/"], ["/wo", "rk/"]];

fn with_extension(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let wanted = |path: &Path| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
    files(folder).into_iter().filter(|path| wanted(path)).collect()
}

fn written() -> Vec<PathBuf> {
    let mut all = with_extension("", &["rs", "md", "yaml", "toml", "proto", "py", "json", "snap"]);
    all.extend([PathBuf::from(".ci/run"), PathBuf::from(".ci/nightly")]);
    all
}

#[test]
fn every_module_opens_with_what_it_is() {
    let complaints: Vec<String> = with_extension("", &["rs"])
        .into_iter()
        // A module called `tests` has said what it is.
        .filter(|path| !path.ends_with("tests.rs"))
        .filter(|path| {
            let text = text(path);
            let first =
                text.lines().find(|line| !line.starts_with("#!") && !line.trim().is_empty());
            !first.is_some_and(|line| line.starts_with("//!"))
        })
        .map(|path| {
            format!("{}: begin with a `//!` line that says what the module is", path.display())
        })
        .collect();
    report(&complaints);
}

#[test]
fn words_are_those_of_the_glossary() {
    let mut complaints = Vec::new();
    for path in written() {
        for (number, line) in text(&path).lines().enumerate() {
            let at = format!("{}:{}", path.display(), number + 1);
            let lower = line.to_lowercase();
            for (word, instead) in WORDS {
                if lower.contains(&word.concat()) {
                    complaints.push(format!("{at}: `{}` is written {instead} here", word.concat()));
                }
            }
            let rate = RATE.concat();
            let is_word = |piece: &str| piece == rate;
            if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(is_word) {
                complaints
                    .push(format!("{at}: `{rate}` is written arrival rate, or messages a second"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn nothing_is_left_over() {
    let mut complaints = Vec::new();
    for path in with_extension("", &["rs", "toml", "yaml", "proto", "py"]) {
        for (number, line) in text(&path).lines().enumerate() {
            for (mark, cure) in LEFTOVERS {
                if line.contains(&mark.concat()) {
                    complaints.push(format!(
                        "{}:{}: `{}`: {cure}",
                        path.display(),
                        number + 1,
                        mark.concat()
                    ));
                }
            }
        }
    }
    report(&complaints);
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let mut complaints = Vec::new();
    for path in written() {
        for (number, line) in text(&path).lines().enumerate() {
            if MACHINE.iter().any(|folder| line.contains(&folder.concat())) {
                complaints.push(format!(
                    "{}:{}: write paths from the root of the repository",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    report(&complaints);
}

#[test]
fn services_open_sockets_through_their_port_only() {
    let mut complaints = Vec::new();
    for folder in ["gateway", "sessions", "messaging", "relay", "history"] {
        for path in with_extension(&format!("system/{folder}/src"), &["rs"]) {
            // Tests play the other side of a socket, so they open their own.
            let is_test = path.components().any(|part| part.as_os_str() == "tests")
                || path.ends_with("tests.rs");
            let text = text(&path);
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            if !is_test && (code.contains("tokio::net") || code.contains("std::net::Tcp")) {
                complaints.push(format!(
                    "{}: open and accept sockets through `chat_ports::net`",
                    path.display()
                ));
            }
        }
    }
    report(&complaints);
}

#[test]
fn judge_reads_no_file_and_no_socket() {
    let complaints: Vec<String> = with_extension("reports/judge/src", &["rs"])
        .into_iter()
        .filter(|path| {
            ["std::fs", "std::net", "tokio::", "std::env"]
                .iter()
                .any(|module| text(path).contains(module))
        })
        .map(|path| {
            format!(
                "{}: the judge does no I/O; storm-record's store reads the folder",
                path.display()
            )
        })
        .collect();
    report(&complaints);
}

#[test]
fn no_file_is_a_blob() {
    let complaints: Vec<String> = files("")
        .into_iter()
        .filter(|path| fs::metadata(root().join(path)).unwrap().len() > BYTES_MAX)
        .map(|path| format!("{}: above {} KiB", path.display(), BYTES_MAX / 1024))
        .collect();
    report(&complaints);
}

#[test]
fn main_stays_a_door() {
    assert!(
        text("src/main.rs").lines().count() < 30,
        "src/main.rs: move what it does into the library"
    );
}
