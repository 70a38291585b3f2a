//! One proxy in the current runtime: what it is started with, what its parts share, how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::accept::Gate;
use crate::control::{ControlError, ProxyControl};
use crate::counters::{CloseCause, ConnectionState, Register, locked};
use crate::listener::{ListenerState, bind, listen_loop};
use crate::rules::{RuleError, Rules};

const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a proxy is started with. Rules are part of it, so that no connection comes before them.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Name, part of every die the proxy throws.
    pub name: String,
    /// Address it listens on. Port 0 takes a free one and keeps it.
    pub listen: SocketAddr,
    /// Address it dials, once a connection.
    pub upstream: SocketAddr,
    /// Rules of generation 1.
    pub rules: Rules,
    /// Seed of the run.
    pub seed: u64,
    /// Whether connections begin with a [`Preamble`](crate::Preamble); it is stripped.
    pub preamble: bool,
}

/// Why a proxy did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address could not be listened on.
    #[error("proxy `{name}` cannot listen on {listen}")]
    Bind {
        /// Name of the proxy.
        name: String,
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The rules break a limit.
    #[error("rules of proxy `{name}` were refused")]
    Rules {
        /// Name of the proxy.
        name: String,
        /// Which limit.
        source: RuleError,
    },
    /// A proxy of that name exists.
    #[error("there is a proxy `{name}` already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The thread of the set could not be started.
    #[error("the thread of the proxies could not be started")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// The set has been shut down.
    #[error("the proxies have been shut down")]
    Stopped,
}

/// A running proxy. Dropping it tells its tasks to end; [`Proxy::shutdown`] also waits for them.
#[derive(Debug)]
pub struct Proxy {
    control: ProxyControl,
    tracker: TaskTracker,
}

impl Proxy {
    /// Starts a proxy on the current runtime, which must have I/O and time. The rules hold from the first byte on. A port that is taken
    /// is tried again for [`BIND_RETRY_MAX`](crate::listener::BIND_RETRY_MAX).
    pub async fn start(config: ProxyConfig) -> Result<Proxy, StartError> {
        Proxy::start_within(config, Arc::new(AtomicUsize::new(0))).await
    }

    /// Same, sharing the limit on open connections with other proxies.
    pub(crate) async fn start_within(
        config: ProxyConfig,
        open: Arc<AtomicUsize>,
    ) -> Result<Proxy, StartError> {
        let ProxyConfig { name, listen, upstream, rules, seed, preamble } = config;
        rules.check().map_err(|source| StartError::Rules { name: name.clone(), source })?;
        // Bound even if the proxy starts disabled: a bad address shows at once, and port 0 becomes a number.
        let bound = bind(listen).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (listen, listener) =
            bound.map_err(|source| StartError::Bind { name: name.clone(), listen, source })?;
        let listener = rules.enabled.then_some(listener);
        let shared = Arc::new(Shared {
            name: name.into(),
            listen,
            upstream,
            seed,
            preamble,
            rules: watch::Sender::new(Arc::new(Published { generation: 1, stopped: false, rules })),
            gate: Mutex::default(),
            register: Register::default(),
            open,
            listener: ListenerState::default(),
        });
        shared.listener.open.store(listener.is_some(), Relaxed);
        shared.listener.generation.store(1, Relaxed);
        let tracker = TaskTracker::new();
        tracker.spawn(listen_loop(Arc::clone(&shared), tracker.clone(), listener));
        Ok(Proxy { control: ProxyControl { shared }, tracker })
    }

    /// The control of this proxy, for any thread.
    pub fn control(&self) -> ProxyControl {
        self.control.clone()
    }

    /// Closes the listener, resets every connection and waits, at most five seconds, until all tasks have ended.
    /// `false` where some had not.
    pub async fn shutdown(self) -> bool {
        self.control.shared.stop();
        self.tracker.close();
        timeout(STOP_WAIT_MAX, self.tracker.wait()).await.is_ok()
    }

    pub(crate) fn stop(&self) {
        self.control.shared.stop();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.shared.stop();
    }
}

/// What the listener, the connections and the controls of one proxy share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: SocketAddr,
    pub(crate) seed: u64,
    pub(crate) preamble: bool,
    pub(crate) rules: watch::Sender<Arc<Published>>,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) register: Register,
    /// Open connections of all proxies that share the limit.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) listener: ListenerState,
}

/// One value of the rules, as published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) generation: u64,
    /// The proxy ends; no later value follows.
    pub(crate) stopped: bool,
    pub(crate) rules: Rules,
}

impl Published {
    /// Whether a connection must end by this value.
    pub(crate) fn ends(&self, state: &ConnectionState) -> Option<CloseCause> {
        if self.stopped {
            Some(CloseCause::Stopped)
        } else if !self.rules.enabled {
            Some(CloseCause::Down)
        } else if state.cut.load(Relaxed) {
            Some(CloseCause::Cut)
        } else {
            None
        }
    }
}

impl Shared {
    pub(crate) fn publish(&self, edit: impl FnOnce(&mut Rules)) -> Result<u64, ControlError> {
        let mut outcome = Err(ControlError::Stopped { name: String::from(&*self.name) });
        self.rules.send_if_modified(|current| {
            if current.stopped {
                return false;
            }
            let mut rules = current.rules.clone();
            edit(&mut rules);
            outcome = rules.check().map(|()| current.generation + 1).map_err(|source| {
                let name = String::from(&*self.name);
                ControlError::Rules { name, source }
            });
            let Ok(generation) = outcome else { return false };
            // The memory of accept rules starts when they come, not at the first connection that meets them.
            locked(&self.gate).follow(&rules.accept, Instant::now());
            locked(&self.listener.error).take();
            *current = Arc::new(Published { generation, stopped: false, rules });
            true
        });
        outcome
    }

    fn stop(&self) {
        self.rules.send_if_modified(|current| {
            if current.stopped {
                return false;
            }
            *current = Arc::new(Published {
                generation: current.generation + 1,
                stopped: true,
                rules: current.rules.clone(),
            });
            true
        });
    }
}
