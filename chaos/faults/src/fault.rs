//! The fault trait, what a fault says about itself beforehand, and why it refuses.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;

use thiserror::Error;

use crate::bed::{Bed, BedError};
use crate::heal_guard::HealGuard;
use crate::roster::Roster;
use crate::spec::FaultSpec;
use crate::undo::{Undo, numbers};

/// Names listed one by one in a short text; of more, the number is given.
const LISTED_MAX: usize = 8;

/// One use of a fault in a method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Name of the step, unique in its method; with the seed it decides the selection.
    pub id: String,
    /// By how much counters have to rise, in place of the fault's own figures.
    pub at_least: BTreeMap<String, u64>,
}

impl Step {
    /// A step that asks for no more than the fault does.
    pub fn new(id: &str) -> Step {
        Step { id: String::from(id), at_least: BTreeMap::new() }
    }

    /// The same step, which asks for so much of a counter.
    #[must_use]
    pub fn at_least(mut self, counter: &str, by: u64) -> Step {
        self.at_least.insert(String::from(counter), by);
        self
    }
}

/// Whom a fault is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// These nodes.
    Nodes(Vec<String>),
    /// The links of these devices, sorted.
    Devices(Vec<u64>),
    /// These brokers.
    Brokers(Vec<u32>),
    /// Brokers that only the injection can tell, in words.
    BrokersLater(String),
    /// This group of the event log.
    Group(String),
    /// These ports, of one node or of all.
    Ports {
        /// The ports.
        ports: Vec<String>,
        /// The node, or all.
        node: Option<String>,
    },
}

impl Targets {
    /// Every target by name.
    pub fn names(&self) -> Vec<String> {
        match self {
            Targets::Nodes(nodes) => nodes.clone(),
            Targets::Devices(devices) => {
                devices.iter().map(|device| format!("device {device}")).collect()
            }
            Targets::Brokers(brokers) => {
                brokers.iter().map(|broker| format!("broker {broker}")).collect()
            }
            Targets::BrokersLater(words) => vec![words.clone()],
            Targets::Group(group) => vec![format!("group {group}")],
            Targets::Ports { ports, node } => {
                let of = node.as_deref().unwrap_or("every node");
                ports.iter().map(|port| format!("port {port} of {of}")).collect()
            }
        }
    }

    /// The targets in one line: by name where they are few.
    pub fn in_short(&self) -> String {
        match self {
            Targets::Devices(devices) if LISTED_MAX < devices.len() => {
                format!("{} devices", devices.len())
            }
            Targets::Brokers(brokers) => format!("broker {}", numbers(brokers)),
            _ => self.names().join(", "),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_short())
    }
}

/// Devices that a fault may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceBlast {
    /// Every device.
    Everyone,
    /// Those connected to the nodes of the blast radius when the fault comes; the heal guard names them.
    OfNodes,
    /// These, sorted.
    These(Vec<u64>),
}

/// What a fault may touch, declared before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blast {
    /// Nodes that may stop, freeze or be cut off.
    pub nodes: Vec<String>,
    /// Devices.
    pub devices: DeviceBlast,
}

/// What a fault says about itself before it is injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Tag of the fault.
    pub fault: &'static str,
    /// Whom it is aimed at.
    pub targets: Targets,
    /// What it may touch.
    pub blast: Blast,
    /// What takes it away, in words.
    pub undo: String,
    /// What counts as evidence that it bites, in words.
    pub witness: &'static str,
    /// Counters of that evidence, which a step may ask more of.
    pub counters: &'static [&'static str],
}

impl Description {
    /// Checks that a step asks for counters of this fault only.
    pub(crate) fn asked_by(self, step: &Step) -> Result<Description, Refusal> {
        match step.at_least.keys().find(|name| !self.counters.contains(&name.as_str())) {
            Some(name) => {
                Err(Refusal::UnknownCounter { name: name.clone(), known: self.counters.join(", ") })
            }
            None => Ok(self),
        }
    }
}

