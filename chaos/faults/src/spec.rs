//! What a file says about a fault: the closed list of faults, their attributes and how targets are picked. Data only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use storm_workload::units::{Share, Time};

/// A kind of node that a fault can aim at.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// Gateways.
    Gateway,
    /// Balancers.
    Balancer,
    /// Service nodes, whatever they host.
    Service,
    /// Service nodes that host the WebSocket manager.
    Sessions,
    /// Service nodes that host intake and sequencer.
    Messaging,
    /// Service nodes that host the relay.
    Relay,
    /// Service nodes that host the history.
    History,
}

/// Which nodes: by name, or some of a role drawn from the seed. `role` alone means one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeSelector {
    /// Nodes of this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<NodeRole>,
    /// So many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// This share of them, rounded to the nearest and at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// The node of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl NodeSelector {
    /// What makes the selector meaningless, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        match (self.role, &self.name, self.count, self.share) {
            (None, None, ..) => Some("give `role` or `name`"),
            (Some(_), Some(_), ..) => Some("`role` and `name` exclude each other"),
            (None, Some(_), Some(_), _) | (None, Some(_), _, Some(_)) => {
                Some("a `name` is one node: no `count`, no `share`")
            }
            (_, _, Some(_), Some(_)) => Some("`count` and `share` exclude each other"),
            (_, _, Some(0), _) => Some("a `count` of 0 selects nothing"),
            (_, _, _, Some(Share(0))) => Some("a `share` of 0 selects nothing"),
            _ => None,
        }
    }
}

/// Which devices, drawn from the seed among those that the plan has online.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSelector {
    /// This share of them, rounded to the nearest and at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// So many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

impl DeviceSelector {
    /// What makes the selector meaningless, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        match (self.share, self.count) {
            (None, None) => Some("give `share` or `count`"),
            (Some(_), Some(_)) => Some("`share` and `count` exclude each other"),
            (Some(Share(0)), _) | (_, Some(0)) => Some("0 devices select nothing"),
            _ => None,
        }
    }

    /// How many of `devices` are meant.
    pub fn wanted(&self, devices: u64) -> u64 {
        match (self.share, self.count) {
            (Some(share), _) => share.of(devices).max(1),
            (_, Some(count)) => u64::from(count),
            _ => 0,
        }
    }
}

/// A log partition whose leader is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaderOf {
    /// The partition with most records so far.
    BusiestPartition,
    /// This partition of the message topic.
    Partition(u32),
}

/// Which brokers of the event log: some drawn from the seed, one leader, or one by number from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrokerSelector {
    /// So many, drawn from the seed.
    Count(u32),
    /// The leader of a partition at the time of injection.
    LeaderOf(LeaderOf),
    /// The broker of this number, from 0.
    Broker(u32),
    /// Every broker that does not lead the partition at the time of injection.
    FollowersOf(LeaderOf),
}

/// How a node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KillHow {
    /// Its process ends: every socket closes at once.
    #[default]
    Process,
    /// It stops executing and no FIN leaves; its sockets stay open until the heal.
    Silent,
}

/// One or both ways of a client link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Client to gateway.
    Up,
    /// Gateway to client.
    Down,
    /// Both ways.
    #[default]
    Both,
}

/// A port whose calls can be conditioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Port {
    /// The session registry and relay store.
    Registry,
    /// The store of history and tables.
    History,
}

/// A consumer group of the event log that can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The sequencers.
    Messaging,
    /// The history writers.
    History,
}

/// A node dies and starts again, empty, at the heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which.
    pub node: NodeSelector,
    /// How.
    #[serde(default)]
    pub how: KillHow,
}

/// A node says goodbye, hands its devices a window and leaves; it starts again at the heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Which.
    pub node: NodeSelector,
}

/// A node's thread stops and goes on at the heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Which.
    pub node: NodeSelector,
}

/// Client links that are open go silent without closing at the node; those dialled later are sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlackHole {
    /// Whose.
    pub devices: DeviceSelector,
    /// Which way.
    #[serde(default)]
    pub direction: Direction,
    /// Who learns of it at once.
    #[serde(default)]
    pub told: Told,
}

/// Who learns at once that a link went silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// Nobody: both ends have to find out.
    #[default]
    Nobody,
    /// The device, as a phone that changes its network: its end is reset and it comes back while its node still takes the old
    /// link for alive. Needs both directions.
    Device,
}

/// Client connections are reset, and those dialled again meanwhile as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// Whose.
    pub devices: DeviceSelector,
}

/// Client connections are cut in one instant; those dialled later are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CutAll {
    /// Whose.
    pub devices: DeviceSelector,
}

/// Client links get slower, each way, and those dialled meanwhile as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowLink {
    /// Whose.
    pub devices: DeviceSelector,
    /// Added to every chunk in each direction named.
    pub latency: Time,
    /// Varies the latency by up to this much, up or down.
    #[serde(default)]
    pub jitter: Time,
    /// Which way.
    #[serde(default)]
    pub direction: Direction,
}

/// Brokers stop; they start again at the heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerKill {
    /// Which.
    pub broker: BrokerSelector,
}

/// Brokers take longer for every append and every replica fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerSlow {
    /// Which.
    pub broker: BrokerSelector,
    /// By how much.
    pub delay: Time,
}

/// A consumer group stops reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerPause {
    /// Which.
    pub group: Group,
}

/// Calls of a port take longer, for every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortSlow {
    /// Which port.
    pub port: Port,
    /// By how much.
    pub delay: Time,
    /// Varies the delay by up to this much, up or down.
    #[serde(default)]
    pub jitter: Time,
}

/// Calls of a port are held, for every node, and go on at the heal; one whose own time limit ends before is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortStall {
    /// Which port.
    pub port: Port,
}

