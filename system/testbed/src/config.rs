//! What a system is built from: nodes, timers, limits, policies.
use std::net::SocketAddr;
use std::path::PathBuf;

use chat_embedded::log::ReadIsolation;
use chat_gateway::balancer::Backend;
use chat_ports::consumer::MidRule;
use chat_ports::registry::Role;
use chat_protocol::limits::Timers;

/// First port of a system; nodes get fixed ports above it, below 32768.
pub const BASE_PORT: u16 = 7_000;

/// One service node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNode {
    /// Unique name, for example `services-1`.
    pub name: String,
    /// What it hosts.
    pub roles: Vec<Role>,
}

/// A system to be started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Gateways, named `gateway-1` and so on.
    pub gateways: u16,
    /// Service nodes; every service role needs one.
    pub services: Vec<ServiceNode>,
    /// 0 or 1: one is named `balancer-1` and stands in front of all gateways.
    pub balancers: u16,
    /// Timers of every part.
    pub timers: Timers,
    /// Partitions of each topic.
    pub partitions: u32,
    /// Items of a device's relay queue.
    pub relay_queue: u64,
    /// Bytes of appends without answer.
    pub log_buffer: u64,
    /// First port.
    pub base_port: u16,
    /// Folder for history and blobs; it must exist and be empty.
    pub data: PathBuf,
    /// Seed of jitter.
    pub seed: u64,
    /// Wall time at the start, milliseconds since 1970.
    pub start_ms: u64,
    /// Secret that signs tokens.
    pub secret: [u8; 32],
    /// Policies of every part.
    pub policies: Policies,
    /// What stands behind the ports.
    pub backends: BackendsKind,
}

/// What stands behind the ports of a system.
#[derive(Clone, Debug, Default)]
pub enum BackendsKind {
    /// Everything in this process.
    #[default]
    Embedded,
    /// Kafka, Redis, Cassandra and an S3 server in containers.
    #[cfg(feature = "containers")]
    Containers(Box<crate::containers::ContainersConfig>),
}

/// Policies of every part; the default of each is the right one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of gateways.
    pub gateway: chat_gateway::Policies,
    /// Of the sessions service.
    pub sessions: chat_sessions::Policies,
    /// Of messaging.
    pub messaging: chat_messaging::Policies,
    /// Of relay.
    pub delivery: chat_relay::DeliveryRule,
    /// Of the fold's readers other than messaging.
    pub mids: MidRule,
    /// Of the event log.
    pub isolation: ReadIsolation,
}

/// What every node is told, besides its own name and place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) timers: Timers,
    pub(crate) partitions: u32,
    pub(crate) seed: u64,
    pub(crate) secret: [u8; 32],
    pub(crate) policies: Policies,
}

impl Config {
    /// Name of the balancer.
    pub(crate) const BALANCER: &str = "balancer-1";

    /// Name of a gateway, counted from 0.
    pub fn gateway_name(index: u16) -> String {
        format!("gateway-{}", u32::from(index) + 1)
    }

    /// Names of all nodes: gateways, service nodes, the balancer.
    pub fn node_names(&self) -> Vec<String> {
        let mut all: Vec<_> = (0..self.gateways).map(Self::gateway_name).collect();
        all.extend(self.services.iter().map(|node| node.name.clone()));
        all.extend((self.balancers > 0).then(|| Self::BALANCER.to_owned()));
        all
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            timers: self.timers,
            partitions: self.partitions,
            seed: self.seed,
            secret: self.secret,
            policies: self.policies,
        }
    }

    /// The gateways as a balancer in this process reaches them.
    pub(crate) fn gateways_here(&self) -> Vec<Backend> {
        let here =
            |index| Backend { name: Self::gateway_name(index), addr: self.gateway_addr(index) };
        (0..self.gateways).map(here).collect()
    }

    /// Address of a gateway, counted from 0.
    pub fn gateway_addr(&self, index: u16) -> SocketAddr {
        self.addr(101 + index)
    }

    /// Address of a service node, counted from 0.
    pub fn service_addr(&self, index: u16) -> SocketAddr {
        self.addr(201 + index)
    }

    /// Address of the balancer.
    pub fn balancer_addr(&self) -> SocketAddr {
        self.addr(80)
    }

    /// Where clients connect: the balancer, or every gateway.
    pub fn entries(&self) -> Vec<SocketAddr> {
        if self.balancers > 0 {
            vec![self.balancer_addr()]
        } else {
            (0..self.gateways).map(|index| self.gateway_addr(index)).collect()
        }
    }

    /// Every address that a node of the system listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let services = u16::try_from(self.services.len()).unwrap_or(u16::MAX);
        let mut all: Vec<_> = (0..self.gateways).map(|index| self.gateway_addr(index)).collect();
        all.extend((0..services).map(|index| self.service_addr(index)));
        if self.balancers > 0 {
            all.push(self.balancer_addr());
        }
        all
    }

    fn addr(&self, above: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base_port + above))
    }
}
