//! The undo journal: what has to be taken away, on disk before it is made wrong.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::undo::Undo;

/// What a line says about its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// The act comes next; the undo is owed.
    Open,
    /// The fault was taken away, and its absence was witnessed.
    Healed,
    /// The janitor applied the undo; nobody witnessed the absence.
    Undone,
}

/// The process that owes an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since the host's boot; 0 where the host does not tell. With the id it names one process.
    pub start: u64,
}

impl Owner {
    /// This process.
    pub fn this_process() -> Owner {
        // Field 22 of the line, counted behind the parenthesised name, which may hold blanks.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let start = fields.split_whitespace().nth(19).and_then(|field| field.parse().ok());
        Owner { pid: std::process::id(), start: start.unwrap_or(0) }
    }
}

/// What is owed, in the opening line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Step of the experiment.
    pub step: String,
    /// Tag of the fault.
    pub fault: String,
    /// Whom it hits, in short.
    pub target: String,
    /// What takes it away.
    pub undo: Undo,
    /// Who owes it.
    pub owner: Owner,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Number of the entry, from 1; a closing line repeats it.
    pub id: u64,
    /// Nanoseconds since the run's clock started.
    pub at_ns: u64,
    /// What the line says.
    pub state: LineState,
    /// What is owed; in opening lines only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Owed>,
}

/// The journal of one run. Cloning is cheap; all clones write to one file.
///
/// Each line is on disk before the call returns: the few milliseconds are taken on the caller's thread, so that no act can come between.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    started: Instant,
    owner: Owner,
    file: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    next: u64,
}

impl Journal {
    /// Creates `path`, or goes on behind what it holds. `started` is the zero of the run's clock.
    pub fn create(path: &Path, started: Instant) -> io::Result<Journal> {
        let lines = if path.exists() { Journal::read(path)? } else { Vec::new() };
        let next = lines.iter().map(|line| line.id).max().unwrap_or(0) + 1;
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let file = Arc::new(Mutex::new(Inner { file, next }));
        Ok(Journal { path: path.to_owned(), started, owner: Owner::this_process(), file })
    }

    /// All whole lines of a journal; a last line that a crash cut short is left out.
    pub fn read(path: &Path) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        for text in BufReader::new(File::open(path)?).lines() {
            match serde_json::from_str(&text?) {
                Ok(line) => lines.push(line),
                Err(_) => break,
            }
        }
        Ok(lines)
    }

    /// Entries that are open: made wrong, or about to be, and not taken away.
    pub fn leftovers(&self) -> io::Result<Vec<Line>> {
        let mut open = BTreeMap::new();
        for line in Journal::read(&self.path)? {
            match line.state {
                LineState::Open => open.insert(line.id, line),
                LineState::Healed | LineState::Undone => open.remove(&line.id),
            };
        }
        Ok(open.into_values().collect())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens an entry; its number.
    pub(crate) fn open(
        &self,
        step: &str,
        fault: &str,
        target: String,
        undo: &Undo,
    ) -> io::Result<u64> {
        let owed = Owed {
            step: String::from(step),
            fault: String::from(fault),
            target,
            undo: undo.clone(),
            owner: self.owner,
        };
        let mut inner = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let id = inner.next;
        inner.append(&Line {
            id,
            at_ns: self.now_ns(),
            state: LineState::Open,
            owed: Some(owed),
        })?;
        inner.next += 1;
        Ok(id)
    }

    /// Closes an entry.
    pub(crate) fn close(&self, id: u64, state: LineState) -> io::Result<()> {
        let mut inner = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        inner.append(&Line { id, at_ns: self.now_ns(), state, owed: None })
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Inner {
    /// Writes one line and waits until it is on disk.
    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_left_over_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("undo.jsonl");
        let journal = Journal::create(&path, Instant::now()).unwrap();
        let undo = Undo::NodesResumed(vec![String::from("gateway-2")]);
        let first = journal.open("freeze", "pause", String::from("gateway-2"), &undo).unwrap();
        let second =
            journal.open("cut", "cut-all", String::from("9 devices"), &Undo::Nothing).unwrap();
        journal.close(second, LineState::Healed).unwrap();
        let left = journal.leftovers().unwrap();
        assert_eq!(left.iter().map(|line| line.id).collect::<Vec<_>>(), [first]);
        assert_eq!(left[0].owed.as_ref().unwrap().undo, undo);
        assert_eq!(left[0].owed.as_ref().unwrap().owner, Owner::this_process());
        journal.close(first, LineState::Undone).unwrap();
        assert!(journal.leftovers().unwrap().is_empty());
    }

    #[test]
    fn a_line_cut_short_by_a_crash_is_left_out_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("undo.jsonl");
        let undo = Undo::GroupResumed(String::from("sequencer"));
        let journal = Journal::create(&path, Instant::now()).unwrap();
        journal.open("a", "consumer-pause", String::from("sequencer"), &undo).unwrap();
        let again = Journal::create(&path, Instant::now()).unwrap();
        assert_eq!(again.open("b", "consumer-pause", String::from("sequencer"), &undo).unwrap(), 2);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\":3,\"at_").unwrap();
        assert_eq!(again.leftovers().unwrap().len(), 2);
    }
}
