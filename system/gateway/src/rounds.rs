//! Turns to every connection after a stream or a store came back, at a bounded pace.
use std::sync::Arc;
use std::time::Duration;

use chat_protocol::ids::slot_of;
use tokio_util::sync::CancellationToken;

use crate::deps::HoleRule;
use crate::hub::{Hub, lock};

/// Connections are turned to in a group each so often.
const PACE: Duration = Duration::from_millis(10);

/// Serves what is asked of `Hub::rounds` until `stop`.
pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    let group = usize::try_from(hub.deps.limits.catch_up_per_s / 100).unwrap_or(usize::MAX).max(1);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = hub.round_due.notified() => {}
        }
        // The pause also lets a stream that has just opened be found by those who are told to use it.
        tokio::time::sleep(PACE).await;
        let due = std::mem::take(&mut *lock(&hub.rounds));
        let verify = if hub.deps.policies.hole == HoleRule::Pull { due.verify } else { 0 };
        if verify == 0 && !due.register {
            continue;
        }
        let touched: Vec<_> = hub
            .all()
            .into_iter()
            .filter(|handle| {
                let slot = handle.device().map(|device| slot_of(device.user()));
                slot.is_some_and(|slot| due.register || verify & (1 << slot) != 0)
            })
            .collect();
        for handles in touched.chunks(group) {
            for handle in handles {
                handle.mark(|marks| {
                    marks.verify |= verify != 0;
                    marks.register |= due.register;
                });
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PACE) => {}
            }
        }
    }
}
