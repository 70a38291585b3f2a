//! The tree of a YAML file in which every key and value knows where it was written.

use std::cell::Cell;
use std::sync::Arc;

/// One text that values came from: a file, a catalog entry or a command line argument.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// What a diagnostic calls it: a path, a catalog name or the argument itself.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl SourceText {
    /// A shared source from its display name and its text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }
}

/// Where something was written: a source and a byte range in it.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The text the range lies in.
    pub source: Arc<SourceText>,
    /// First byte.
    pub offset: usize,
    /// Length in bytes; may be 0.
    pub len: usize,
}

/// One value of the tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value itself.
    pub kind: Kind,
    /// Where it was written.
    pub at: Mark,
    /// Set once the decoder has reported this value, so that the next pass steps over it.
    pub(super) poisoned: Cell<bool>,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Nothing, or an explicit null.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a fraction.
    Float(f64),
    /// Any other scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in file order, without duplicates.
    Map(Vec<Entry>),
}

/// One key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key as text; a number is written as it stood.
    pub key: String,
    /// Where the key was written.
    pub key_at: Mark,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A node that nothing has complained about yet.
    pub fn new(kind: Kind, at: Mark) -> Self {
        Self { kind, at, poisoned: Cell::new(false) }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The text, if this is a text scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries, if this is a mapping; otherwise none.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The child that one path segment names: a key of a mapping; of a list an index, or the item whose `id` or `name` it is.
    pub fn child(&self, segment: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(_) => self.get(segment),
            Kind::List(items) => list_index(items, segment).map(|ix| &items[ix]),
            _ => None,
        }
    }

    /// Writes `value` at a dotted path; mappings that are missing on the way are made. `key_at` is where the path was written.
    ///
    /// # Errors
    /// Names the segment at which the path leads into a scalar or past the end of a list.
    pub fn set(&mut self, path: &str, value: Node, key_at: &Mark) -> Result<(), String> {
        let segments: Vec<&str> = path.split('.').collect();
        self.set_at(&segments, value, key_at)
    }

    fn set_at(&mut self, segments: &[&str], value: Node, key_at: &Mark) -> Result<(), String> {
        let Some((first, rest)) = segments.split_first() else {
            *self = value;
            return Ok(());
        };
        if first.is_empty() {
            return Err("the path has an empty segment".to_owned());
        }
        if matches!(self.kind, Kind::Null) {
            self.kind = Kind::Map(Vec::new());
        }
        match &mut self.kind {
            Kind::Map(entries) => {
                let ix = entries.iter().position(|e| e.key == *first).unwrap_or_else(|| {
                    let at = value.at.clone();
                    entries.push(Entry {
                        key: (*first).to_owned(),
                        key_at: key_at.clone(),
                        value: Node::new(Kind::Null, at),
                    });
                    entries.len() - 1
                });
                if rest.is_empty() {
                    entries[ix].key_at = key_at.clone();
                }
                entries[ix].value.set_at(rest, value, key_at)
            }
            Kind::List(items) => match list_index(items, first) {
                // An item that is set to nothing is taken away: an override may leave out what a file has.
                Some(ix) if rest.is_empty() && matches!(value.kind, Kind::Null) => {
                    items.remove(ix);
                    Ok(())
                }
                Some(ix) => items[ix].set_at(rest, value, key_at),
                None => Err(format!("no item `{first}` in this list")),
            },
            _ => Err(format!("`{first}` lies below a plain value")),
        }
    }

    /// Lays this node over `parent`: mappings merge key by key, everything else replaces.
    #[must_use]
    pub fn over(self, parent: Node) -> Node {
        match (self.kind, parent.kind) {
            (Kind::Map(own), Kind::Map(mut merged)) => {
                for entry in own {
                    match merged.iter_mut().find(|e| e.key == entry.key) {
                        Some(slot) => {
                            let below = std::mem::replace(
                                &mut slot.value,
                                Node::new(Kind::Null, entry.key_at.clone()),
                            );
                            slot.value = entry.value.over(below);
                            slot.key_at = entry.key_at;
                        }
                        None => merged.push(entry),
                    }
                }
                Node::new(Kind::Map(merged), self.at)
            }
            (kind, _) => Node::new(kind, self.at),
        }
    }

    /// Removes a key of a mapping and hands its value back.
    pub fn take(&mut self, key: &str) -> Option<Node> {
        let Kind::Map(entries) = &mut self.kind else { return None };
        let ix = entries.iter().position(|e| e.key == key)?;
        Some(entries.remove(ix).value)
    }
}

fn list_index(items: &[Node], segment: &str) -> Option<usize> {
    segment.parse::<usize>().ok().filter(|ix| *ix < items.len()).or_else(|| {
        items.iter().position(|item| {
            ["id", "name"].iter().any(|key| item.get(key).and_then(Node::text) == Some(segment))
        })
    })
}
