//! The nodes that a system is to have, wherever they run.
use std::collections::BTreeSet;
use std::net::SocketAddr;

use chat_control::ControlError;
use chat_control::inspect::{NodeInfo, NodeState};
use chat_ports::registry::Role;

use crate::StartError;
use crate::config::Config;

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gateway,
    Service,
    Balancer,
}

impl Kind {
    /// Name under which the CPU time of a node is shown. Thread names are cut at 15 bytes, and their prefix says whose time
    /// it is.
    pub(crate) fn thread_name(self, node: &str) -> String {
        let prefix = match self {
            Self::Gateway => "gw-",
            Self::Service => "svc-",
            Self::Balancer => "lb-",
        };
        let mut name = format!("{prefix}{node}");
        name.truncate(name.floor_char_boundary(15));
        name
    }
}

/// One node of a system.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) roles: Vec<Role>,
    /// Where this process, or a client in it, reaches the node.
    pub(crate) addr: SocketAddr,
}

impl Unit {
    /// The node as the panel shows it.
    pub(crate) fn info(&self, state: NodeState, epoch: u64, connections: u64) -> NodeInfo {
        NodeInfo {
            name: self.name.clone(),
            roles: self.role_names(),
            addr: self.addr,
            epoch,
            state,
            connections,
        }
    }

    /// What it hosts, in words.
    pub(crate) fn role_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.roles.iter().map(|role| role.name().to_owned()).collect();
        if self.kind == Kind::Balancer {
            names.push("balancer".to_owned());
        }
        names
    }
}

/// The nodes of a system in the order in which they are started: services first, because a gateway is ready only with them; the
/// balancer last.
pub(crate) fn units_of(config: &Config) -> Result<Vec<Unit>, StartError> {
    for role in Role::SERVICES {
        if !config.services.iter().any(|node| node.roles.contains(&role)) {
            return Err(StartError::RoleWithoutNode(role.name()));
        }
    }
    let mut units = Vec::new();
    for (index, node) in (0..).zip(&config.services) {
        let (name, roles) = (node.name.clone(), node.roles.clone());
        units.push(Unit { name, kind: Kind::Service, roles, addr: config.service_addr(index) });
    }
    for index in 0..config.gateways {
        let (name, roles) = (Config::gateway_name(index), vec![Role::Gateway]);
        units.push(Unit { name, kind: Kind::Gateway, roles, addr: config.gateway_addr(index) });
    }
    if config.balancers > 0 {
        let (name, addr) = (Config::BALANCER.to_owned(), config.balancer_addr());
        units.push(Unit { name, kind: Kind::Balancer, roles: Vec::new(), addr });
    }
    let mut names = BTreeSet::new();
    match units.iter().find(|unit| !names.insert(&unit.name)) {
        Some(double) => Err(StartError::DoubleName(double.name.clone())),
        None => Ok(units),
    }
}

/// Refuses an act that does not fit the state of its target.
pub(crate) fn expect_state(
    node: &str,
    state: NodeState,
    fits: &[NodeState],
) -> Result<(), ControlError> {
    if fits.contains(&state) {
        return Ok(());
    }
    let state = format!("{state:?}").to_lowercase();
    Err(ControlError::State { target: node.to_owned(), state })
}
