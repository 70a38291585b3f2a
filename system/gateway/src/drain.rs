//! Sends every device away in good order before the node leaves.
use std::time::Duration;

use tokio::time::Instant;

use crate::hub::{Hub, millis};
use crate::mailbox::Item;

/// Batches of `drain` frames.
const BATCHES: u32 = 20;
/// How often is looked whether everybody has left.
const LOOK: Duration = Duration::from_millis(20);
/// How long what is still to be unregistered may take to leave.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// Tells all devices to reconnect elsewhere, spread over the reconnect window, and closes with 1012 who did not.
pub(crate) async fn run(hub: &Hub) {
    let timers = hub.deps.timers;
    let deadline = Instant::now() + timers.drain_deadline;
    let window_ms = hub.reconnect_window_ms();
    let all = hub.all();
    let batch = all.len().div_ceil(BATCHES as usize).max(1);
    let mut told = 0_u64;
    for handles in all.chunks(batch) {
        for handle in handles {
            let reconnect_in_ms = window_ms * told / (all.len() as u64).max(1);
            told += 1;
            // A device that does as told has left before its connection is closed.
            let left = millis(deadline.saturating_duration_since(Instant::now()));
            let deadline_ms = (reconnect_in_ms + millis(timers.window_min)).min(left);
            handle.put(Item::Drain(reconnect_in_ms, deadline_ms), hub.deps.limits.behind_bytes);
        }
        tokio::time::sleep_until((Instant::now() + timers.drain_spread / BATCHES).min(deadline))
            .await;
    }
    while !hub.all().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
    if !hub.all().is_empty() {
        hub.deps.observer.sometimes("drain-overrun");
        close_all(hub, chat_protocol::close::RESTART).await;
    }
    flush(hub).await;
}

/// Closes every connection, and waits until they are out of the table.
pub(crate) async fn close_all(hub: &Hub, code: u16) {
    for handle in hub.all() {
        handle.close(code);
    }
    let until = Instant::now() + FLUSH_MAX;
    while !hub.all().is_empty() && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the last unregistrations have left.
pub(crate) async fn flush(hub: &Hub) {
    let until = Instant::now() + FLUSH_MAX;
    hub.work_off_unregisters();
    while hub.unregisters_waiting() > 0 && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        hub.work_off_unregisters();
    }
    // The last batch of each stream is on its way to the socket.
    tokio::time::sleep(LOOK).await;
}
