//! The active checks: `GET /readyz` of every gateway, each in its own time.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_ports::net;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use crate::hub::lock;

const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n";
/// Begin of a good answer.
const READY: &[u8] = b"HTTP/1.1 200";

/// Starts one task a gateway.
pub(super) fn start(shared: &Arc<Shared>, tracker: &TaskTracker, shutdown: &CancellationToken) {
    let addresses = lock(&shared.backends).addresses();
    for (place, addr) in addresses.into_iter().enumerate() {
        tracker.spawn(watch(Arc::clone(shared), place, addr, shutdown.clone()));
    }
}

async fn watch(shared: Arc<Shared>, place: usize, addr: SocketAddr, shutdown: CancellationToken) {
    let mut beat = tokio::time::interval(shared.timers.node_table);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beat.tick() => {}
        }
        let limit = shared.timers.store_call;
        let well =
            timeout(limit, check(addr, limit)).await.is_ok_and(|answer| answer.unwrap_or(false));
        lock(&shared.backends).checked(place, well, Instant::now());
    }
}

async fn check(addr: SocketAddr, limit: Duration) -> io::Result<bool> {
    let mut stream = net::dial(addr, limit).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = [0_u8; READY.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer == READY)
}
