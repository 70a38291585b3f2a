//! A toxic: a fault inside a proxy, with a name, a direction and the connections it hits.

mod latency;
mod reset_peer;
mod stall;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use latency::Latency;
pub use reset_peer::ResetPeer;
pub use stall::{OnHeal, Stall, Told};

use crate::dice::DiceKey;

/// Toxicity of a toxic that hits every connection it is aimed at.
pub const TOXICITY_ALL: u16 = 1_000;

/// The direction a toxic acts on, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Client to upstream.
    Up,
    /// Upstream to client.
    Down,
    /// Both directions, each with its own generator.
    Both,
}

impl Stream {
    pub(crate) fn covers(self, pipe: Stream) -> bool {
        self == Stream::Both || self == pipe
    }
}

/// The connections a toxic or an accept rule is aimed at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Targets {
    /// Every connection of the proxy.
    #[default]
    All,
    /// Connections whose preamble named one of these devices, present and future ones.
    Devices(Arc<BTreeSet<u64>>),
    /// Exactly these connections, by ordinal (`ConnectionSnapshot::ordinal`); what the same device dials later is left alone.
    Connections(Arc<BTreeSet<u64>>),
}

impl Targets {
    /// Targets from device ids.
    pub fn devices(devices: impl IntoIterator<Item = u64>) -> Targets {
        Targets::Devices(Arc::new(devices.into_iter().collect()))
    }

    /// Targets from connection ordinals of one proxy.
    pub fn connections(ordinals: impl IntoIterator<Item = u64>) -> Targets {
        Targets::Connections(Arc::new(ordinals.into_iter().collect()))
    }

    /// Whether a connection with this ordinal and device is among them.
    pub fn contains(&self, ordinal: u64, device: Option<u64>) -> bool {
        match self {
            Targets::All => true,
            Targets::Devices(devices) => device.is_some_and(|device| devices.contains(&device)),
            Targets::Connections(ordinals) => ordinals.contains(&ordinal),
        }
    }
}

/// What a toxic does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToxicKind {
    /// Bytes arrive late.
    Latency(Latency),
    /// The connection is reset, data or not; `stream` plays no part.
    ResetPeer(ResetPeer),
    /// Nothing flows and nothing is said: a half-open link.
    Stall(Stall),
}

/// One fault of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toxic {
    /// Name, unique within the rules of a proxy; faults add and remove their toxics by it.
    pub name: Arc<str>,
    /// Direction it acts on.
    pub stream: Stream,
    /// Connections it is aimed at.
    pub targets: Targets,
    /// Share of those connections it hits, per mille, drawn once a connection; one that is missed is not touched at all.
    pub toxicity_permille: u16,
    /// What it does.
    pub kind: ToxicKind,
}

impl Toxic {
    /// A toxic on both directions of every connection.
    pub fn new(name: impl Into<Arc<str>>, kind: ToxicKind) -> Toxic {
        Toxic {
            name: name.into(),
            stream: Stream::Both,
            targets: Targets::All,
            toxicity_permille: TOXICITY_ALL,
            kind,
        }
    }

    /// The same toxic on this direction.
    #[must_use]
    pub fn on(mut self, stream: Stream) -> Toxic {
        self.stream = stream;
        self
    }

    /// The same toxic aimed at these connections.
    #[must_use]
    pub fn aimed_at(mut self, targets: Targets) -> Toxic {
        self.targets = targets;
        self
    }

    /// The same toxic hitting this share of its targets, per mille.
    #[must_use]
    pub fn toxicity(mut self, permille: u16) -> Toxic {
        self.toxicity_permille = permille;
        self
    }

    /// Whether this connection is hit: aimed at, and the die fell so. The same connection always gets the same answer.
    pub(crate) fn hits(&self, ordinal: u64, device: Option<u64>, key: &DiceKey) -> bool {
        if !self.targets.contains(ordinal, device) {
            return false;
        }
        TOXICITY_ALL <= self.toxicity_permille || key.permille(&self.name) < self.toxicity_permille
    }
}

/// What the toxics of one rules value mean for one direction of one connection.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Latencies that apply; they add up.
    pub(crate) delays: Vec<Latency>,
    /// Set while the direction is stalled.
    pub(crate) stall: Option<OnHeal>,
}

/// What the toxics of one rules value mean for one connection.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) up: Effects,
    pub(crate) down: Effects,
    /// The reset that comes first, and the toxic it belongs to.
    pub(crate) reset: Option<(Arc<str>, ResetPeer)>,
    /// Whether the client's end is reset and the upstream's kept.
    pub(crate) tells_client: bool,
    /// Names of the toxics that hit.
    pub(crate) hit: Vec<Arc<str>>,
}

impl Verdicts {
    pub(crate) fn of(
        toxics: &[Toxic],
        ordinal: u64,
        device: Option<u64>,
        key: &DiceKey,
    ) -> Verdicts {
        let mut verdicts = Verdicts::default();
        for toxic in toxics.iter().filter(|toxic| toxic.hits(ordinal, device, key)) {
            verdicts.hit.push(Arc::clone(&toxic.name));
            if let ToxicKind::ResetPeer(reset) = &toxic.kind {
                let sooner =
                    verdicts.reset.as_ref().is_none_or(|(_, other)| reset.timeout < other.timeout);
                if sooner {
                    verdicts.reset = Some((Arc::clone(&toxic.name), reset.clone()));
                }
            }
            let tells_client =
                matches!(&toxic.kind, ToxicKind::Stall(stall) if stall.told == Told::Client);
            verdicts.tells_client |= tells_client;
            for (pipe, effects) in
                [(Stream::Up, &mut verdicts.up), (Stream::Down, &mut verdicts.down)]
            {
                if toxic.stream.covers(pipe) || tells_client {
                    effects.add(&toxic.kind);
                }
            }
        }
        verdicts
    }
}

impl Effects {
    fn add(&mut self, kind: &ToxicKind) {
        match kind {
            ToxicKind::Latency(latency) => self.delays.push(latency.clone()),
            // Two stalls on one pipe: the one that resets wins, since its bytes are given up anyway.
            ToxicKind::Stall(stall) if self.stall != Some(OnHeal::Reset) => {
                self.stall = Some(stall.on_heal);
            }
            ToxicKind::Stall(_) | ToxicKind::ResetPeer(_) => {}
        }
    }
}