/// Why a fault would not be injected: the file asks for what is not there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing to select from.
    #[error("there are no {what}, so the selection is empty")]
    Empty {
        /// What was to be selected.
        what: &'static str,
    },
    /// More is asked for than there is.
    #[error("{asked} {what} are asked for, there are {there}")]
    TooFew {
        /// What was to be selected.
        what: &'static str,
        /// How many are asked for.
        asked: u64,
        /// How many there are.
        there: u64,
    },
    /// The selector contradicts itself.
    #[error("{0}")]
    Selector(&'static str),
    /// No node of that name.
    #[error("there is no node `{name}`")]
    NoSuchNode {
        /// The name.
        name: String,
    },
    /// Client links do not run through proxies.
    #[error("client links do not run through the fault proxy")]
    NoProxies,
    /// The nodes do not fit the fault.
    #[error("`{name}` is no {wanted}")]
    Unfit {
        /// The node.
        name: String,
        /// What the fault needs.
        wanted: &'static str,
    },
    /// The step asks for a counter that the fault does not have.
    #[error("the fault has no counter `{name}`, only {known}")]
    UnknownCounter {
        /// The name asked for.
        name: String,
        /// The counters it has.
        known: String,
    },
}

/// Why a fault was not injected. What had been done by then is undone by the janitor.
#[derive(Debug, Error)]
pub enum InjectError {
    /// There is nothing to hit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The undo could not be written down; nothing was done.
    #[error("the undo could not be written to the journal")]
    Journal(#[source] io::Error),
    /// Too many faults are open; nothing was done.
    #[error("more than {} faults are open", crate::janitor::GUARDS_MAX)]
    TooMany,
    /// The system did not do as told.
    #[error(transparent)]
    Bed(#[from] BedError),
}

impl From<chat_control::ControlError> for InjectError {
    fn from(error: chat_control::ControlError) -> InjectError {
        InjectError::Bed(error.into())
    }
}

impl From<storm_proxy::ControlError> for InjectError {
    fn from(error: storm_proxy::ControlError) -> InjectError {
        InjectError::Bed(error.into())
    }
}

/// One thing made wrong, with a start and an end.
pub trait Fault: Sync {
    /// Counters of the evidence that it bites; a step may ask more of these and of no others.
    fn counters(&self) -> &'static [&'static str];

    /// Targets, blast radius, undo and witness. Touches nothing, and needs no running system.
    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal>;

    /// Writes the undo to the journal, makes it wrong, hands back the guard that owns it. If the future is dropped or fails half-way,
    /// the janitor applies the undo.
    fn inject(
        &self,
        bed: &Bed,
        step: &Step,
    ) -> impl Future<Output = Result<HealGuard, InjectError>> + Send;
}

/// Does the same for every variant: the catalogue is closed.
macro_rules! each_fault {
    ($spec:expr, $fault:ident => $body:expr) => {
        match $spec {
            FaultSpec::Kill($fault) => $body,
            FaultSpec::Drain($fault) => $body,
            FaultSpec::Pause($fault) => $body,
            FaultSpec::BlackHole($fault) => $body,
            FaultSpec::Reset($fault) => $body,
            FaultSpec::CutAll($fault) => $body,
            FaultSpec::SlowLink($fault) => $body,
            FaultSpec::BrokerKill($fault) => $body,
            FaultSpec::BrokerSlow($fault) => $body,
            FaultSpec::ConsumerPause($fault) => $body,
            FaultSpec::PortSlow($fault) => $body,
            FaultSpec::PortStall($fault) => $body,
            FaultSpec::PortReset($fault) => $body,
            FaultSpec::Partition($fault) => $body,
            FaultSpec::RegistryWipe($fault) => $body,
            FaultSpec::HistoryDown($fault) => $body,
            FaultSpec::Rolling($fault) => $body,
        }
    };
}

impl Fault for FaultSpec {
    fn counters(&self) -> &'static [&'static str] {
        each_fault!(self, fault => fault.counters())
    }

    fn describe(&self, roster: &Roster, step: &Step) -> Result<Description, Refusal> {
        each_fault!(self, fault => fault.describe(roster, step))
    }

    async fn inject(&self, bed: &Bed, step: &Step) -> Result<HealGuard, InjectError> {
        // Boxed so that the largest fault does not decide the size of everyone's future.
        each_fault!(self, fault => Box::pin(fault.inject(bed, step)).await)
    }
}

/// The nodes of an undo, for a description.
pub(crate) fn names<'a>(
    nodes: impl IntoIterator<Item = &'a crate::roster::NodePlace>,
) -> Vec<String> {
    nodes.into_iter().map(|node| node.name.clone()).collect()
}

