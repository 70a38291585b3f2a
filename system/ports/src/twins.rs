//! In-memory ports for tests of services: small, on one runtime, with the same promises as the real ones.
//!
//! They keep everything and have switches for what tests need to go wrong. No system is ever run on them.
mod log;
mod queue;
mod stores;

pub use log::TwinLog;
pub use queue::{QueueImage, TwinQueue};
pub use stores::{TwinBlobs, TwinHistory, TwinTables};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::nodes::{LeaseState, NodeTable, NodeView};
use crate::registry::{NodeKey, NodeLease, Role};

/// How long [`eventually`] waits.
pub const EVENTUALLY: Duration = Duration::from_secs(10);

/// Waits until the condition holds; panics with `what` after [`EVENTUALLY`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + EVENTUALLY;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in {EVENTUALLY:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A node's view of a fixed set of live nodes, with a lease that has just been renewed.
pub fn view(own: &NodeKey, live: &[(NodeKey, SocketAddr, Vec<Role>)]) -> NodeView {
    let lease = |(key, addr, roles): &(NodeKey, SocketAddr, Vec<Role>)| NodeLease {
        key: key.clone(),
        addr: *addr,
        roles: roles.clone(),
        left: Some(Duration::from_mins(1)),
    };
    let table = NodeTable::of(live.iter().map(lease).collect());
    let (_, table) = watch::channel(Arc::new(table));
    let (_, lease) = watch::channel(LeaseState { renewed: Instant::now(), lost: false });
    NodeView { key: own.clone(), table, lease }
}
