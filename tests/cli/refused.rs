//! What is refused before anything starts: 2 for what was typed or written, 3 for what this machine lacks.
use std::net::TcpListener;
use std::process::Command;

use crate::{Desk, Ended};

/// First gateway of the default system.
const GATEWAY: u16 = chat_testbed::BASE_PORT + 101;

#[test]
fn unknown_key_is_shown_at_its_line_with_the_nearest_key() {
    let desk = Desk::new();
    desk.scenario("mine.yaml", &[("name: smoke", "name: mine"), ("{gateways: 2", "{gatewys: 2")]);
    desk.chatstorm(&["plan", "mine.yaml"])
        .says(2, &["unknown key `gatewys`", "[mine.yaml:10:10]", "╰── here", "`gateways`"]);
}

#[test]
fn all_errors_of_a_file_come_at_once() {
    let desk = Desk::new();
    desk.scenario(
        "mine.yaml",
        &[
            ("name: smoke", "name: mine"),
            ("rate: 300/s", "rate: 300"),
            ("seed: 7", "seed: 7\nseed: 8"),
            ("users: 500", "usrs: 500"),
        ],
    );
    desk.chatstorm(&["plan", "mine.yaml"])
        .says(2, &["duplicate key `seed`", "unknown key `usrs`", "300"]);
}

#[test]
fn gate_that_nothing_can_meet_is_refused() {
    let desk = Desk::new();
    let changes = [
        ("name: smoke", "name: mine"),
        ("max: 500ms", "max: 1us"),
        ("min: 0.999, over: steady", "min: 1.5, over: stedy"),
    ];
    desk.scenario("mine.yaml", &changes);
    desk.chatstorm(&["plan", "mine.yaml"])
        .says(2, &["under the floor", "a share is at most 1", "`stedy`", "`steady`"]);
}

#[test]
fn selection_of_nobody_is_refused() {
    let desk = Desk::new();
    let set = ["--set", "method.kill-one.fault.kill.node={name: gateway-9}"];
    desk.chatstorm(&[&["plan", "gateway-kill"], &set[..]].concat())
        .says(2, &["gateway-9", "╰── here"]);
}

#[test]
fn file_that_is_not_there_is_named() {
    Desk::new().chatstorm(&["run", "mine.yaml"]).says(2, &["`mine.yaml` cannot be read"]);
}

#[test]
fn two_files_of_one_name_are_refused() {
    let desk = Desk::new();
    desk.scenario("mine.yaml", &[("users: 500", "users: 400")]);
    desk.chatstorm(&["plan", "mine.yaml"])
        .says(2, &["another scenario of this name", "[mine.yaml:3:7]", "rename one"]);
}

#[test]
fn verb_that_nobody_knows_is_a_usage_error() {
    Desk::new().chatstorm(&["rnu", "smoke"]).says(2, &["unrecognized subcommand 'rnu'", "--help"]);
    Desk::new().chatstorm(&[]).says(2, &["Usage: chatstorm"]);
}

#[test]
fn report_needs_a_run() {
    let desk = Desk::new();
    desk.chatstorm(&["report", "latest"])
        .says(2, &["there is no run `latest`", "chatstorm run smoke"]);
    std::fs::create_dir(desk.path().join("empty")).unwrap();
    desk.chatstorm(&["report", "empty"]).says(2, &["`empty` holds no record", "manifest.json"]);
}

#[test]
fn taken_port_ends_a_run_before_it_begins_and_does_not_keep_a_plan_from_being_shown() {
    let _one_system = crate::stopped::alone();
    let desk = Desk::new();
    // Where somebody else has the port already, it is taken all the same.
    let _taken = TcpListener::bind(("127.0.0.1", GATEWAY));
    desk.chatstorm(&["run", "smoke", "--quiet"])
        .says(3, &[&format!("port {GATEWAY} is taken"), "hint: "]);
    desk.chatstorm(&["up"]).says(3, &[&format!("port {GATEWAY} is taken"), "hint: "]);
    assert_eq!(desk.chatstorm(&["plan", "smoke"]).code, 0);
}

#[test]
fn too_few_descriptors_are_refused_with_the_cure() {
    let desk = Desk::new();
    let script = format!(
        "ulimit -n 256 && exec '{}' run messenger-18k --quiet",
        env!("CARGO_BIN_EXE_chatstorm")
    );
    let ended: Ended =
        Command::new("sh").args(["-c", &script]).current_dir(desk.path()).output().unwrap().into();
    ended.says(3, &["descriptors", "ulimit -Hn", "--scale"]);
    assert!(desk.holds().is_empty(), "a refused run leaves nothing: {:?}", desk.holds());
}
