//! What the readers of `chat.messages` show of their folds, for the control door.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chat_protocol::fold::Fold;

/// One reader's fold of one partition, as it was about a second ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldState {
    /// Group of the reader.
    pub group: &'static str,
    /// Node of the reader.
    pub node: Arc<str>,
    /// Partition of `chat.messages`.
    pub partition: u32,
    /// Offset of the record that comes next.
    pub next_offset: u64,
    /// Remembered `cid`s.
    pub remembered: u64,
    /// (offset, digest of all verdicts before it), oldest first.
    pub checkpoints: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    states: BTreeMap<u64, FoldState>,
}

/// The folds of one system; shared by all its nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct FoldViews {
    inner: Arc<Mutex<Inner>>,
}

impl FoldViews {
    /// All folds that are being kept.
    pub fn all(&self) -> Vec<FoldState> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.states.values().cloned().collect()
    }

    /// A reader's place; it shows nothing until the first [`FoldEntry::show`].
    pub fn entry(&self, group: &'static str, node: &Arc<str>) -> FoldEntry {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.next_id += 1;
        FoldEntry { views: self.clone(), id: inner.next_id, group, node: Arc::clone(node) }
    }
}

/// One reader's place among the views; dropping it takes it away.
pub struct FoldEntry {
    views: FoldViews,
    id: u64,
    group: &'static str,
    node: Arc<str>,
}

impl FoldEntry {
    /// Shows the fold as it is now; call it about once a second.
    pub fn show(&self, partition: u32, fold: &Fold) {
        let state = FoldState {
            group: self.group,
            node: Arc::clone(&self.node),
            partition,
            next_offset: fold.next_offset(),
            remembered: fold.remembered() as u64,
            checkpoints: fold.checkpoints().collect(),
        };
        self.views
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .states
            .insert(self.id, state);
    }
}

impl Drop for FoldEntry {
    fn drop(&mut self) {
        self.views.inner.lock().unwrap_or_else(PoisonError::into_inner).states.remove(&self.id);
    }
}
