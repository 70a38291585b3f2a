//! The system section of scenario and experiment files: how many nodes, which roles, which settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Document, FileError, hint};
use crate::units::Size;

/// Nodes of one kind that one process carries.
const NODES_MAX: u32 = 32;
/// Partitions of one topic.
const PARTITIONS_MAX: u32 = 256;

/// A service that a node can host.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The WebSocket manager: user to device to node leases.
    Sessions,
    /// Intake and sequencer of messages.
    Messaging,
    /// The queue of what is not yet acknowledged.
    Relay,
    /// Writer and reader of the message history.
    History,
}

impl Role {
    /// Every service role; each needs a node.
    pub const ALL: &[Role] = &[Role::Sessions, Role::Messaging, Role::Relay, Role::History];

    /// The word in files.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Sessions => "sessions",
            Role::Messaging => "messaging",
            Role::Relay => "relay",
            Role::History => "history",
        }
    }
}

/// How a message reaches the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryMode {
    /// Through the event log; sending does not wait for the store.
    #[default]
    Queued,
}

/// End-to-end encryption of message bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum E2ee {
    /// Bodies travel as they are.
    Off,
    /// One sealed envelope a message.
    #[default]
    Envelope,
}

/// Which set of timers the system runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Timers {
    /// Those of production.
    #[default]
    Default,
    /// A tenth of every timer, leases and log sessions a fifth.
    Short,
}

/// A service node with its roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Unique name, for example `messaging-1`.
    pub name: String,
    /// What it hosts; at least one.
    pub roles: Vec<Role>,
}

/// Overrides of limits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Items a device's relay queue holds before it is trimmed; 10,000 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_queue: Option<u32>,
    /// Bytes that wait for the event log before sends are refused; 32 MiB when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_buffer: Option<Size>,
}

/// The event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSpec {
    /// Partitions of a topic.
    pub partitions: u32,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { partitions: 16 }
    }
}

/// The system section with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SystemSpec {
    /// WebSocket gateways.
    pub gateways: u32,
    /// Service nodes that each host every role; not together with `nodes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<u32>,
    /// Service nodes with named roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<NodeSpec>>,
    /// Load balancers in front of the gateways: 0 or 1.
    pub balancers: u32,
    /// How messages reach the history.
    pub history: HistoryMode,
    /// Encryption of bodies.
    pub e2ee: E2ee,
    /// Timers.
    pub timers: Timers,
    /// Limits that differ from the defaults.
    pub limits: Limits,
    /// The event log.
    pub log: LogSpec,
    /// Known-bad variants that are switched on.
    pub variants: Vec<String>,
}

impl Default for SystemSpec {
    fn default() -> Self {
        Self {
            gateways: 3,
            services: None,
            nodes: None,
            balancers: 0,
            history: HistoryMode::default(),
            e2ee: E2ee::default(),
            timers: Timers::default(),
            limits: Limits::default(),
            log: LogSpec::default(),
            variants: Vec::new(),
        }
    }
}

impl SystemSpec {
    /// The service nodes, named `services-1` onward unless the file names them.
    pub fn service_nodes(&self) -> Vec<NodeSpec> {
        match &self.nodes {
            Some(nodes) => nodes.clone(),
            None => (1..=self.services.unwrap_or(2))
                .map(|n| NodeSpec { name: format!("services-{n}"), roles: Role::ALL.to_vec() })
                .collect(),
        }
    }

    /// The names of the gateways.
    pub fn gateway_names(&self) -> Vec<String> {
        (1..=self.gateways).map(|n| format!("gateway-{n}")).collect()
    }

    /// The names of the balancers.
    pub fn balancer_names(&self) -> Vec<String> {
        (1..=self.balancers).map(|n| format!("balancer-{n}")).collect()
    }

    /// Everything impossible about the section at `path` of `doc`.
    pub fn check(&self, doc: &Document, path: &str, variants: &[&str]) -> Vec<FileError> {
        let mut errors = Vec::new();
        let at = |key: &str| format!("{path}.{key}");
        let mut wrong = |key: &str, message: String, help: String| {
            errors.push(doc.error_at(&at(key), message).with_help(help));
        };
        if !(1..=NODES_MAX).contains(&self.gateways) {
            wrong(
                "gateways",
                format!("{} gateways cannot run", self.gateways),
                format!("from 1 to {NODES_MAX}"),
            );
        }
        if self.balancers > 1 {
            wrong(
                "balancers",
                format!("{} balancers cannot run", self.balancers),
                "0 or 1".to_owned(),
            );
        }
        if self.services.is_some_and(|n| !(1..=NODES_MAX).contains(&n)) {
            wrong(
                "services",
                "this number of service nodes cannot run".to_owned(),
                format!("from 1 to {NODES_MAX}"),
            );
        }
        if self.services.is_some() && self.nodes.is_some() {
            wrong(
                "nodes",
                "`services` and `nodes` exclude each other".to_owned(),
                "keep one of them".to_owned(),
            );
        }
        if !(1..=PARTITIONS_MAX).contains(&self.log.partitions) {
            wrong(
                "log.partitions",
                "this number of partitions cannot run".to_owned(),
                format!("from 1 to {PARTITIONS_MAX}"),
            );
        }
        if let Some(nodes) = &self.nodes {
            for (ix, node) in nodes.iter().enumerate() {
                if node.roles.is_empty() {
                    wrong(
                        &format!("nodes.{ix}"),
                        format!("`{}` hosts no role", node.name),
                        "give it at least one role".to_owned(),
                    );
                }
                let taken = nodes[..ix].iter().any(|n| n.name == node.name)
                    || self.gateway_names().contains(&node.name)
                    || self.balancer_names().contains(&node.name);
                if taken {
                    wrong(
                        &format!("nodes.{ix}.name"),
                        format!("two nodes are named `{}`", node.name),
                        "names are unique".to_owned(),
                    );
                }
            }
            for role in Role::ALL {
                if !nodes.iter().any(|node| node.roles.contains(role)) {
                    wrong(
                        "nodes",
                        format!("no node hosts the role `{}`", role.name()),
                        "every role needs a node".to_owned(),
                    );
                }
            }
        }
        for (ix, name) in self.variants.iter().enumerate() {
            if !variants.contains(&name.as_str()) {
                wrong(
                    &format!("variants.{ix}"),
                    format!("unknown variant `{name}`"),
                    hint(name, variants),
                );
            }
        }
        errors
    }
}
