//! Wires services and ports into a running system; the only place that names concrete backends. Start here.
//!
//! A system of the embedded substrate lives in one process: every node on an OS thread with a runtime of its own, every
//! backend on threads of its own, everything between nodes over real sockets. On the substrate of containers every node and
//! every backend is a container.
//!
//! - [`config`] what a system is built from.
//! - [`Testbed`] a running system; [`Testbed::control`] is its panel.
//! - `substrate` what a system stands on; `embedded` every backend in this process, `containers` (with the feature) real ones.
//! - `unit` the nodes that a system is to have; `host` where they run; `threads` in this process.
//! - `process` (with the feature) a node in a process of its own: what `chatstorm node` runs.
//! - `node` what a node runs, wherever it is.
//! - `thread` kill, pause and resume of a thread.
//! - `panel` the control door; `readings` what it reads of an observer.
//! - `leases` a registry whose leases never end.
//! - `cpu` CPU time by thread.
//! - `port` whether a port of this host is ours.
//! - `variant` known-bad variants as policies.
pub mod config;
#[cfg(feature = "containers")]
pub mod containers;
mod cpu;
mod embedded;
mod host;
mod leases;
mod node;
mod panel;
mod port;
#[cfg(feature = "containers")]
pub mod process;
mod readings;
mod substrate;
mod thread;
mod threads;
mod unit;
mod variant;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use chat_control::{Control, ControlError};
use chat_ports::clock::{SharedClock, SteadyClock};
use chat_ports::consumer::FoldViews;
use chat_ports::observe::Observer;

pub use chat_ports::registry::Role;
pub use config::{BASE_PORT, BackendsKind, Config, Policies, ServiceNode};
pub use port::{PortTrouble, expect_port};

use crate::embedded::Embedded;
use crate::host::Host;
use crate::node::Shared;
use crate::substrate::Substrate;
use crate::threads::Threads;

/// Why a system did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A role has no node.
    #[error("no node hosts the role `{0}`")]
    RoleWithoutNode(&'static str),
    /// Two nodes have one name.
    #[error("two nodes are named `{0}`")]
    DoubleName(String),
    /// A backend did not start.
    #[error("the embedded backends did not start")]
    Backends(#[from] chat_embedded::StartError),
    /// The backends in containers did not start.
    #[cfg(feature = "containers")]
    #[error(transparent)]
    Containers(#[from] containers::engine::EngineError),
    /// A node did not become ready.
    #[error(transparent)]
    Node(#[from] ControlError),
}

impl StartError {
    /// What to do about it, where that is known.
    pub fn cure(&self) -> Option<String> {
        match self {
            #[cfg(feature = "containers")]
            Self::Containers(error) => Some(error.cure()),
            _ => None,
        }
    }
}

/// A running system.
pub struct Testbed {
    config: Config,
    clock: SharedClock,
    host: Arc<dyn Host>,
    substrate: Arc<dyn Substrate>,
}

impl Testbed {
    /// Starts backends, service nodes, gateways and the balancer, in this order, and waits until all are ready. What did start is
    /// ended again when something does not.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let units = unit::units_of(&config)?;
        let clock: SharedClock = Arc::new(SteadyClock::new(config.start_ms));
        let observer = Observer::new(Arc::clone(&clock));
        let (substrate, host): (Arc<dyn Substrate>, Arc<dyn Host>) = match &config.backends {
            BackendsKind::Embedded => {
                let backends = Arc::new(Embedded::start(&config, &clock, &observer)?);
                let shared = Shared {
                    settings: config.settings(),
                    gateways: config.gateways_here(),
                    clock: Arc::clone(&clock),
                    observer,
                    folds: FoldViews::default(),
                };
                let host = Threads::new(shared, Arc::clone(&backends), units);
                (backends, Arc::new(host))
            }
            #[cfg(feature = "containers")]
            BackendsKind::Containers(wanted) => {
                let start = containers::start(&config, wanted, units, &observer);
                Box::pin(start).await?
            }
        };
        let testbed = Arc::new(Self { config, clock, host, substrate });
        match testbed.host.start_all().await {
            Ok(()) => Ok(testbed),
            Err(error) => {
                testbed.stop().await;
                Err(error.into())
            }
        }
    }

    /// The panel.
    pub fn control(self: &Arc<Self>) -> Arc<dyn Control> {
        Arc::clone(self) as Arc<dyn Control>
    }

    /// The wall clock of the system.
    pub fn clock(&self) -> SharedClock {
        Arc::clone(&self.clock)
    }

    /// Where clients connect.
    pub fn entries(&self) -> Vec<SocketAddr> {
        self.config.entries()
    }

    /// What the servers of real backends say of their version, by name.
    pub fn servers(&self) -> BTreeMap<String, String> {
        self.substrate.servers()
    }

    /// Ends every node and backend, and waits until they have ended.
    pub async fn stop(&self) {
        self.host.stop().await;
        self.substrate.stop().await;
    }
}
