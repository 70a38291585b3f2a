//! What the container of a node is started from: the image, its specification, its ports.
use std::net::{Ipv4Addr, SocketAddr};

use testcontainers::core::IntoContainerPort as _;
use testcontainers::{ContainerRequest, GenericImage, ImageExt as _};

use super::super::ContainersConfig;
use super::super::engine::EngineError;
use super::super::recipe::{BROKERS, Layout, S3_ACCESS_KEY, S3_SECRET_KEY};
use super::super::toxiproxy::{Backend, LinkPlan};
use crate::Policies;
use crate::config::Config;
use crate::process::{BackendPlaces, GatewayPlace, NodeSpec, S3Place};
use crate::unit::Unit;

/// First port of the doors above the system's first one.
const DOORS: u16 = 301;
/// Nodes whose doors fit below the ports of the fault proxies.
const NODES_MAX: u16 = 199;
/// Where the specification lies in the container.
const SPEC: &str = "/etc/chatstorm/node.json";

/// Where the doors of a system's nodes will be published on this host.
pub fn doors(config: &Config) -> Vec<SocketAddr> {
    let nodes = u16::try_from(config.node_names().len()).unwrap_or(NODES_MAX).min(NODES_MAX);
    let here = |number| SocketAddr::from((Ipv4Addr::LOCALHOST, config.base_port + DOORS + number));
    (0..nodes).map(here).collect()
}

/// Refuses more nodes than doors.
pub(super) fn expect_doors(nodes: usize) -> Result<(), EngineError> {
    if nodes <= usize::from(NODES_MAX) {
        return Ok(());
    }
    let why = format!("{nodes} nodes, and there are ports for {NODES_MAX}");
    Err(EngineError::Refused { act: "give every node a door".to_owned(), why })
}

/// What all nodes are started from.
pub(super) struct Recipe {
    pub(super) layout: Layout,
    image: String,
    config: Config,
    variants: Vec<String>,
    plan: LinkPlan,
}

impl Recipe {
    pub(super) fn new(
        config: &Config,
        wanted: &ContainersConfig,
        plan: LinkPlan,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            plan,
            variants: named(&config.policies, config.seed)?,
            layout: Layout { run: wanted.run.clone(), base_port: config.base_port },
            image: wanted.images.node.clone(),
            config: config.clone(),
        })
    }

    /// Port of the door of the node of that number, counted from 0.
    pub(super) fn door(&self, number: usize) -> u16 {
        self.config.base_port + DOORS + u16::try_from(number).unwrap_or(0)
    }

    /// The container of the node of that number.
    pub(super) fn request(
        &self,
        unit: &Unit,
        number: usize,
    ) -> Result<ContainerRequest<GenericImage>, EngineError> {
        let door = self.door(number);
        let spec = self.spec(unit, door);
        let text = serde_json::to_vec_pretty(&spec).map_err(|error| EngineError::Refused {
            act: "write the specification of a node".to_owned(),
            why: error.to_string(),
        })?;
        let roles = unit.role_names();
        let words = ["node", "--spec", SPEC, "--role"].into_iter().map(str::to_owned).chain(roles);
        Ok(self
            .layout
            .request(&self.image, &unit.name, (unit.addr.port(), unit.addr.port()))
            .with_mapped_port(door, door.tcp())
            .with_copy_to(SPEC, text)
            .with_cmd(words))
    }

    fn spec(&self, unit: &Unit, door: u16) -> NodeSpec {
        let config = &self.config;
        let gateway = |index| {
            let (name, port) = (Config::gateway_name(index), config.gateway_addr(index).port());
            let place = format!("{}:{port}", self.layout.name(&name));
            GatewayPlace { name, place }
        };
        NodeSpec {
            name: unit.name.clone(),
            host: self.layout.name(&unit.name),
            port: unit.addr.port(),
            door,
            timers: config.timers,
            partitions: config.partitions,
            relay_queue: config.relay_queue,
            log_buffer: config.log_buffer,
            seed: config.seed,
            secret: config.secret,
            variants: self.variants.clone(),
            backends: self.backends(&unit.name),
            gateways: (0..config.gateways).map(gateway).collect(),
        }
    }

    /// The backends as a node inside the network reaches them, through its own listeners where its links are conditioned.
    fn backends(&self, node: &str) -> BackendPlaces {
        let layout = &self.layout;
        let place = |backend| match self.plan.port(backend, node) {
            Some(port) => format!("{}:{port}", layout.name("toxiproxy")),
            None => layout.route(backend).upstream,
        };
        let broker = |number: u16| format!("{}:9092", layout.broker(u32::from(number)));
        BackendPlaces {
            kafka: (1..=BROKERS).map(broker).collect::<Vec<_>>().join(","),
            redis: place(Backend::Redis),
            cassandra: place(Backend::Cassandra),
            s3: S3Place {
                endpoint: format!("http://{}:7070", layout.name("s3")),
                access_key: S3_ACCESS_KEY.to_owned(),
                secret_key: S3_SECRET_KEY.to_owned(),
            },
        }
    }
}

/// The variants that make policies; a node in a container cannot have others, and must not have less.
fn named(policies: &Policies, seed: u64) -> Result<Vec<String>, EngineError> {
    let names = policies.planted(seed);
    let mut again = Policies::default();
    for name in &names {
        again.plant(name, seed);
    }
    if again == *policies {
        return Ok(names.into_iter().map(str::to_owned).collect());
    }
    let why = format!("no variants make the policies {policies:?}");
    Err(EngineError::Refused { act: "hand policies to a node in a container".to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_reach_a_node_by_name_and_others_are_refused() {
        let mut policies = Policies::default();
        assert!(policies.plant("sessions.no_lease", 7));
        assert_eq!(named(&policies, 7).unwrap(), ["sessions.no_lease"]);
        assert!(policies.plant("messaging.random_mid", 8));
        assert!(named(&policies, 7).is_err(), "planted with another seed");
    }
}
