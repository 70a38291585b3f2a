//! Which open stream takes care of a partition or a slot, without hashing names for every frame.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chat_ports::registry::NodeKey;
use chat_ports::streams::{Batch, Open, Peers, StreamSender};
use chat_protocol::ids::rendezvous;

use crate::hub::lock;

type Streams<B> = Arc<BTreeMap<NodeKey, StreamSender<B>>>;

/// Owners of the keys `0..keys` among the open streams of a role, computed again when the set of streams changes.
pub(crate) struct Owners<O: Open> {
    peers: Peers<O>,
    keys: u32,
    known: Mutex<Known<O::Up>>,
}

struct Known<B: Batch> {
    streams: Streams<B>,
    by_key: Vec<Option<StreamSender<B>>>,
}

impl<O: Open> Owners<O> {
    /// Owners among the streams of `peers`.
    pub(crate) fn new(peers: Peers<O>, keys: u32) -> Self {
        let by_key = (0..keys).map(|_| None).collect();
        Self { peers, keys, known: Mutex::new(Known { streams: Arc::default(), by_key }) }
    }

    /// Hands an item to the owner of `key`; gives it back when there is none, or when its queue is full.
    pub(crate) fn offer(
        &self,
        key: u32,
        item: <O::Up as Batch>::Item,
    ) -> Result<(), <O::Up as Batch>::Item> {
        let streams = self.peers.open();
        let mut known = lock(&self.known);
        // The kept handle makes every change of the set a new allocation, so equal pointers are equal sets.
        if !Arc::ptr_eq(&streams, &known.streams) {
            let nodes: Vec<_> = streams.iter().collect();
            known.by_key = (0..self.keys)
                .map(|key| {
                    rendezvous(u64::from(key), &nodes, |(node, _)| &node.name)
                        .map(|(_, stream)| (*stream).clone())
                })
                .collect();
            known.streams = Arc::clone(&streams);
        }
        match known.by_key.get(key as usize) {
            Some(Some(stream)) => stream.offer(item),
            _ => Err(item),
        }
    }

    /// Keys that `node` takes care of when its stream is open.
    pub(crate) fn keys_of(&self, node: &NodeKey) -> Vec<u32> {
        let streams = self.peers.open();
        let mut names: Vec<&str> =
            streams.keys().filter(|key| *key != node).map(|key| &*key.name).collect();
        names.push(&node.name);
        (0..self.keys)
            .filter(|key| {
                rendezvous(u64::from(*key), &names, |name| name)
                    .is_some_and(|owner| *owner == &*node.name)
            })
            .collect()
    }

    /// Items that wait in the fullest stream.
    pub(crate) fn waiting(&self) -> usize {
        self.peers.open().values().map(StreamSender::waiting).max().unwrap_or(0)
    }

    /// Whether any stream of the role is open.
    pub(crate) fn any(&self) -> bool {
        !self.peers.open().is_empty()
    }
}
