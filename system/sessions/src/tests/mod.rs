//! Stories of the role, over a registry kept in memory.
mod streams;
mod sweeping;
mod twin;

use std::sync::Arc;
use std::time::Duration;

use chat_ports::clock::SteadyClock;
use chat_ports::nodes::{LeaseState, NodeView};
use chat_ports::observe::Observer;
use chat_ports::registry::NodeKey;
use chat_protocol::limits::Timers;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Deps, Policies};
use twin::Twin;

/// Dependencies of a sessions node, and its own lease to play with.
fn deps(
    registry: &Arc<Twin>,
    timers: &Timers,
    policies: Policies,
) -> (Deps, watch::Sender<LeaseState>) {
    let (lease, lease_view) = watch::channel(LeaseState { renewed: Instant::now(), lost: false });
    let (_, table) = watch::channel(Arc::default());
    let view = NodeView { key: node("services-1"), table, lease: lease_view };
    let observer = Observer::new(Arc::new(SteadyClock::new(0)));
    let registry = Arc::<Twin>::clone(registry);
    (Deps { view, registry, timers: *timers, observer, policies }, lease)
}

fn node(name: &str) -> NodeKey {
    NodeKey { name: name.into(), epoch: 1 }
}

/// Waits until something is so; the limit only bounds a failure.
async fn until(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_hours(1), wait).await.expect("it becomes so");
}
