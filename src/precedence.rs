//! The load generator's threads go before everything else on the host, where the host allows it.
//!
//! Beside three brokers and a database, with some hundred threads on few cores, a thread that wakes up waits for its turn, up to a
//! tick of the kernel. The generator stands for the outside world, which does not wait: what it needs is little, and it has to be on
//! time. `docs/decisions.md` (38) has the figures.
use std::sync::Arc;

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// The lowest level of the real-time class: before every ordinary thread, behind everybody who asked for more.
const LEVEL: u8 = 1;

/// What each thread of the generator does as it begins; `None` where the host allows nobody to go first.
pub(crate) fn of_generator() -> Option<Arc<dyn Fn() + Send + Sync>> {
    // Tried on a thread that ends at once: this one stays ordinary.
    let tried = std::thread::spawn(take).join().unwrap_or(false);
    if !tried {
        tracing::info!(
            "The generator goes first for nobody: real-time threads are not allowed here."
        );
        return None;
    }
    Some(Arc::new(|| {
        if !take() {
            tracing::warn!("A thread of the generator has no precedence.");
        }
    }))
}

/// Puts the calling thread into the real-time class; whether that was allowed.
fn take() -> bool {
    let Ok(level) = LEVEL.try_into() else { return false };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(level), policy)
        .is_ok()
}
