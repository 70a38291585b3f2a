//! What a node is told before it starts: a JSON file.
use std::path::{Path, PathBuf};

use chat_ports::registry::Role;
use chat_protocol::limits::Timers;
use serde::{Deserialize, Serialize};

use crate::Policies;
use crate::config::Settings;
use crate::unit::Kind;

/// A larger file is no specification of a node.
const FILE_MAX: u64 = 1024 * 1024;

/// A node, and what it has to know of the system it is part of. What it hosts is said on the command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Unique name, for example `gateway-1`.
    pub name: String,
    /// Name by which other nodes reach it: it is resolved at the start, and the address is what the node registers and listens on.
    pub host: String,
    /// Port it serves on.
    pub port: u16,
    /// Port of its door.
    pub door: u16,
    /// Timers of every part.
    pub timers: Timers,
    /// Partitions of each topic.
    pub partitions: u32,
    /// Items of a device's relay queue.
    pub relay_queue: u64,
    /// Bytes of appends without answer.
    pub log_buffer: u64,
    /// Seed of jitter.
    pub seed: u64,
    /// Secret that signs tokens.
    pub secret: [u8; 32],
    /// Known-bad variants of the system, by name.
    pub variants: Vec<String>,
    /// The backends.
    pub backends: BackendPlaces,
    /// All gateways; only a balancer asks for them.
    pub gateways: Vec<GatewayPlace>,
}

/// How the backends are reached, each as `host:port`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendPlaces {
    /// Brokers to begin with, separated by commas.
    pub kafka: String,
    /// The one server.
    pub redis: String,
    /// The one server; it is dialled whatever it says of itself.
    pub cassandra: String,
    /// The one server.
    pub s3: S3Place,
}

/// The S3 server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Place {
    /// `http://host:port`.
    pub endpoint: String,
    /// Who signs.
    pub access_key: String,
    /// What signs.
    pub secret_key: String,
}

/// A gateway behind a balancer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayPlace {
    /// Its name.
    pub name: String,
    /// `host:port`.
    pub place: String,
}

/// Why a specification cannot be used. What to do about it is in [`SpecError::cure`].
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("`{path}` cannot be read", path = .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// The file is not a specification.
    #[error("`{path}` is no specification of a node", path = .0.display())]
    Invalid(PathBuf, #[source] serde_json::Error),
    /// The file is larger than a mebibyte.
    #[error("`{path}` is larger than any specification of a node", path = .0.display())]
    TooLarge(PathBuf),
    /// A variant has no such name.
    #[error("`variants` of node `{node}`: there is no variant `{variant}`")]
    Variant {
        /// Which node.
        node: String,
        /// What was asked for.
        variant: String,
    },
    /// Roles that no node has, or not together.
    #[error("no node has the roles `{0}`")]
    Roles(String),
}

impl SpecError {
    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Unreadable(..) | Self::Invalid(..) | Self::TooLarge(_) => {
                "`chatstorm run --substrate containers` writes this file for every node that it starts: `docker cp` shows one, at `/etc/chatstorm/node.json`"
            }
            Self::Variant { .. } => "`chatstorm list variants` shows what there is",
            Self::Roles(_) => {
                "give `gateway` or `balancer` alone, or any of `sessions`, `messaging`, `relay`, `history`"
            }
        }
    }
}

impl NodeSpec {
    /// Reads a specification, of 1 MiB at most.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let unreadable = |error| SpecError::Unreadable(path.to_owned(), error);
        if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX {
            return Err(SpecError::TooLarge(path.to_owned()));
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        serde_json::from_slice(&text).map_err(|error| SpecError::Invalid(path.to_owned(), error))
    }

    /// The settings it makes, with every variant planted.
    pub(super) fn settings(&self) -> Result<Settings, SpecError> {
        let mut policies = Policies::default();
        for variant in &self.variants {
            if !policies.plant(variant, self.seed) {
                let (node, variant) = (self.name.clone(), variant.clone());
                return Err(SpecError::Variant { node, variant });
            }
        }
        Ok(Settings {
            timers: self.timers,
            partitions: self.partitions,
            seed: self.seed,
            secret: self.secret,
            policies,
        })
    }
}

/// What a node is that hosts the named roles.
pub(super) fn place_of(names: &[String]) -> Result<(Kind, Vec<Role>), SpecError> {
    let refused = || SpecError::Roles(names.join(" "));
    match names {
        [] => Err(refused()),
        [one] if one == "gateway" => Ok((Kind::Gateway, vec![Role::Gateway])),
        [one] if one == "balancer" => Ok((Kind::Balancer, Vec::new())),
        some => {
            let known = |name: &String| Role::SERVICES.into_iter().find(|role| role.name() == name);
            let roles: Option<Vec<_>> = some.iter().map(known).collect();
            Ok((Kind::Service, roles.ok_or_else(refused)?))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A node that would find no backend.
    pub(in crate::process) fn spec(name: &str) -> NodeSpec {
        let s3 = S3Place {
            endpoint: "http://127.0.0.1:1".to_owned(),
            access_key: "a".to_owned(),
            secret_key: "b".to_owned(),
        };
        let nowhere = || "127.0.0.1:1".to_owned();
        NodeSpec {
            name: name.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 8_861,
            door: 8_862,
            timers: Timers::short(),
            partitions: 3,
            relay_queue: 10,
            log_buffer: 1_000,
            seed: 7,
            secret: [7; 32],
            variants: Vec::new(),
            backends: BackendPlaces {
                kafka: nowhere(),
                redis: nowhere(),
                cassandra: nowhere(),
                s3,
            },
            gateways: Vec::new(),
        }
    }

    #[test]
    fn a_specification_is_read_back_as_it_was_written() {
        let folder = std::env::temp_dir().join(format!("chatstorm-spec-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("node.json");
        std::fs::write(&file, serde_json::to_vec(&spec("gateway-1")).unwrap()).unwrap();
        let read = NodeSpec::read(&file).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", spec("gateway-1")));
        std::fs::write(&file, b"{\"name\": 3}").unwrap();
        assert!(matches!(NodeSpec::read(&file), Err(SpecError::Invalid(..))));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(NodeSpec::read(&file), Err(SpecError::Unreadable(..))));
    }

    #[test]
    fn variants_become_policies_and_an_unknown_one_is_refused() {
        let mut wanted = Policies::default();
        assert!(wanted.plant("sessions.no_lease", 7));
        let mut spec = spec("services-1");
        spec.variants = wanted.planted(7).into_iter().map(str::to_owned).collect();
        assert_eq!(spec.settings().unwrap().policies, wanted);
        spec.variants = vec!["sessions.nothing".to_owned()];
        assert!(matches!(spec.settings(), Err(SpecError::Variant { .. })));
    }

    #[test]
    fn gateways_and_balancers_host_nothing_else() {
        let place = |names: &[&str]| {
            place_of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert!(
            matches!(place(&["gateway"]), Ok((Kind::Gateway, roles)) if roles == [Role::Gateway])
        );
        assert!(matches!(place(&["balancer"]), Ok((Kind::Balancer, roles)) if roles.is_empty()));
        let (kind, roles) = place(&["relay", "history"]).unwrap();
        assert_eq!((kind, roles), (Kind::Service, vec![Role::Relay, Role::History]));
        for refused in [&[][..], &["gateway", "relay"], &["relay", "balancer"], &["cook"]] {
            assert!(place(refused).is_err(), "{refused:?}");
        }
    }
}
