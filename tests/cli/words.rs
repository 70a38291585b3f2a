//! What can be asked for without a run: plans, lists, explanations, schemas.
use serde_json::Value;

use crate::Desk;

fn json(arguments: &[&str]) -> Value {
    let ended = Desk::new().chatstorm(&[arguments, &["--format", "json"]].concat());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    serde_json::from_str(&ended.out).unwrap()
}

#[test]
fn plan_says_what_would_be_done_and_starts_nothing() {
    let desk = Desk::new();
    let ended = desk.chatstorm(&["plan", "gateway-kill", "--scale", "ci"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    for word in [
        "gateway-1 gateway-2 gateway-3",
        "hypothesis",
        "kill-one",
        "witness:",
        "undo:",
        "recovery",
        "estimates",
    ] {
        assert!(ended.out.contains(word), "`{word}` is not in:\n{}", ended.out);
    }
    assert!(desk.holds().is_empty(), "a plan leaves nothing behind: {:?}", desk.holds());
}

#[test]
fn plan_of_a_system_in_containers_says_what_they_will_take() {
    let plan = |experiment, more: &[&str]| {
        json(&[&["plan", experiment, "--scale", "ci"], more].concat())["containers"].clone()
    };
    let containers = ["--substrate", "containers"];
    assert!(plan("gateway-kill", &[]).is_null(), "nothing is one");
    let names = |planned: &Value| -> Vec<String> {
        let kinds = planned["containers"].as_array().unwrap();
        kinds.iter().map(|kind| format!("{} {}", kind["name"], kind["count"])).collect()
    };
    let killed = plan("gateway-kill", &containers);
    assert!(names(&killed).contains(&"\"gateway\" 3".to_owned()), "{killed}");
    assert!(names(&plan("redis-slow", &containers)).contains(&"\"toxiproxy\" 1".to_owned()));
    assert!(!names(&killed).contains(&"\"toxiproxy\" 1".to_owned()), "nothing is conditioned");
    let rate = |rate| plan("gateway-kill", &[containers[0], containers[1], "--set", rate]);
    let (low, high) = (rate("streams.chat.rate=100/s"), rate("streams.chat.rate=2k/s"));
    assert!(low["backends_milli"].as_u64() < high["backends_milli"].as_u64(), "{low} {high}");
    let text = Desk::new().chatstorm(&[&["plan", "gateway-kill"], &containers[..]].concat()).out;
    assert!(text.contains("  memory  ") && text.contains("beyond what was measured"), "{text}");
}

#[test]
fn plan_of_another_seed_is_another_plan_and_the_same_seed_the_same() {
    let hash = |seed| json(&["plan", "smoke", "--seed", seed])["hash"].clone();
    assert_eq!(hash("5"), hash("5"));
    assert_ne!(hash("5"), hash("6"));
}

#[test]
fn list_names_every_topic() {
    let ended = Desk::new().chatstorm(&["list"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    for word in [
        "Scenarios:",
        "messenger-18k",
        "Experiments:",
        "gateway-kill",
        "Faults:",
        "Invariants:",
        "M1 ",
        "Metrics:",
        "Variants:",
    ] {
        assert!(ended.out.contains(word), "`{word}` is not in:\n{}", ended.out);
    }
    let all = json(&["list"]);
    let topics: Vec<&String> = all.as_object().unwrap().keys().collect();
    assert_eq!(topics, ["experiments", "faults", "invariants", "metrics", "scenarios", "variants"]);
}

#[test]
fn list_of_runs_is_empty_where_nothing_ran() {
    assert_eq!(json(&["list", "runs"]), Value::Array(Vec::new()));
}

#[test]
fn explain_knows_codes_invariants_and_variants_and_suggests_the_nearest_word() {
    let desk = Desk::new();
    for (word, kind) in [
        ("11", "exit code"),
        ("m9", "invariant"),
        ("sessions.no_lease", "known-bad variant"),
        ("fold", "term"),
    ] {
        let ended = desk.chatstorm(&["explain", word]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(ended.out.contains(kind), "{word} is no {kind}:\n{}", ended.out);
    }
    desk.chatstorm(&["explain", "slow-lnk"])
        .says(2, &["`slow-lnk` is not a word", "did you mean `slow-link`?"]);
}

#[test]
fn schemas_are_json_schemas() {
    let desk = Desk::new();
    for of in ["scenario", "experiment", "report"] {
        let ended = desk.chatstorm(&["schema", of]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let schema: Value = serde_json::from_str(&ended.out).unwrap();
        assert!(
            schema["$schema"].is_string() && schema["properties"].is_object(),
            "{of}: {}",
            ended.out
        );
    }
    desk.chatstorm(&["schema", "run"]).says(2, &["invalid value 'run'", "scenario"]);
}

#[test]
fn help_and_version_are_data() {
    let desk = Desk::new();
    let ended = desk.chatstorm(&["--version"]);
    assert_eq!(
        (ended.code, ended.out.trim()),
        (0, concat!("chatstorm ", env!("CARGO_PKG_VERSION")))
    );
    assert!(desk.chatstorm(&["--help"]).out.contains("Exit codes:"));
}
