//! Delivery that pushes to a live route without storing, and stores only for devices without one.
//!
//! Pushes that are not stored take numbers too, so the numbers a device sees run ahead of the stored ones by a *shift*. It grows only
//! while the device's queue is empty, so that what is stored keeps its order.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_ports::nodes::NodeView;
use chat_ports::observe::{Counter, Observer};
use chat_ports::registry::SessionRegistry;
use chat_ports::relay_queue::{Enqueue, RelayQueue};
use chat_protocol::DeviceId;
use chat_protocol::node::Push;

use crate::gateways::Gateways;

/// Devices with a shift; a further one is stored for.
const DEVICES_MAX: usize = 1_000_000;

/// The shifts of one relay node's devices.
pub(crate) struct PushFirst {
    node: String,
    registry: Arc<dyn SessionRegistry>,
    queue: Arc<dyn RelayQueue>,
    shifts: Mutex<HashMap<DeviceId, u64>>,
    unstored: Counter,
}

impl PushFirst {
    pub(crate) fn new(
        view: &NodeView,
        registry: Arc<dyn SessionRegistry>,
        queue: Arc<dyn RelayQueue>,
        observer: &Observer,
    ) -> Self {
        let unstored = observer.counter("relay.pushed_unstored");
        Self {
            node: view.key.name.to_string(),
            registry,
            queue,
            shifts: Mutex::default(),
            unstored,
        }
    }

    /// How far the numbers a device sees are ahead of the stored ones.
    pub(crate) fn shift(&self, device: DeviceId) -> u64 {
        self.lock().get(&device).copied().unwrap_or(0)
    }

    /// Pushes what has a live route and takes it out of the call. If routes or queues cannot be read, everything is stored.
    pub(crate) async fn take(&self, call: &mut Enqueue, gateways: &Gateways) {
        let mut devices: Vec<DeviceId> = call
            .sources
            .iter()
            .flat_map(|range| range.items.iter().map(|(device, _)| *device))
            .collect();
        devices.sort_unstable();
        devices.dedup();
        if devices.is_empty() {
            return;
        }
        let (Ok(routes), Ok(states)) =
            (self.registry.routes(&devices).await, self.queue.states(&devices).await)
        else {
            tracing::debug!(node = %self.node, "Routes or queues cannot be read; a batch is stored whole.");
            return;
        };
        let present = gateways.now();
        let mut online: HashMap<DeviceId, _> = HashMap::new();
        for ((device, route), state) in devices.into_iter().zip(routes).zip(states) {
            if let Some(route) = route.filter(|route| present.reaches(&route.node))
                && state.epoch > 0
                && state.base > state.top
            {
                online.insert(device, (route, state));
            }
        }
        let mut shifts = self.lock();
        for range in &mut call.sources {
            range.items.retain(|(device, payload)| {
                let Some((route, state)) = online.get(device) else { return true };
                if shifts.len() >= DEVICES_MAX && !shifts.contains_key(device) {
                    return true;
                }
                let shift = shifts.entry(*device).or_insert(0);
                *shift += 1;
                let (epoch, dseq) = (state.epoch, state.top + *shift);
                let push = Push {
                    device: device.0,
                    conn: route.conn,
                    epoch,
                    dseq,
                    payload: payload.clone(),
                };
                present.push(&route.node, push);
                self.unstored.add(1);
                false
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, u64>> {
        self.shifts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
