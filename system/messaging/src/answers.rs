//! The gateways that wait for `sent`: every gateway opens a `Messages` stream to every messaging node.
use std::sync::{Arc, PoisonError, RwLock};

use chat_ports::registry::NodeKey;
use chat_ports::streams::StreamSender;
use chat_protocol::node::MessagesDown;

type Open = Vec<(NodeKey, StreamSender<MessagesDown>)>;

/// The open `Messages` streams of one node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Answers {
    open: Arc<RwLock<Arc<Open>>>,
}

impl Answers {
    /// The streams that are open now, for a batch of answers.
    pub fn open(&self) -> OpenAnswers {
        OpenAnswers(Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Adds a stream; a further one of the same node incarnation replaces it.
    pub fn add(&self, node: NodeKey, stream: StreamSender<MessagesDown>) {
        self.change(|open| {
            open.retain(|(key, _)| *key != node);
            open.push((node, stream));
        });
    }

    /// Takes the ended streams away.
    pub fn clear_ended(&self) {
        self.change(|open| open.retain(|(_, stream)| !stream.is_closed()));
    }

    fn change(&self, change: impl FnOnce(&mut Open)) {
        change(Arc::make_mut(&mut self.open.write().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// The streams that were open at one instant.
pub struct OpenAnswers(Arc<Open>);

impl OpenAnswers {
    /// The stream that a node incarnation opened, if it is open.
    pub fn to(&self, node: &str, epoch: u64) -> Option<&StreamSender<MessagesDown>> {
        self.0
            .iter()
            .find(|(key, _)| key.epoch == epoch && &*key.name == node)
            .map(|(_, stream)| stream)
    }
}
