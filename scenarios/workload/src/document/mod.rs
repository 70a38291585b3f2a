//! Reading typed YAML files with positions: one pass finds every error, files can be laid over each other, leaves can be overridden.

mod decode;
mod error;
mod node;
mod read;
mod suggest;

use std::sync::Arc;

use serde::de::DeserializeOwned;

pub use error::{FileError, FileErrors};
pub use node::{Entry, Kind, Mark, Node, SourceText};
pub use suggest::{hint, nearest};

/// One file, possibly laid over its parents and overridden at some leaves, before it is typed.
#[derive(Debug, Clone)]
pub struct Document {
    /// The tree.
    pub root: Node,
    errors: Vec<FileError>,
}

impl Document {
    /// Reads one YAML text.
    ///
    /// # Errors
    /// A syntax error. Duplicate keys are kept for [`Document::decode`], which reports them with all the others.
    pub fn read(source: &Arc<SourceText>) -> Result<Self, FileErrors> {
        let mut errors = Vec::new();
        let root = read::read(source, &mut errors)?;
        Ok(Self { root, errors })
    }

    /// Lays this document over a parent: mappings merge key by key, lists and scalars are replaced.
    #[must_use]
    pub fn over(self, parent: Document) -> Document {
        let Document { root, mut errors } = self;
        errors.extend(parent.errors);
        Document { root: root.over(parent.root), errors }
    }

    /// Applies one `a.b.c=value` argument of the command line.
    ///
    /// # Errors
    /// The argument has no `=`, its value is no YAML, or its path leads nowhere.
    pub fn set_argument(&mut self, argument: &str) -> Result<(), FileErrors> {
        let source = SourceText::new("--set", argument);
        let whole = |len: usize| Mark { source: Arc::clone(&source), offset: 0, len };
        let Some((path, value)) = argument.split_once('=') else {
            return Err(FileError::new(
                "the argument of `--set` has no `=`",
                whole(argument.len()),
            )
            .with_help("write it as `--set streams.chat.rate=5k/s`")
            .into());
        };
        let mut node = Document::read(&SourceText::new("--set", value))?.root;
        shift(&mut node, &source, path.len() + 1);
        self.root
            .set(path, node, &whole(path.len()))
            .map_err(|message| FileError::new(message, whole(path.len())).into())
    }

    /// Writes a node, that may come from another file, at a dotted path. Items of lists are named by index, `id` or `name`.
    ///
    /// # Errors
    /// The path leads into a plain value or names an item that does not exist.
    pub fn set(&mut self, path: &str, value: Node) -> Result<(), FileErrors> {
        let at = value.at.clone();
        self.root
            .set(path, value, &at.clone())
            .map_err(|message| FileError::new(format!("`{path}`: {message}"), at).into())
    }

    /// Types the document. Unknown keys, wrong units, missing keys and duplicates are all found in one call.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, FileErrors> {
        let mut errors = self.errors.clone();
        let value = decode::decode(&self.root, &mut errors);
        FileErrors::check(errors)?;
        Ok(value.expect("a decoder that found no error has a value"))
    }

    /// Like [`Document::decode`], but hands over what could be read beside the errors, so that meaning can be checked too.
    pub fn decode_partly<T: DeserializeOwned>(&self) -> (Option<T>, Vec<FileError>) {
        let mut errors = self.errors.clone();
        let value = decode::decode(&self.root, &mut errors);
        (value, errors)
    }

    /// The node at a dotted path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(&self.root, |node, segment| node.child(segment))
    }

    /// Where a dotted path was written; the deepest part of it that exists.
    pub fn locate(&self, path: &str) -> Mark {
        let mut node = &self.root;
        let mut at = node.at.clone();
        for segment in path.split('.') {
            let Some(child) = node.child(segment) else { break };
            at = child.at.clone();
            node = child;
        }
        at
    }

    /// An error about the value at a dotted path.
    pub fn error_at(&self, path: &str, message: impl Into<String>) -> FileError {
        FileError::new(message, self.locate(path))
    }
}

/// Reads and types one text; the short way for models that neither inherit nor are overridden.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse<T: DeserializeOwned>(source: &Arc<SourceText>) -> Result<T, FileErrors> {
    Document::read(source)?.decode()
}

/// Moves marks of a value that was parsed alone back into the argument it was cut from.
fn shift(node: &mut Node, source: &Arc<SourceText>, by: usize) {
    let moved =
        |at: &Mark| Mark { source: Arc::clone(source), offset: at.offset + by, len: at.len };
    node.at = moved(&node.at);
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| shift(item, source, by)),
        Kind::Map(entries) => {
            for entry in entries {
                entry.key_at = moved(&entry.key_at);
                shift(&mut entry.value, source, by);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
