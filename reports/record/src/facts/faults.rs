//! Faults: what was noted about each, and all of it folded.
use serde::{Deserialize, Serialize};

use crate::ledger::number::Device;

/// Kind of a fault, as far as judging differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A node's process ended.
    Kill,
    /// A node vanished without a FIN.
    KillSilent,
    /// A node was drained.
    Drain,
    /// Nodes were drained and started one by one.
    Rolling,
    /// A node stopped executing.
    Pause,
    /// Client links went silent.
    BlackHole,
    /// Client links went silent for the node, and the device was told.
    BlackHoleTold,
    /// Client links were reset.
    Reset,
    /// Client links were cut in one instant.
    CutAll,
    /// Client links were slowed.
    SlowLink,
    /// A broker was stopped.
    BrokerKill,
    /// A broker was slowed.
    BrokerSlow,
    /// A consumer group was paused.
    ConsumerPause,
    /// A port was slowed.
    PortSlow,
    /// A port held its calls.
    PortStall,
    /// A port reset its connections.
    PortReset,
    /// One node was cut off from a port.
    Partition,
    /// The store of registry and relay queues was emptied.
    RegistryWipe,
    /// The store of history and tables ended.
    HistoryDown,
}

impl FaultKind {
    /// Whether a node stops executing.
    pub const fn stops_node(self) -> bool {
        matches!(self, Self::Kill | Self::KillSilent | Self::Pause)
    }

    /// Whether connections end without a word, so that only their silence tells.
    pub const fn is_silent(self) -> bool {
        matches!(self, Self::KillSilent) || self.silences_links()
    }

    /// Whether links that stay open at the node carry nothing.
    pub const fn silences_links(self) -> bool {
        matches!(self, Self::BlackHole | Self::BlackHoleTold)
    }

    /// Whether a store behind the ports it hits cannot be trusted to be up to date meanwhile.
    pub const fn blinds_ports(self) -> bool {
        matches!(
            self,
            Self::PortSlow
                | Self::PortStall
                | Self::PortReset
                | Self::Partition
                | Self::RegistryWipe
        )
    }

    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillSilent => "kill-silent",
            Self::Drain => "drain",
            Self::Rolling => "rolling",
            Self::Pause => "pause",
            Self::BlackHole => "black-hole",
            Self::BlackHoleTold => "black-hole-told",
            Self::Reset => "reset",
            Self::CutAll => "cut-all",
            Self::SlowLink => "slow-link",
            Self::BrokerKill => "broker-kill",
            Self::BrokerSlow => "broker-slow",
            Self::ConsumerPause => "consumer-pause",
            Self::PortSlow => "port-slow",
            Self::PortStall => "port-stall",
            Self::PortReset => "port-reset",
            Self::Partition => "partition",
            Self::RegistryWipe => "registry-wipe",
            Self::HistoryDown => "history-down",
        }
    }
}

/// One counter of a witness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was counted.
    pub counter: String,
    /// Before the fault, or before the heal.
    pub before: f64,
    /// When it was asked.
    pub after: f64,
    /// In words, for example `>= 1000` or `0`.
    pub required: String,
}

/// What a fault touches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// Nodes.
    pub nodes: Vec<String>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Brokers.
    pub brokers: Vec<u32>,
    /// Consumer groups.
    pub groups: Vec<String>,
    /// Ports.
    pub ports: Vec<String>,
}

/// What was noted about a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultMark {
    /// It was injected.
    Injected {
        /// Kind.
        kind: FaultKind,
        /// Targets.
        targets: Targets,
        /// Undo in words.
        undo: String,
        /// When the act began, nanoseconds since the run's start; it was done when this was noted.
        began_ns: u64,
    },
    /// It bites.
    Witnessed(Vec<Evidence>),
    /// It was not seen to bite in time.
    Missed(Vec<Evidence>),
    /// It stopped biting, nanoseconds since the run's start.
    Lapsed(u64),
    /// Healing began.
    Healing,
    /// It is gone, as counters show.
    Healed(Vec<Evidence>),
    /// It could not be healed, or not be seen healed, in time.
    NotHealed(String),
    /// It could not be injected.
    Refused(String),
}

/// A note about a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultNote {
    /// Step of the method.
    pub step: String,
    /// Ordinal of the fault in this run.
    pub fault: u32,
    /// What.
    pub mark: FaultMark,
    /// When.
    pub at_ns: u64,
}

/// All that is known about one fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultLog {
    /// Step of the method.
    pub step: String,
    /// Ordinal.
    pub fault: u32,
    /// Kind, when it was injected.
    pub kind: Option<FaultKind>,
    /// Targets.
    pub targets: Targets,
    /// Undo in words.
    pub undo: String,
    /// When the act began.
    pub began_ns: Option<u64>,
    /// When it was injected: the act was done.
    pub injected_ns: Option<u64>,
    /// When it was first seen to bite.
    pub witnessed_ns: Option<u64>,
    /// Evidence of the bite, or of its absence.
    pub evidence: Vec<Evidence>,
    /// When it stopped biting on its own.
    pub lapsed_ns: Option<u64>,
    /// When healing began.
    pub healing_ns: Option<u64>,
    /// When it was seen to be gone.
    pub healed_ns: Option<u64>,
    /// Evidence of the healing.
    pub healing: Vec<Evidence>,
    /// Why it could not be injected or healed.
    pub trouble: Option<String>,
}

impl FaultLog {
    /// A fault of which nothing is known yet.
    pub(super) fn of(step: String, fault: u32) -> Self {
        Self {
            step,
            fault,
            kind: None,
            targets: Targets::default(),
            undo: String::new(),
            began_ns: None,
            injected_ns: None,
            witnessed_ns: None,
            evidence: Vec::new(),
            lapsed_ns: None,
            healing_ns: None,
            healed_ns: None,
            healing: Vec::new(),
            trouble: None,
        }
    }

    /// Folds one note in.
    pub(super) fn note(&mut self, note: FaultNote) {
        match note.mark {
            FaultMark::Injected { kind, targets, undo, began_ns } => {
                self.kind = Some(kind);
                self.targets = targets;
                self.undo = undo;
                self.began_ns = Some(began_ns);
                self.injected_ns = Some(note.at_ns);
            }
            FaultMark::Witnessed(evidence) => {
                self.witnessed_ns.get_or_insert(note.at_ns);
                self.lapsed_ns = None;
                self.evidence = evidence;
            }
            FaultMark::Missed(evidence) => self.evidence = evidence,
            FaultMark::Lapsed(since) => self.lapsed_ns = Some(since),
            FaultMark::Healing => self.healing_ns = Some(note.at_ns),
            FaultMark::Healed(evidence) => {
                self.healing_ns.get_or_insert(note.at_ns);
                self.healed_ns = Some(note.at_ns);
                self.healing = evidence;
            }
            FaultMark::NotHealed(why) | FaultMark::Refused(why) => self.trouble = Some(why),
        }
    }

    /// Whether the fault was active at an instant, its act included; a fault never seen healed stays active.
    pub fn active_at(&self, at_ns: u64) -> bool {
        self.began_ns.is_some_and(|from| from <= at_ns)
            && self.healed_ns.is_none_or(|to| at_ns < to)
    }
}
