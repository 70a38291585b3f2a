//! Relay queues in a map.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chat_protocol::DeviceId;
use tokio::sync::watch;

use crate::PortError;
use crate::registry::Route;
use crate::relay_queue::{
    Enqueue, QueueItem, QueuePage, QueueState, RelayQueue, SourceOutcome, Stored,
};

#[derive(Clone, Default)]
struct Queue {
    top: u64,
    items: Vec<QueueItem>,
}

impl Queue {
    fn state(&self, epoch: u64) -> QueueState {
        let base = self.items.first().map_or(self.top + 1, |item| item.dseq);
        QueueState { epoch, floor: 1, base, top: self.top }
    }
}

/// Everything the store holds at one instant.
#[derive(Clone, Default)]
pub struct QueueImage {
    watermarks: BTreeMap<(Arc<str>, u32), u64>,
    queues: BTreeMap<DeviceId, Queue>,
}

#[derive(Default)]
struct State {
    image: QueueImage,
    routes: BTreeMap<DeviceId, Route>,
    incarnation: u64,
    /// Incarnation that began empty.
    born: u64,
    failures: u32,
    answers_lost: u32,
}

/// A store whose queues all have the epoch 1.
#[derive(Default)]
pub struct TwinQueue {
    state: Mutex<State>,
    trims_held: watch::Sender<bool>,
}

impl TwinQueue {
    /// An empty store.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next calls of `enqueue` fail without effect.
    pub fn fail_enqueues(&self, calls: u32) {
        self.lock().failures = calls;
    }

    /// From now on calls of `trim` wait before they have their effect, or go on.
    pub fn hold_trims(&self, held: bool) {
        self.trims_held.send_replace(held);
    }

    /// Calls of `trim` that are held.
    pub fn trims_held(&self) -> usize {
        self.trims_held.receiver_count()
    }

    /// The next calls of `enqueue` have their effect and are not answered.
    pub fn lose_answers(&self, calls: u32) {
        self.lock().answers_lost = calls;
    }

    /// What the store holds now.
    pub fn image(&self) -> QueueImage {
        self.lock().image.clone()
    }

    /// Goes back to an older state, as a restart that lost the last writes does.
    pub fn restore(&self, image: QueueImage) {
        let mut state = self.lock();
        state.image = image;
        state.incarnation += 1;
    }

    /// Forgets everything, as a store that was wiped does.
    pub fn wipe(&self) {
        let mut state = self.lock();
        state.image = QueueImage::default();
        state.incarnation += 1;
        state.born = state.incarnation;
    }

    /// Sets the route of a device.
    pub fn set_route(&self, device: DeviceId, route: Route) {
        self.lock().routes.insert(device, route);
    }

    /// Takes the route of a device away.
    pub fn clear_route(&self, device: DeviceId) {
        self.lock().routes.remove(&device);
    }

    /// The route of a device.
    pub fn route(&self, device: DeviceId) -> Option<Route> {
        self.lock().routes.get(&device).cloned()
    }

    /// Payloads of a device's queue, in order.
    pub fn payloads(&self, device: DeviceId) -> Vec<Bytes> {
        let state = self.lock();
        let queue = state.image.queues.get(&device);
        queue
            .map(|queue| queue.items.iter().map(|item| item.payload.clone()).collect())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RelayQueue for TwinQueue {
    async fn enqueue(&self, call: Enqueue) -> Result<Vec<SourceOutcome>, PortError> {
        let mut state = self.lock();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(PortError::Unknown("told to fail".into()));
        }
        let mut outcomes = Vec::with_capacity(call.sources.len());
        for range in call.sources {
            let key = (range.source, call.slot);
            let unknown = if range.incarnation == state.born { range.prev } else { 0 };
            let watermark = state.image.watermarks.get(&key).copied().unwrap_or(unknown);
            if watermark != range.prev {
                let refused = if range.prev < watermark {
                    SourceOutcome::Duplicate
                } else {
                    SourceOutcome::Gap
                };
                outcomes.push(refused(watermark));
                continue;
            }
            let mut stored = Vec::with_capacity(range.items.len());
            for (device, payload) in range.items {
                let route = state.routes.get(&device).cloned();
                let queue = state.image.queues.entry(device).or_default();
                queue.top += 1;
                queue.items.push(QueueItem { dseq: queue.top, payload });
                stored.push(Stored { epoch: 1, dseq: queue.top, route });
            }
            state.image.watermarks.insert(key, range.last);
            outcomes.push(SourceOutcome::Applied(stored));
        }
        if state.answers_lost > 0 {
            state.answers_lost -= 1;
            return Err(PortError::Unknown("the answer is lost".into()));
        }
        Ok(outcomes)
    }

    async fn trim(&self, acks: &[(DeviceId, u64, u64)]) -> Result<(), PortError> {
        if *self.trims_held.borrow() {
            // The sender lives as long as the store.
            _ = self.trims_held.subscribe().wait_for(|held| !held).await;
        }
        let mut state = self.lock();
        for (device, epoch, up_to) in acks {
            if let Some(queue) = state.image.queues.get_mut(device).filter(|_| *epoch == 1) {
                queue.items.retain(|item| item.dseq > *up_to);
            }
        }
        Ok(())
    }

    async fn read(&self, pages: &[(DeviceId, u64, u32)]) -> Result<Vec<QueuePage>, PortError> {
        let mut state = self.lock();
        let page = |(device, after, limit): &(DeviceId, u64, u32)| {
            let queue = state.image.queues.entry(*device).or_default();
            let above = queue.items.iter().filter(|item| item.dseq > *after);
            QueuePage {
                state: queue.state(1),
                items: above.take(*limit as usize).cloned().collect(),
            }
        };
        Ok(pages.iter().map(page).collect())
    }

    async fn states(&self, devices: &[DeviceId]) -> Result<Vec<QueueState>, PortError> {
        let state = self.lock();
        let of =
            |device| state.image.queues.get(device).map(|queue| queue.state(1)).unwrap_or_default();
        Ok(devices.iter().map(of).collect())
    }

    async fn watermarks(&self) -> Result<Vec<(Arc<str>, u32, u64)>, PortError> {
        let state = self.lock();
        let all = state.image.watermarks.iter();
        Ok(all.map(|((source, slot), watermark)| (Arc::clone(source), *slot, *watermark)).collect())
    }

    async fn incarnation(&self) -> Result<u64, PortError> {
        Ok(self.lock().incarnation)
    }
}