/// Calls of a port end in a reset connection, for every node. What a reset call did, nobody was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortReset {
    /// Which port.
    pub port: Port,
}

/// The store of registry and relay queues is emptied in one instant. Write `registry-wipe: {}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryWipe {}

/// The store of history and tables ends, and starts again at the heal with what it had written. Write `history-down: {}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryDown {}

/// A node's calls of a port fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Which node.
    pub node: NodeSelector,
    /// From which port.
    pub port: Port,
}

/// Every node of a role is drained and started again, one after the other, each gated on ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rolling {
    /// Whose nodes.
    pub role: NodeRole,
}

/// One thing made wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultSpec {
    /// A node dies.
    Kill(Kill),
    /// A node is drained.
    Drain(Drain),
    /// A node freezes.
    Pause(Pause),
    /// Open client links go silent; those dialled later are sound.
    BlackHole(BlackHole),
    /// Client connections are reset.
    Reset(Reset),
    /// Client connections are cut together.
    CutAll(CutAll),
    /// Client links get slow.
    SlowLink(SlowLink),
    /// Log brokers stop.
    BrokerKill(BrokerKill),
    /// Log brokers get slow.
    BrokerSlow(BrokerSlow),
    /// A consumer group stops reading.
    ConsumerPause(ConsumerPause),
    /// A port gets slow.
    PortSlow(PortSlow),
    /// A port holds its calls.
    PortStall(PortStall),
    /// A port resets its connections.
    PortReset(PortReset),
    /// A node is cut off from a port.
    Partition(Partition),
    /// The registry is emptied.
    RegistryWipe(RegistryWipe),
    /// The history ends.
    HistoryDown(HistoryDown),
    /// A rolling restart.
    Rolling(Rolling),
}

/// Brokers of the embedded event log.
pub const BROKERS: u32 = 3;

impl FaultSpec {
    /// The tags of all faults, in catalogue order.
    pub const NAMES: &[&str] = &[
        "kill",
        "drain",
        "pause",
        "black-hole",
        "reset",
        "cut-all",
        "slow-link",
        "broker-kill",
        "broker-slow",
        "consumer-pause",
        "port-slow",
        "port-stall",
        "port-reset",
        "partition",
        "registry-wipe",
        "history-down",
        "rolling",
    ];

    /// The tag in files.
    pub const fn name(&self) -> &'static str {
        match self {
            FaultSpec::Kill(_) => "kill",
            FaultSpec::Drain(_) => "drain",
            FaultSpec::Pause(_) => "pause",
            FaultSpec::BlackHole(_) => "black-hole",
            FaultSpec::Reset(_) => "reset",
            FaultSpec::CutAll(_) => "cut-all",
            FaultSpec::SlowLink(_) => "slow-link",
            FaultSpec::BrokerKill(_) => "broker-kill",
            FaultSpec::BrokerSlow(_) => "broker-slow",
            FaultSpec::ConsumerPause(_) => "consumer-pause",
            FaultSpec::PortSlow(_) => "port-slow",
            FaultSpec::PortStall(_) => "port-stall",
            FaultSpec::PortReset(_) => "port-reset",
            FaultSpec::Partition(_) => "partition",
            FaultSpec::RegistryWipe(_) => "registry-wipe",
            FaultSpec::HistoryDown(_) => "history-down",
            FaultSpec::Rolling(_) => "rolling",
        }
    }

    /// The nodes it aims at, if it aims at nodes by selector.
    pub const fn node(&self) -> Option<&NodeSelector> {
        match self {
            FaultSpec::Kill(f) => Some(&f.node),
            FaultSpec::Drain(f) => Some(&f.node),
            FaultSpec::Pause(f) => Some(&f.node),
            FaultSpec::Partition(f) => Some(&f.node),
            _ => None,
        }
    }

    /// The devices it aims at, if it aims at devices.
    pub const fn devices(&self) -> Option<&DeviceSelector> {
        match self {
            FaultSpec::BlackHole(f) => Some(&f.devices),
            FaultSpec::Reset(f) => Some(&f.devices),
            FaultSpec::CutAll(f) => Some(&f.devices),
            FaultSpec::SlowLink(f) => Some(&f.devices),
            _ => None,
        }
    }

    /// The devices it aims at, to be changed.
    pub const fn devices_mut(&mut self) -> Option<&mut DeviceSelector> {
        match self {
            FaultSpec::BlackHole(f) => Some(&mut f.devices),
            FaultSpec::Reset(f) => Some(&mut f.devices),
            FaultSpec::CutAll(f) => Some(&mut f.devices),
            FaultSpec::SlowLink(f) => Some(&mut f.devices),
            _ => None,
        }
    }

    /// The port whose calls it conditions, if it conditions calls.
    pub const fn port(&self) -> Option<Port> {
        match self {
            FaultSpec::PortSlow(f) => Some(f.port),
            FaultSpec::PortStall(f) => Some(f.port),
            FaultSpec::PortReset(f) => Some(f.port),
            FaultSpec::Partition(f) => Some(f.port),
            _ => None,
        }
    }

    /// The brokers it aims at, if it aims at brokers.
    pub const fn broker(&self) -> Option<BrokerSelector> {
        match self {
            FaultSpec::BrokerKill(f) => Some(f.broker),
            FaultSpec::BrokerSlow(f) => Some(f.broker),
            _ => None,
        }
    }

    /// Whether it is over in an instant, so that what comes after it need not wait for its heal.
    pub const fn momentary(&self) -> bool {
        matches!(self, FaultSpec::Reset(_) | FaultSpec::CutAll(_) | FaultSpec::RegistryWipe(_))
    }

    /// Whether client links must run through the fault proxy.
    pub const fn needs_proxy(&self) -> bool {
        self.devices().is_some()
    }
}
