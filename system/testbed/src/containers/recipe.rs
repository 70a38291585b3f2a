//! How each backend is started: image, files, command, ports. `system/testbed/images/README.md` says what was measured.
use std::net::{Ipv4Addr, SocketAddr};

use bollard::models::{Mount, MountType};
use testcontainers::core::IntoContainerPort as _;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};

use super::engine::EngineError;
use super::images::Images;
use super::leftovers::{OWNER, Owner, RUN};
use super::toxiproxy::{Backend, LinkPlan, Route};

/// Brokers of the log; each is a controller too.
pub(super) const BROKERS: u16 = 3;
/// Records are on this many brokers before they are acknowledged.
pub(super) const MIN_INSYNC: u16 = 2;
/// Keys of the S3 server: it is reached from this host only, and holds nothing but fold snapshots of a simulation.
pub(super) const S3_ACCESS_KEY: &str = "chatstorm";
/// See [`S3_ACCESS_KEY`].
pub(super) const S3_SECRET_KEY: &str = "chatstorm-secret";

const KAFKA_CONFIG: &str = include_str!("../../images/recipes/kafka.properties");
const KAFKA_START: &str = include_str!("../../images/recipes/kafka-start");
const CASSANDRA_CONFIG: &str = include_str!("../../images/recipes/cassandra.yaml");
const CASSANDRA_START: &str = include_str!("../../images/recipes/cassandra-start");
const CASSANDRA_ARGS: &str = include_str!("../../images/recipes/cassandra-jvm.args");
const CASSANDRA_LOGBACK: &str = include_str!("../../images/recipes/cassandra-logback.xml");
/// Any 16 bytes in base64; all brokers of a run have the same.
const CLUSTER_ID: &str = "Y2hhdHN0b3JtLWthZmthIQ";

/// A running container; dropping it removes it.
pub(super) type Running = ContainerAsync<GenericImage>;
/// A container that is to be started.
pub(super) type Request = ContainerRequest<GenericImage>;

/// Where everything of a run goes by name and port.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Value of the label, and first part of every name.
    pub(super) run: String,
    /// First port of the system.
    pub(super) base_port: u16,
}

impl Layout {
    pub(super) fn network(&self) -> String {
        format!("chatstorm-{}", self.run)
    }

    /// Name of a container, by which others on the network reach it.
    pub(super) fn name(&self, what: &str) -> String {
        format!("chatstorm-{}-{what}", self.run)
    }

    /// Brokers are numbered from 1.
    pub(super) fn broker(&self, number: u32) -> String {
        self.name(&format!("kafka-{number}"))
    }

    pub(super) fn broker_port(&self, number: u16) -> u16 {
        self.base_port + 10 + number
    }

    pub(super) fn redis_port(&self) -> u16 {
        self.base_port + 21
    }

    pub(super) fn cassandra_port(&self) -> u16 {
        self.base_port + 31
    }

    pub(super) fn s3_port(&self) -> u16 {
        self.base_port + 41
    }

    /// Of its HTTP interface; its listeners are those of the plan.
    pub(super) fn toxiproxy_port(&self) -> u16 {
        LinkPlan::api_port(self.base_port)
    }

    /// How a backend is reached without Toxiproxy: by containers and by this host.
    pub(super) fn route(&self, backend: Backend) -> Route {
        let (inside, published) = match backend {
            Backend::Redis => (6_379, self.redis_port()),
            Backend::Cassandra => (self.cassandra_port(), self.cassandra_port()),
        };
        Route {
            upstream: format!("{}:{inside}", self.name(backend.name())),
            direct: SocketAddr::from((Ipv4Addr::LOCALHOST, published)),
        }
    }

    /// Every port that may be published.
    pub(super) fn ports(&self) -> Vec<u16> {
        let mut all: Vec<_> = (1..=BROKERS).map(|number| self.broker_port(number)).collect();
        all.extend([self.redis_port(), self.cassandra_port(), self.s3_port()]);
        all.extend(LinkPlan::range(self.base_port));
        all
    }

