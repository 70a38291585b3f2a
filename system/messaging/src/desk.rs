//! Hands what relay nodes answer to the partitions of this node that offered it.
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_ports::registry::NodeKey;
use chat_ports::streams::PeerEvent;
use chat_protocol::node::{EnqueueDown, EnqueueOutcome};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Answers that may wait for one partition. Eight can be on the way; beyond it the partition starts again.
const ANSWERS_WAITING: usize = 256;

/// What arrives for a partition from the relay nodes.
pub(crate) enum Arrival {
    Answer {
        node: NodeKey,
        slot: u32,
        outcome: EnqueueOutcome,
        watermark: u64,
    },
    Closed(NodeKey),
    /// The store has another incarnation now.
    Reset(u64),
}

/// Where the arrivals of one source go.
struct Place {
    arrivals: mpsc::Sender<Arrival>,
    /// An arrival was dropped.
    missed: Arc<AtomicBool>,
}

/// Hands what relay nodes answer to the partitions of this node. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Desk {
    places: Arc<Mutex<HashMap<String, Place>>>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new place for a source; it replaces an older one.
    pub(crate) fn open(&self, source: &str) -> (mpsc::Receiver<Arrival>, Arc<AtomicBool>) {
        let (arrivals, receiver) = mpsc::channel(ANSWERS_WAITING);
        let missed = Arc::new(AtomicBool::new(false));
        self.lock().insert(source.into(), Place { arrivals, missed: Arc::clone(&missed) });
        (receiver, missed)
    }

    /// Takes the places away whose partition has ended.
    pub(crate) fn clear(&self) {
        self.lock().retain(|_, place| !place.arrivals.is_closed());
    }
}

impl Place {
    fn hand(&self, arrival: Arrival) {
        if self.arrivals.try_send(arrival).is_err() {
            self.missed.store(true, Relaxed);
        }
    }
}

/// Distributes what arrives on the `Enqueue` streams until `shutdown`.
pub(crate) async fn dispatch(
    desk: Desk,
    mut arriving: mpsc::Receiver<PeerEvent<EnqueueDown>>,
    shutdown: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = arriving.recv() => event,
        };
        let places = desk.lock();
        match event {
            None => return,
            Some(PeerEvent::Opened(_)) => {}
            #[expect(
                clippy::iter_over_hash_type,
                reason = "every place gets the same word; their order does not matter"
            )]
            Some(PeerEvent::Closed(node)) => {
                for place in places.values() {
                    place.hand(Arrival::Closed(node.clone()));
                }
            }
            Some(PeerEvent::Message(node, down)) => {
                for result in down.results {
                    let outcome =
                        EnqueueOutcome::try_from(result.outcome).unwrap_or(EnqueueOutcome::Failed);
                    if outcome == EnqueueOutcome::Reset && result.source.is_empty() {
                        #[expect(
                            clippy::iter_over_hash_type,
                            reason = "every place gets the same word; their order does not matter"
                        )]
                        for place in places.values() {
                            place.hand(Arrival::Reset(result.watermark));
                        }
                    } else if let Some(place) = places.get(&result.source) {
                        let (slot, watermark) = (result.slot, result.watermark);
                        place.hand(Arrival::Answer {
                            node: node.clone(),
                            slot,
                            outcome,
                            watermark,
                        });
                    }
                }
            }
        }
    }
}
