//! Pages for people: every layer has its README, the changelog its shape, links lead somewhere.
use crate::{files, report, root, text};

#[test]
fn every_crate_stands_in_the_table_of_its_layer() {
    let mut complaints = Vec::new();
    for layer in ["system", "scenarios", "chaos", "reports"] {
        let page = text(format!("{layer}/README.md"));
        for path in files(layer).iter().filter(|path| path.ends_with("Cargo.toml")) {
            let folder = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            if !page.contains(&format!("`{folder}`")) {
                complaints.push(format!("{layer}/README.md: name the crate folder `{folder}`"));
            }
            if !text("ARCHITECTURE.md").contains(&format!("`{layer}/{folder}`")) {
                complaints
                    .push(format!("ARCHITECTURE.md: name `{layer}/{folder}` in the code map"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn changelog_begins_each_release_with_what_changes_a_verdict() {
    let page = text("CHANGELOG.md");
    assert!(page.starts_with("# Changelog\n"), "CHANGELOG.md: begin with `# Changelog`");
    let releases: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert!(!releases.is_empty(), "CHANGELOG.md: add `## Unreleased`");
    let known =
        ["Changes a verdict", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    let mut complaints = Vec::new();
    for release in releases {
        let title = release.lines().next().unwrap_or("");
        let headings: Vec<&str> =
            release.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        if headings.first() != Some(&"Changes a verdict") {
            complaints.push(format!("CHANGELOG.md, {title}: begin with `### Changes a verdict`"));
        }
        let unknown = headings.iter().filter(|heading| !known.contains(heading));
        complaints.extend(unknown.map(|heading| {
            format!("CHANGELOG.md, {title}: `{heading}` is none of {}", known.join(", "))
        }));
    }
    report(&complaints);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut complaints = Vec::new();
    for page in files("").iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let folder = root().join(page.parent().unwrap());
        for piece in text(page).split("](").skip(1) {
            let target = piece.split([')', '#', ' ']).next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                complaints.push(format!("{}: `{target}` does not exist", page.display()));
            }
        }
    }
    report(&complaints);
}

#[test]
fn gate_scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;
    for script in [".ci/run", ".ci/nightly"] {
        let mode = std::fs::metadata(root().join(script)).unwrap().permissions().mode();
        assert_ne!(mode & 0o111, 0, "{script}: `chmod +x` it");
        assert!(text(script).contains("set -euo pipefail"), "{script}: `set -euo pipefail`");
    }
}
