//! Which brokers were ended here: the one thing about brokers that is known while none of them answers.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Brokers that were ever ended, and whether each still is.
#[derive(Default)]
pub(super) struct Down(Mutex<BTreeMap<u32, bool>>);

impl Down {
    pub(super) fn killed(&self, broker: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(broker, true);
    }

    pub(super) fn started(&self, broker: u32) {
        if let Some(down) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&broker) {
            *down = false;
        }
    }

    /// Whether a broker is ended.
    pub(super) fn now(&self, broker: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&broker) == Some(&true)
    }

    /// Whether one ever was, so that silence has a known cause.
    pub(super) fn were(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