/// A description of a fault on nodes.
pub(crate) fn of_nodes(
    fault: &'static str,
    nodes: &[crate::roster::NodePlace],
    undo: &Undo,
    witness: &'static str,
    counters: &'static [&'static str],
) -> Description {
    let all_serve = nodes.iter().all(crate::roster::NodePlace::serves_clients);
    // What a service node does is done for everyone.
    let devices = if all_serve { DeviceBlast::OfNodes } else { DeviceBlast::Everyone };
    let blast = Blast { nodes: names(nodes), devices };
    Description {
        fault,
        targets: Targets::Nodes(names(nodes)),
        blast,
        undo: undo.in_words(),
        witness,
        counters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::{OF_DEVICES, counts_devices};
    use storm_workload::units::Time;

    use crate::planted::{all_devices, gateway_role};
    use crate::spec::{
        BlackHole, BrokerKill, BrokerSelector, BrokerSlow, ConsumerPause, CutAll, Direction, Drain,
        Group, HistoryDown, Kill, KillHow, NodeRole, Partition, Pause, Port, PortReset, PortSlow,
        PortStall, RegistryWipe, Reset, Rolling, SlowLink, Told,
    };

    /// One of each, in catalogue order.
    fn each() -> Vec<FaultSpec> {
        let (devices, node) = (all_devices(), gateway_role());
        let (direction, broker) = (Direction::Both, BrokerSelector::Count(1));
        let (port, delay) = (Port::Registry, Time::millis(100));
        vec![
            FaultSpec::Kill(Kill { node: node.clone(), how: KillHow::Process }),
            FaultSpec::Drain(Drain { node: node.clone() }),
            FaultSpec::Pause(Pause { node: node.clone() }),
            FaultSpec::BlackHole(BlackHole { devices, direction, told: Told::Nobody }),
            FaultSpec::Reset(Reset { devices }),
            FaultSpec::CutAll(CutAll { devices }),
            FaultSpec::SlowLink(SlowLink { devices, latency: delay, jitter: Time(0), direction }),
            FaultSpec::BrokerKill(BrokerKill { broker }),
            FaultSpec::BrokerSlow(BrokerSlow { broker, delay }),
            FaultSpec::ConsumerPause(ConsumerPause { group: Group::Messaging }),
            FaultSpec::PortSlow(PortSlow { port, delay, jitter: Time(0) }),
            FaultSpec::PortStall(PortStall { port }),
            FaultSpec::PortReset(PortReset { port }),
            FaultSpec::Partition(Partition { node, port }),
            FaultSpec::RegistryWipe(RegistryWipe {}),
            FaultSpec::HistoryDown(HistoryDown {}),
            FaultSpec::Rolling(Rolling { role: NodeRole::Gateway }),
        ]
    }

    fn roster() -> Roster {
        let place = |name: &str, role: &str| crate::roster::NodePlace {
            name: String::from(name),
            roles: vec![String::from(role)],
        };
        Roster {
            seed: 7,
            nodes: vec![place("gateway-1", "gateway"), place("services-1", "messaging")],
            brokers: vec![1, 2, 3],
            devices: (1..=10).collect(),
            links: true,
        }
    }

    #[test]
    fn the_counters_of_a_kind_are_those_that_its_description_names() {
        let faults = each();
        let names: Vec<&str> = faults.iter().map(FaultSpec::name).collect();
        assert_eq!(names, FaultSpec::NAMES);
        for fault in faults {
            let what = fault.describe(&roster(), &Step::new("step")).unwrap();
            assert_eq!((what.fault, what.counters), (fault.name(), fault.counters()));
            assert!(!fault.counters().is_empty());
        }
    }

    #[test]
    fn every_counter_of_devices_belongs_to_a_fault() {
        let all: Vec<&str> =
            each().iter().flat_map(|fault| fault.counters().iter().copied()).collect();
        for counter in OF_DEVICES {
            assert!(all.contains(counter), "{counter}");
        }
        assert!(!counts_devices("nodes_left") && !counts_devices("lease_behind_ms"));
    }

    #[test]
    fn a_step_that_asks_for_a_counter_of_another_fault_is_refused() {
        let step = Step::new("roll").at_least("connections_cut", 1);
        let rolling = Rolling { role: NodeRole::Gateway };
        let refusal = rolling.describe(&roster(), &step).unwrap_err();
        assert!(refusal.to_string().contains("only nodes_left, nodes_restarted"), "{refusal}");
    }
}
