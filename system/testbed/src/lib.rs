//! Wires services and ports into a running system; the only place that names concrete backends. Start here.
//!
//! A system of the embedded substrate lives in one process: every node on an OS thread with a runtime of its own, every
//! backend on threads of its own, everything between nodes over real sockets.
//!
//! - [`config`] what a system is built from.
//! - [`Testbed`] a running system; [`Testbed::control`] is its panel.
//! - `substrate` what a system stands on; `embedded` every backend in this process, `containers` (with the feature) real ones.
//! - `node` what runs on a node's thread.
//! - `thread` kill, pause and resume of a thread.
//! - `panel` the control door.
//! - `leases` a registry whose leases never end.
//! - `cpu` CPU time by thread.
//! - `variant` known-bad variants as policies.
pub mod config;
#[cfg(feature = "containers")]
pub mod containers;
mod cpu;
mod embedded;
mod leases;
mod node;
mod panel;
mod substrate;
mod thread;
mod variant;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chat_control::inspect::NodeState;
use chat_control::{Control, ControlError};
use chat_ports::PortError;
use chat_ports::clock::{SharedClock, SteadyClock};
use chat_ports::consumer::FoldViews;
use chat_ports::observe::Observer;
use chat_sessions::LeaseRule;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

pub use chat_ports::registry::Role;
pub use config::{BASE_PORT, BackendsKind, Config, Policies, ServiceNode};

use crate::cpu::CpuLedger;
use crate::embedded::Embedded;
use crate::leases::EndlessLeases;
use crate::node::{Shared, Signs, Start};
use crate::substrate::{Ports, PortsMaker, Substrate};
use crate::thread::NodeThread;

/// How long a node may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(10);

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

/// What a node is, running or not.
struct Slot {
    kind: Kind,
    roles: Vec<Role>,
    addr: SocketAddr,
    state: NodeState,
    signs: Arc<Signs>,
    drain: CancellationToken,
    thread: Option<NodeThread>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gateway,
    Service,
    Balancer,
}

impl Kind {
    /// Thread names are cut at 15 bytes, and their prefix says whose CPU time it is.
    fn thread_name(self, node: &str) -> String {
        let prefix = match self {
            Self::Gateway => "gw-",
            Self::Service => "svc-",
            Self::Balancer => "lb-",
        };
        let mut name = format!("{prefix}{node}");
        name.truncate(15);
        name
    }
}

/// A running system.
pub struct Testbed {
    shared: Arc<Shared>,
    slots: Mutex<BTreeMap<String, Slot>>,
    substrate: Arc<dyn Substrate>,
    cpu: Arc<CpuLedger>,
}

impl Testbed {
    /// Starts backends, service nodes, gateways and the balancer, in this order, and waits until all are ready.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let mut slots = slots_of(&config)?;
        for role in Role::SERVICES {
            if !config.services.iter().any(|node| node.roles.contains(&role)) {
                return Err(StartError::RoleWithoutNode(role.name()));
            }
        }
        let clock: SharedClock = Arc::new(SteadyClock::new(config.start_ms));
        let observer = Observer::new(Arc::clone(&clock));
        let substrate: Arc<dyn Substrate> = match &config.backends {
            BackendsKind::Embedded => Arc::new(Embedded::start(&config, &clock, &observer)?),
            #[cfg(feature = "containers")]
            BackendsKind::Containers(wanted) => {
                let start = containers::Containers::start(&config, wanted, &observer);
                Arc::new(Box::pin(start).await?)
            }
        };
        let names: Vec<_> = start_order(&slots);
        let shared = Arc::new(Shared { config, clock, observer, folds: FoldViews::default() });
        let cpu = Arc::new(CpuLedger::default());
        for name in names {
            let slot = slots.get_mut(&name).expect("the order lists the slots");
            start_node(&shared, &*substrate, &cpu, &name, slot).await?;
        }
        Ok(Arc::new(Self { shared, slots: Mutex::new(slots), substrate, cpu }))
    }

    /// The panel.
    pub fn control(self: &Arc<Self>) -> Arc<dyn Control> {
        Arc::clone(self) as Arc<dyn Control>
    }

    /// The wall clock of the system.
    pub fn clock(&self) -> SharedClock {
        Arc::clone(&self.shared.clock)
    }

    /// Where clients connect.
    pub fn entries(&self) -> Vec<SocketAddr> {
        self.shared.config.entries()
    }

    /// Ends every node and backend and joins their threads.
    pub async fn stop(&self) {
        let mut slots = self.slots.lock().await;
        for slot in slots.values_mut() {
            slot.state = NodeState::Stopped;
            if let Some(thread) = slot.thread.take() {
                thread.kill().await;
            }
        }
        self.substrate.stop().await;
    }
}

