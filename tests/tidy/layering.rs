//! Layers, names and who may depend on whom, from `cargo metadata`.
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{report, root};

/// Roles of the system: they know protocol and ports, never each other.
const SERVICES: [&str; 5] =
    ["chat-gateway", "chat-sessions", "chat-messaging", "chat-relay", "chat-history"];
/// What the harness may know of the system.
const DOORS: [&str; 3] = ["chat-client", "chat-control", "chat-protocol"];
/// (dependency, who may have it, why)
const OWNERS: [(&str, &[&str], &str); 12] = [
    ("chat-testbed", &["chatstorm"], "only the root package starts a testbed"),
    ("chat-embedded", &["chat-testbed"], "only the testbed names backends"),
    ("chacha20poly1305", &["chat-client"], "servers never see plaintext"),
    ("fjall", &["chat-embedded"], "services know ports, never backends"),
    ("object_store", &["chat-embedded", "chat-external"], "services know ports, never backends"),
    ("chat-external", &["chat-testbed"], "only the testbed names backends"),
    ("rdkafka", &["chat-external"], "services know ports, never backends"),
    ("redis", &["chat-external"], "services know ports, never backends"),
    ("scylla", &["chat-external"], "services know ports, never backends"),
    ("bollard", &["chat-testbed"], "only the testbed starts containers"),
    ("testcontainers", &["chat-testbed"], "only the testbed starts containers"),
    ("toxiproxy_rust", &["chat-testbed"], "only the testbed conditions links to containers"),
];
/// Crates that need a system library, a C++ compiler or a build tool beside `cc`.
const NOT_IN_THE_GRAPH: [&str; 12] = [
    "bindgen",
    "cmake",
    "libz-sys",
    "librocksdb-sys",
    "libsqlite3-sys",
    "native-tls",
    "openssl-sys",
    "pkg-config",
    "protobuf-src",
    "rdkafka-sys",
    "ring",
    "vcpkg",
];

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version", "1"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A member of the workspace.
struct Member {
    name: String,
    folder: String,
    /// (name, whether only tests need it)
    dependencies: Vec<(String, bool)>,
}

fn members() -> Vec<Member> {
    let metadata = metadata(&["--no-deps"]);
    let member = |package: &Value| {
        let folder = package["manifest_path"].as_str().unwrap();
        let folder =
            folder.strip_prefix(root().to_str().unwrap()).unwrap().trim_end_matches("Cargo.toml");
        Member {
            name: package["name"].as_str().unwrap().to_owned(),
            folder: folder.trim_matches('/').to_owned(),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| {
                    (d["name"].as_str().unwrap().to_owned(), d["kind"].as_str() == Some("dev"))
                })
                .collect(),
        }
    };
    metadata["packages"].as_array().unwrap().iter().map(member).collect()
}

#[test]
fn folder_and_crate_have_one_name() {
    let mut complaints = Vec::new();
    for member in members().iter().filter(|member| member.name != "chatstorm") {
        let wanted = match member.folder.split('/').collect::<Vec<_>>()[..] {
            ["system", name] => format!("chat-{name}"),
            ["scenarios" | "chaos" | "reports", name] => format!("storm-{name}"),
            _ => "a folder of exactly two levels, layer / crate".to_owned(),
        };
        if wanted != member.name {
            complaints.push(format!(
                "`{}` holds crate `{}`: it must be {wanted}",
                member.folder, member.name
            ));
        }
    }
    report(&complaints);
}

#[test]
fn layers_know_only_what_they_may() {
    let mut complaints = Vec::new();
    for member in members() {
        for (dependency, dev) in &member.dependencies {
            let edge = format!("`{} → {dependency}`", member.name);
            let (chat, storm) =
                (member.name.starts_with("chat-"), member.name.starts_with("storm-"));
            if chat && (dependency.starts_with("storm-") || dependency == "chatstorm") {
                complaints.push(format!("{edge}: the system must not know the harness"));
            }
            if storm && dependency.starts_with("chat-") && !DOORS.contains(&dependency.as_str()) {
                complaints
                    .push(format!("{edge}: the harness enters through {} only", DOORS.join(", ")));
            }
            let below = ["chat-protocol", "chat-ports"].contains(&dependency.as_str());
            if SERVICES.contains(&member.name.as_str())
                && !dev
                && dependency.starts_with("chat-")
                && !below
            {
                complaints.push(format!("{edge}: services know chat-protocol and chat-ports only"));
            }
            // A backend may describe itself in the words of the operator's panel.
            if member.name == "chat-embedded"
                && dependency.starts_with("chat-")
                && !below
                && dependency != "chat-control"
            {
                complaints.push(format!(
                    "{edge}: a backend knows chat-protocol, chat-ports and chat-control only"
                ));
            }
            if member.name == "chat-client"
                && dependency.starts_with("chat-")
                && dependency != "chat-protocol"
            {
                complaints.push(format!("{edge}: the client knows the protocol only"));
            }
            if member.name == "storm-judge"
                && ["tokio", "hyper", "axum"].contains(&dependency.as_str())
            {
                complaints.push(format!("{edge}: the judge does no I/O"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn guarded_crates_have_only_their_owners() {
    let mut complaints = Vec::new();
    for member in members() {
        for (crate_name, owners, why) in OWNERS {
            let has = member.dependencies.iter().any(|(name, dev)| name == crate_name && !dev);
            if has && !owners.contains(&member.name.as_str()) {
                complaints.push(format!("`{} → {crate_name}`: {why}", member.name));
            }
        }
    }
    report(&complaints);
}

#[test]
fn default_build_needs_no_more_than_a_c_compiler() {
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let mut left: Vec<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev")) {
                left.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    let found: Vec<String> = seen
        .into_iter()
        .map(|id| names[id])
        .filter(|name| NOT_IN_THE_GRAPH.contains(name))
        .map(|name| format!("`{name}` is in the default graph: it needs more than a C compiler; `cargo tree -i {name}` shows who brings it"))
        .collect();
    report(&found);
}
