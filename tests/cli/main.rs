//! The command line as its callers meet it: the real binary, its exit codes, and what it says on which stream.
#![expect(clippy::unwrap_used, reason = "a story that cannot be told has to end the test")]

mod judged;
mod refused;
mod stopped;
mod words;

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder of its own for every story, so that runs and files of others are out of sight.
struct Desk(TempDir);

/// How a command ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Ended {
    /// A command that was refused: its code, nothing on stdout, and these words on stderr.
    fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.err);
        assert_eq!(self.out, "", "data of a command that was refused");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in:\n{}", self.err);
        }
    }
}

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file into the folder.
    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// A shipped scenario with some of its text replaced.
    fn scenario(&self, name: &str, changes: &[(&str, &str)]) {
        let mut text = include_str!("../../scenarios/catalog/smoke.yaml").to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "the shipped file has no `{from}`");
            text = text.replace(from, to);
        }
        self.file(name, &text);
    }

    /// What is in the folder.
    fn holds(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatstorm"));
        command.args(arguments).current_dir(self.path()).env("NO_COLOR", "1");
        command
    }

    fn chatstorm(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().unwrap().into()
    }
}
