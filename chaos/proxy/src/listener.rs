//! The listener of a proxy: opens and closes with the rules, takes connections and gives each its task.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::counters::{CloseCause, ConnectionState, locked};
use crate::proxy::Shared;

/// Most open connections of all proxies that share a limit; further ones are reset and counted.
pub const CONNECTIONS_MAX: usize = 65_536;

/// How long opening a listener is retried while its port is taken; after that healing has failed.
pub const BIND_RETRY_MAX: Duration = Duration::from_secs(5);

/// Stories about ports that stay taken need not wait so long.
const BIND_RETRY: Duration = if cfg!(test) { Duration::from_millis(100) } else { BIND_RETRY_MAX };

/// Connections the kernel queues before they are accepted.
const BACKLOG: u32 = 4_096;

const BIND_RETRY_PAUSE: Duration = Duration::from_millis(20);

const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(10);

/// What the listener tells about itself.
#[derive(Debug, Default)]
pub(crate) struct ListenerState {
    pub(crate) open: AtomicBool,
    pub(crate) generation: AtomicU64,
    pub(crate) reopened: AtomicU64,
    pub(crate) refused_at_limit: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    /// Why the listener could not be opened again.
    pub(crate) error: Mutex<Option<String>>,
}

/// Holds a connection's place in the register and under the limit; gives both back however its task ends.
struct Place {
    shared: Arc<Shared>,
    state: Arc<ConnectionState>,
    cause: CloseCause,
}

impl Place {
    fn ends_by(&mut self, cause: CloseCause) {
        self.cause = cause;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.register.close(&self.state, self.cause);
        self.shared.open.fetch_sub(1, Relaxed);
    }
}

pub(crate) async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let until = Instant::now() + BIND_RETRY;
    loop {
        match bind_once(listen) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                sleep(BIND_RETRY_PAUSE).await;
            }
            bound => return bound,
        }
    }
}

fn bind_once(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

pub(crate) async fn listen_loop(
    shared: Arc<Shared>,
    tracker: TaskTracker,
    mut listener: Option<TcpListener>,
) {
    let mut rules = shared.rules.subscribe();
    let state = &shared.listener;
    loop {
        let published = Arc::clone(&rules.borrow_and_update());
        if published.stopped || !published.rules.enabled {
            listener = None;
            state.open.store(false, Relaxed);
        } else if listener.is_none() {
            let bound = tokio::select! {
                biased;
                changed = rules.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                bound = bind(shared.listen) => bound,
            };
            match bound {
                Ok(bound) => {
                    listener = Some(bound);
                    state.reopened.fetch_add(1, Relaxed);
                    state.open.store(true, Relaxed);
                }
                Err(error) => *locked(&state.error) = Some(error.to_string()),
            }
        }
        state.generation.store(published.generation, Relaxed);
        if published.stopped {
            return;
        }
        let Some(listener) = &listener else {
            if rules.changed().await.is_err() {
                return;
            }
            continue;
        };
        loop {
            tokio::select! {
                biased;
                changed = rules.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                accepted = listener.accept() => {
                    if let Ok((client, peer)) = accepted {
                        take(&shared, &tracker, published.generation, client, peer);
                    } else {
                        // Most often no descriptor is free: without a pause this would be a busy loop.
                        state.accept_errors.fetch_add(1, Relaxed);
                        sleep(ACCEPT_ERROR_PAUSE).await;
                    }
                }
            }
        }
    }
}

fn take(
    shared: &Arc<Shared>,
    tracker: &TaskTracker,
    generation: u64,
    client: TcpStream,
    peer: SocketAddr,
) {
    if CONNECTIONS_MAX <= shared.open.load(Relaxed) {
        shared.listener.refused_at_limit.fetch_add(1, Relaxed);
        // Fails on a socket that is already dead, which then needs no reset.
        drop(client.set_zero_linger());
        return;
    }
    shared.open.fetch_add(1, Relaxed);
    let state = shared.register.open(peer, generation);
    let place = Place { shared: Arc::clone(shared), state, cause: CloseCause::Stopped };
    tracker.spawn(serve(place, client));
}

async fn serve(mut place: Place, client: TcpStream) {
    let cause = connection::serve(&place.shared, &place.state, client).await;
    place.ends_by(cause);
}
