//! Asks the store for its incarnation; a change means that it restarted and that routes and queue content may be lost.
use std::sync::Arc;
use std::time::Duration;

use chat_ports::observe::Counter;
use chat_ports::relay_queue::RelayQueue;
use chat_ports::streams::kinds::DeliverDownItem;
use tokio::time::{MissedTickBehavior, interval};

use crate::enqueue::EnqueueService;
use crate::gateways::Gateways;

/// Probes for ever, each `period`: on a change gateways register their devices again, and sequencers start again from their
/// watermarks.
pub(crate) async fn run(
    queue: Arc<dyn RelayQueue>,
    period: Duration,
    gateways: Gateways,
    enqueue: EnqueueService,
    resets: Counter,
) {
    let mut known = queue.incarnation().await.ok();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(incarnation) = queue.incarnation().await else { continue };
        if known.replace(incarnation).is_some_and(|before| before != incarnation) {
            resets.add(1);
            enqueue.reset(incarnation);
            for stream in gateways.now().streams() {
                if stream.offer(DeliverDownItem::StoreReset).is_err() {
                    tracing::debug!("A gateway has no room for the word of a reset.");
                }
            }
        }
    }
}
