use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::units::{Rate, Time};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    name: String,
    rate: Rate,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    shares: BTreeMap<u8, u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    id: String,
    act: Act,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    Wait(Wait),
    Stop,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    #[serde(rename = "for")]
    for_: Time,
}

fn errors(text: &str) -> Vec<(usize, String)> {
    let errors = parse::<Model>(&SourceText::new("model.yaml", text)).unwrap_err().errors;
    errors
        .into_iter()
        .map(|e| (e.line, format!("{} / {}", e.message, e.help.unwrap_or_default())))
        .collect()
}

#[test]
fn a_good_file_is_read() {
    let text = "name: a\nrate: 18k/s\nsteps:\n  - {id: one, act: {wait: {for: 3s}}}\n  - {id: two, act: stop}\nshares: {1: 5}\n";
    let model: Model = parse(&SourceText::new("model.yaml", text)).unwrap();
    assert_eq!((model.name.as_str(), model.rate), ("a", Rate::per_second(18_000)));
    assert!(matches!(&model.steps[0].act, Act::Wait(w) if w.for_ == Time::seconds(3)));
    assert!(matches!(&model.steps[1].act, Act::Stop));
    assert_eq!((model.steps[1].id.as_str(), model.shares[&1]), ("two", 5));
}

#[test]
fn every_error_of_a_file_is_found_in_one_pass() {
    let text = "nmae: a\nrate: 18k\nrate: 5/s\nsteps:\n  - {id: one, act: {wait: {for: 3}}}\n  - {act: {wiat: {}}}\n  - {id: three, act: {wait: {for: 3s, fro: 1s}}}\nshares: {x: 5, 1: 2, 1: 3}\n";
    let found = errors(text);
    let has = |line: usize, part: &str| {
        assert!(
            found.iter().any(|(l, m)| *l == line && m.contains(part)),
            "{line} {part}: {found:#?}"
        );
    };
    has(1, "unknown key `nmae` / did you mean `name`?");
    has(1, "missing key `name`");
    has(2, "`18k` is not a rate");
    has(3, "duplicate key `rate`");
    has(5, "`3` has no unit");
    has(6, "unknown value `wiat` / did you mean `wait`?");
    has(6, "missing key `id`");
    has(7, "unknown key `fro`");
    has(8, "found key `x`");
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn a_number_given_twice_as_a_key_is_a_duplicate() {
    let found = errors("name: a\nrate: 1/s\nshares: {1: 2, 1: 3}\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].0 == 3 && found[0].1.contains("duplicate"), "{found:#?}");
}

#[test]
fn a_syntax_error_has_its_line() {
    let found = errors("name: a\nrate: [1, 2\nsteps: {\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].0 >= 2, "{found:#?}");
}

#[test]
fn errors_are_drawn_with_file_line_and_caret() {
    let text = "name: a\nraet: 18k/s\n";
    let drawn = parse::<Model>(&SourceText::new("model.yaml", text)).unwrap_err().render(false);
    assert!(drawn.contains("model.yaml:2:1"), "{drawn}");
    assert!(drawn.contains("did you mean `rate`?"), "{drawn}");
}

#[test]
fn leaves_are_overridden_by_path_and_keep_their_own_position() {
    let base = SourceText::new(
        "model.yaml",
        "name: a\nrate: 1/s\nsteps: [{id: one, act: {wait: {for: 3s}}}]\n",
    );
    let mut doc = Document::read(&base).unwrap();
    doc.set_argument("steps.one.act.wait.for=5s").unwrap();
    doc.set_argument("shares.2=7").unwrap();
    let model: Model = doc.decode().unwrap();
    assert!(matches!(&model.steps[0].act, Act::Wait(w) if w.for_ == Time::seconds(5)));
    assert_eq!(model.shares[&2], 7);
    doc.set_argument("rate=fast").unwrap();
    let errors = doc.decode::<Model>().unwrap_err().errors;
    assert_eq!((errors[0].file.as_str(), errors[0].column), ("--set", 6));
    assert!(doc.set_argument("name.below=1").is_err());
    assert!(doc.set_argument("steps.nine.act=stop").is_err());
    assert!(doc.set_argument("rate").is_err());
}

#[test]
fn maps_merge_and_lists_are_replaced() {
    let parent = Document::read(&SourceText::new(
        "p",
        "name: p\nrate: 1/s\nshares: {1: 1, 2: 2}\nsteps: [{id: a, act: stop}]\n",
    ))
    .unwrap();
    let child =
        Document::read(&SourceText::new("c", "name: c\nshares: {2: 5}\nsteps: []\n")).unwrap();
    let model: Model = child.over(parent).decode().unwrap();
    assert_eq!((model.name.as_str(), model.rate), ("c", Rate::per_second(1)));
    assert_eq!(model.shares, BTreeMap::from([(1, 1), (2, 5)]));
    assert!(model.steps.is_empty());
}
