//! Runs that reach their end and do not pass: the exit code says which kind of promise was missed.
use serde_json::Value;

use crate::Desk;
use crate::stopped::alone;

/// Few of the shipped scenario's users, and a short steady phase.
const SMALL: [(&str, &str); 4] = [
    ("name: smoke", "name: small"),
    ("users: 500", "users: 60"),
    ("community: 250", "community: 60"),
    ("for: 15s", "for: 3s"),
];

fn broken(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    let fails = findings.iter().filter(|finding| finding["outcome"] == "fail");
    fails.map(|finding| finding["id"].as_str().unwrap()).collect()
}

#[test]
fn missed_gate_ends_with_10_and_breaks_no_promise() {
    let _one_system = alone();
    let desk = Desk::new();
    desk.scenario("slow.yaml", &[&SMALL[..], &[("max: 500ms", "min: 10s")]].concat());
    let ended = desk.chatstorm(&["run", "slow.yaml", "--out", "run"]);
    // While others fill the host no gate may be called missed: that is the other honest end.
    let (code, words) = if ended.out.contains("host-busy") {
        (12, "open delivered")
    } else {
        (10, "missed delivered")
    };
    assert_eq!(ended.code, code, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains(words), "{}", ended.out);
    assert_eq!(broken(&desk.report()), [""; 0]);
}

#[test]
fn broken_promise_ends_with_11_and_is_named() {
    let _one_system = alone();
    let desk = Desk::new();
    desk.scenario("small.yaml", &SMALL);
    let variant = ["--set", "system.variants=[messaging.random_mid]"];
    let ended = desk.chatstorm(&[&["run", "small.yaml", "--out", "run"], &variant[..]].concat());
    assert_eq!(ended.code, 11, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("M10 broken (with messaging.random_mid)"), "{}", ended.out);
    assert!(broken(&desk.report()).contains(&"M10"));
}