    /// A container of the run, with one published port as (here, inside).
    pub(super) fn request(&self, image: &str, what: &str, port: (u16, u16)) -> Request {
        // A reference without a tag means the newest, as everywhere.
        let (name, tag) = match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (image, "latest"),
        };
        let (host, inside) = port;
        GenericImage::new(name, tag)
            .with_container_name(self.name(what))
            .with_network(self.network())
            .with_label(RUN, &self.run)
            .with_label(OWNER, Owner::this_process().label())
            .with_mapped_port(host, inside.tcp())
    }

    pub(super) fn kafka(&self, images: &Images, number: u16) -> Request {
        let voters: Vec<_> =
            (1..=BROKERS).map(|n| format!("{n}@{}:9093", self.broker(u32::from(n)))).collect();
        let port = self.broker_port(number);
        let config = fill(
            KAFKA_CONFIG,
            &[
                ("node", &number.to_string()),
                ("voters", &voters.join(",")),
                ("name", &self.broker(u32::from(number))),
                ("port", &port.to_string()),
                ("replication", &BROKERS.to_string()),
                ("min_insync", &MIN_INSYNC.to_string()),
            ],
        );
        self.request(&images.kafka, &format!("kafka-{number}"), (port, 19_092))
            .with_copy_to("/etc/chatstorm/kafka.properties", config.into_bytes())
            .with_copy_to("/etc/chatstorm/kafka-start", KAFKA_START.as_bytes().to_vec())
            .with_cmd(["sh", "/etc/chatstorm/kafka-start", CLUSTER_ID])
    }

    pub(super) fn redis(&self, images: &Images) -> Request {
        let command =
            "redis-server --appendonly yes --appendfsync everysec --protected-mode no --save";
        let words = command.split(' ').chain([""]);
        self.request(&images.redis, "redis", (self.redis_port(), 6_379)).with_cmd(words)
    }

    pub(super) fn cassandra(&self, images: &Images) -> Request {
        let port = self.cassandra_port();
        let config = fill(
            CASSANDRA_CONFIG,
            &[
                ("name", &self.name("cassandra")),
                ("broadcast", "127.0.0.1"),
                ("port", &port.to_string()),
            ],
        );
        let file = |text: &str| text.as_bytes().to_vec();
        self.request(&images.cassandra, "cassandra", (port, port))
            .with_copy_to("/etc/chatstorm/cassandra.yaml", config.into_bytes())
            .with_copy_to("/etc/chatstorm/cassandra-jvm.args", file(CASSANDRA_ARGS))
            .with_copy_to("/etc/chatstorm/cassandra-logback.xml", file(CASSANDRA_LOGBACK))
            .with_copy_to("/etc/chatstorm/cassandra-start", file(CASSANDRA_START))
            .with_cmd(["sh", "/etc/chatstorm/cassandra-start"])
    }

    pub(super) fn s3(&self, images: &Images) -> Request {
        self.request(&images.s3, "s3", (self.s3_port(), 7_070))
            .with_env_var("ROOT_ACCESS_KEY", S3_ACCESS_KEY)
            .with_env_var("ROOT_SECRET_KEY", S3_SECRET_KEY)
            // Volumes without a name: they are made for the container and go with it.
            .with_host_config_modifier(|host| {
                let volume = |target: &str| Mount {
                    target: Some(target.to_owned()),
                    typ: Some(MountType::VOLUME),
                    ..Mount::default()
                };
                host.mounts = Some(vec![volume("/data"), volume("/iam")]);
            })
            .with_cmd("--port 0.0.0.0:7070 --health /health posix --sidecar /iam /data".split(' '))
    }

    /// Listeners are opened later, but ports can only be published now.
    pub(super) fn toxiproxy(&self, images: &Images, plan: &LinkPlan) -> Request {
        let api = self.request(&images.toxiproxy, "toxiproxy", (self.toxiproxy_port(), 8_474));
        let listeners = plan.all().iter().map(|planned| planned.port);
        listeners
            .fold(api, |request, port| request.with_mapped_port(port, port.tcp()))
            .with_cmd(["-host=0.0.0.0"])
    }
}

/// Starts a container.
pub(super) async fn start(request: Request) -> Result<Running, EngineError> {
    request.start().await.map_err(|error| EngineError::Refused {
        act: "start a container".to_owned(),
        why: error.to_string(),
    })
}

/// Puts values in place of their names in braces.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_brace_of_a_recipe_is_filled() {
        let text = fill(
            "node.id={node}\nname={name}:{port}",
            &[("node", "1"), ("name", "a"), ("port", "7011")],
        );
        assert_eq!(text, "node.id=1\nname=a:7011");
    }

    #[test]
    fn ports_are_apart_and_below_the_ephemeral_range() {
        let layout = Layout { run: "r".to_owned(), base_port: 7_000 };
        let ports = layout.ports();
        let apart: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(apart.len(), ports.len());
        assert!(ports.iter().all(|port| (7_001..7_080).contains(port)));
    }
}