fn slots_of(config: &Config) -> Result<BTreeMap<String, Slot>, StartError> {
    let mut slots = BTreeMap::new();
    let mut add = |name: String, kind, roles, addr| {
        let slot = Slot {
            kind,
            roles,
            addr,
            state: NodeState::Stopped,
            signs: Arc::default(),
            drain: CancellationToken::new(),
            thread: None,
        };
        if slots.insert(name.clone(), slot).is_some() {
            Err(StartError::DoubleName(name))
        } else {
            Ok(())
        }
    };
    for index in 0..config.gateways {
        add(
            format!("gateway-{}", index + 1),
            Kind::Gateway,
            vec![Role::Gateway],
            config.gateway_addr(index),
        )?;
    }
    for (index, node) in (0..).zip(&config.services) {
        add(node.name.clone(), Kind::Service, node.roles.clone(), config.service_addr(index))?;
    }
    if config.balancers > 0 {
        add("balancer-1".to_owned(), Kind::Balancer, Vec::new(), config.balancer_addr())?;
    }
    Ok(slots)
}

/// Services first, because a gateway is ready only with them; the balancer last.
fn start_order(slots: &BTreeMap<String, Slot>) -> Vec<String> {
    [Kind::Service, Kind::Gateway, Kind::Balancer]
        .into_iter()
        .flat_map(|kind| {
            slots.iter().filter(move |(_, slot)| slot.kind == kind).map(|(name, _)| name.clone())
        })
        .collect()
}

/// Starts a node that does not run and waits until it is ready.
async fn start_node(
    shared: &Arc<Shared>,
    substrate: &dyn Substrate,
    cpu: &Arc<CpuLedger>,
    name: &str,
    slot: &mut Slot,
) -> Result<(), ControlError> {
    let (ready, mut is_ready) = watch::channel(false);
    slot.drain = CancellationToken::new();
    let (kind, addr, roles) = (slot.kind, slot.addr, slot.roles.clone());
    let (shared, signs, drain) = (Arc::clone(shared), Arc::clone(&slot.signs), slot.drain.clone());
    let node: Arc<str> = name.into();
    let make = substrate.ports_of(name);
    let main: thread::Main = Box::new(move || {
        let main: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            let lease = shared.config.policies.sessions.lease;
            let ports = match ports_of(make, lease).await {
                Ok(ports) => ports,
                Err(error) => {
                    tracing::error!(%node, %error, "The node has no ports.");
                    return;
                }
            };
            let shutdown = CancellationToken::new();
            let start =
                Start { name: node, addr, roles, shared, ports, signs, ready, drain, shutdown };
            match kind {
                Kind::Gateway => Box::pin(node::gateway(start)).await,
                Kind::Service => Box::pin(node::service(start)).await,
                Kind::Balancer => Box::pin(node::balancer(start)).await,
            }
        });
        main
    });
    let thread = NodeThread::start(&kind.thread_name(name), Arc::clone(cpu), main)
        .map_err(|error| ControlError::Failed(format!("no thread for `{name}`: {error}")))?;
    let ready = tokio::time::timeout(READY_LIMIT, is_ready.wait_for(|ready| *ready))
        .await
        .map(|ready| ready.is_ok());
    match ready {
        Ok(true) => {
            slot.thread = Some(thread);
            slot.state = NodeState::Running;
            Ok(())
        }
        Ok(false) => {
            thread.kill().await;
            Err(ControlError::Failed(format!(
                "`{name}` ended before it was ready; is port {} taken?",
                addr.port()
            )))
        }
        Err(_) => {
            thread.kill().await;
            Err(ControlError::TimedOut(name.to_owned()))
        }
    }
}

/// The ports of a node, with the leases that its policy asks for.
async fn ports_of(make: PortsMaker, leases: LeaseRule) -> Result<Ports, PortError> {
    let mut ports = make().await?;
    if leases == LeaseRule::Ignored {
        ports.node.registry = Arc::new(EndlessLeases(ports.node.registry));
    }
    Ok(ports)
}
