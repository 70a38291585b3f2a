//! The shipped files, and how a name on the command line becomes a text.

use std::path::Path;
use std::sync::Arc;

use crate::document::{Document, FileError, FileErrors, SourceText, hint};

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The scenarios inside the binary.
pub const SCENARIOS: Catalog = Catalog {
    kind: "scenario",
    entries: &[
        ("messenger-18k", include_str!("../../catalog/messenger-18k.yaml")),
        ("smoke", include_str!("../../catalog/smoke.yaml")),
    ],
};

/// Files of one kind, embedded in the binary.
#[derive(Debug, Clone, Copy)]
pub struct Catalog {
    /// What the files are, for messages: `scenario` or `experiment`.
    pub kind: &'static str,
    /// Name and text of each, by name.
    pub entries: &'static [(&'static str, &'static str)],
}

/// Whether an argument names a file rather than a catalog entry.
pub fn is_path(name: &str) -> bool {
    let extension = Path::new(name).extension();
    name.contains('/') || extension.is_some_and(|e| e == "yaml" || e == "yml")
}

impl Catalog {
    /// The names in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.entries.iter().map(|(name, _)| *name).collect()
    }

    /// The text of one entry.
    pub fn get(&self, name: &str) -> Option<&'static str> {
        self.entries.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
    }

    /// The text behind an argument: a path when it has a slash or ends in `.yaml`, otherwise a catalog name.
    ///
    /// # Errors
    /// No such file or entry, with the nearest name; a file that is too large or unreadable.
    pub fn source(&self, name: &str) -> Result<Arc<SourceText>, FileErrors> {
        if !is_path(name) {
            let text = self.get(name).ok_or_else(|| {
                let names = self.names();
                FileErrors::of_name(
                    name,
                    format!("no {} `{name}` in the catalog", self.kind),
                    Some(hint(name, &names)),
                )
            })?;
            return Ok(SourceText::new(format!("{name}.yaml"), text));
        }
        let unreadable = |message: String| {
            FileErrors::of_name(
                name,
                message,
                Some(format!(
                    "a name without a slash and `.yaml` is taken from the {} catalog",
                    self.kind
                )),
            )
        };
        let meta = std::fs::metadata(name)
            .map_err(|err| unreadable(format!("the file `{name}` cannot be read: {err}")))?;
        if meta.len() > FILE_BYTES_MAX {
            return Err(unreadable(format!(
                "the file `{name}` has more than {FILE_BYTES_MAX} bytes"
            )));
        }
        let text = std::fs::read_to_string(name)
            .map_err(|err| unreadable(format!("the file `{name}` cannot be read: {err}")))?;
        Ok(SourceText::new(name, text))
    }

    /// Refuses a file outside of the catalog that calls itself like an entry and differs from it: reports could not be told apart.
    ///
    /// # Errors
    /// At the file's `name`.
    pub fn refuse_taken_name(&self, argument: &str, doc: &Document) -> Result<(), FileErrors> {
        if !is_path(argument) {
            return Ok(());
        }
        let Some(node) = doc.get("name") else { return Ok(()) };
        let taken = node
            .text()
            .and_then(|name| self.get(name))
            .is_some_and(|text| text != node.at.source.text);
        if taken {
            return Err(FileError::new(
                format!("the catalog has another {} of this name", self.kind),
                node.at.clone(),
            )
            .with_help("rename one of the two files, or inherit with `extends`")
            .into());
        }
        Ok(())
    }
}
