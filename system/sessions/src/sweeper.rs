//! Removes the routes of nodes whose lease has ended, so that nobody pushes to the dead for long.
use std::sync::Arc;

use chat_ports::PortError;
use chat_ports::observe::Event;
use chat_ports::registry::NodeKey;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::policy::LeaseRule;
use crate::routes;
use crate::service::Shared;

/// Routes of one page.
const PAGE: usize = 256;
/// Pages of one beat; the rest is swept at the next.
const PAGES_A_BEAT: usize = 64;
/// Kept unregistrations that are tried again in one beat.
const LATE_A_BEAT: usize = 4_096;
/// So many beats without an answer are an outage: leases may have ended because nobody could renew.
const FAILED_BEATS_OF_AN_OUTAGE: u32 = 2;

/// Sweeps each `timers.sweep` until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut beat = tokio::time::interval(shared.deps.timers.sweep);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweeper = Sweeper { shared, claimed: None, failed: 0, wait_until: Instant::now() };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beat.tick() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sweeper.beat() => {}
        }
    }
}

struct Sweeper {
    shared: Arc<Shared>,
    claimed: Option<NodeKey>,
    failed: u32,
    wait_until: Instant,
}

impl Sweeper {
    async fn beat(&mut self) {
        let late = self.shared.take_late(LATE_A_BEAT);
        if !late.is_empty() {
            routes::unregister(&self.shared, late).await;
        }
        if self.shared.deps.policies.lease == LeaseRule::Ignored {
            return;
        }
        match self.sweep().await {
            Ok(()) => self.failed = 0,
            Err(error) => {
                tracing::debug!(%error, "Sweeping failed.");
                self.claimed = None;
                self.failed = self.failed.saturating_add(1);
                if self.failed >= FAILED_BEATS_OF_AN_OUTAGE {
                    self.wait_until = Instant::now() + self.shared.deps.timers.lease_ttl;
                }
            }
        }
    }

    async fn sweep(&mut self) -> Result<(), PortError> {
        let deps = &self.shared.deps;
        if Instant::now() < self.wait_until {
            // After an outage every node gets a whole lease to come back; the call keeps watching whether it is over.
            return deps.registry.nodes().await.map(drop);
        }
        let node = match self.claimed.take() {
            Some(node) => node,
            None => {
                match deps.registry.claim_dead(&deps.view.key.name, deps.timers.lease_ttl).await? {
                    Some(node) => node,
                    None => return Ok(()),
                }
            }
        };
        for _ in 0..PAGES_A_BEAT {
            let page = deps.registry.routes_of(&node, PAGE).await?;
            if page.is_empty() {
                // Index and node record go last, so that a second sweeper finds what a first one left.
                if !deps.registry.forget(&node).await? {
                    tracing::debug!(node = %node.name, epoch = node.epoch, "The swept node is back, or has routes again.");
                }
                return Ok(());
            }
            let routes: Vec<_> =
                page.into_iter().map(|entry| (entry.device, entry.route)).collect();
            let deleted = deps.registry.unregister(&routes).await?;
            for ((device, _), deleted) in routes.iter().zip(&deleted) {
                if *deleted {
                    deps.observer.note(Event::RouteSwept(*device));
                    deps.observer.sometimes("stale-route-swept");
                } else {
                    deps.observer.sometimes("sweep-compare-failed");
                }
            }
            if !deleted.contains(&true) {
                break;
            }
        }
        self.claimed = Some(node);
        Ok(())
    }
}
