//! The chat nodes as containers of the image `chatstorm/node`, seen from the harness.
//!
//! - [`preflight`] whether the image holds this very binary.
//! - `launch` what a node's container is started from.
//! - `client` the way through a node's door; `slot` what is known of one node.
//! - `acts` kill, freeze, drain, start. `looks` what all nodes together show.
//!
//! A node whose container does not run, or that does not answer, keeps what it said last. Nothing is asked of one that is known to
//! stand still, and one that hangs makes a look at most half a second late, once a second.
mod acts;
mod client;
mod image;
mod launch;
mod looks;
mod slot;

pub use image::preflight;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use chat_control::act::PortRule;
use chat_control::{ControlError, Result};
use chat_ports::observe::Observer;

use super::ContainersConfig;
use super::engine::{Engine, EngineError};
use super::recipe::Layout;
use crate::config::Config;
use crate::cpu::CpuLedger;
use crate::process::wire::Ask;
use crate::unit::{Kind, Unit};
use launch::Recipe;
use looks::Merged;
use slot::Slot;

/// Rules and pauses that stand in the nodes; one that starts is told of them before it serves.
#[derive(Debug, Default)]
struct Standing {
    rules: BTreeMap<(String, Option<String>), PortRule>,
    paused: BTreeSet<String>,
}

/// All nodes of a run.
pub(super) struct Nodes {
    engine: Engine,
    recipe: Recipe,
    /// In the order of their starts.
    order: Vec<String>,
    slots: BTreeMap<String, Slot>,
    standing: Mutex<Standing>,
    /// What backends and the operator's clients note in this process.
    observer: Observer,
    merged: tokio::sync::Mutex<Merged>,
    /// Threads of this process.
    cpu: CpuLedger,
    logs: Option<PathBuf>,
    run: String,
}

impl Nodes {
    /// None of them runs yet.
    pub(super) async fn new(
        config: &Config,
        wanted: &ContainersConfig,
        units: Vec<Unit>,
        observer: &Observer,
    ) -> std::result::Result<Self, EngineError> {
        let layout = Layout { run: wanted.run.clone(), base_port: config.base_port };
        let links = (&super::nodes(config)[..], &wanted.conditioned);
        let recipe = Recipe::new(config, layout, &wanted.images.node, links)?;
        let order = units.iter().map(|unit| unit.name.clone()).collect();
        let slots = units.into_iter().enumerate().map(|(number, unit)| {
            let door = SocketAddr::from((Ipv4Addr::LOCALHOST, recipe.door(number)));
            let container = recipe.layout.name(&unit.name);
            (unit.name.clone(), Slot::new(unit, number, container, door))
        });
        Ok(Self {
            engine: Engine::connect().await?,
            slots: slots.collect(),
            recipe,
            order,
            standing: Mutex::default(),
            observer: observer.clone(),
            merged: tokio::sync::Mutex::default(),
            cpu: CpuLedger::default(),
            logs: wanted.logs.clone(),
            run: wanted.run.clone(),
        })
    }

    fn slot(&self, node: &str) -> Result<&Slot> {
        self.slots.get(node).ok_or_else(|| ControlError::Unknown(node.to_owned()))
    }

    /// The nodes of one kind, in the order of their starts.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Slot> {
        let slots = self.order.iter().filter_map(|name| self.slots.get(name));
        slots.filter(move |slot| slot.unit.kind == kind)
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a node has to be told when it starts. A balancer has no ports.
    fn told(&self, unit: &Unit) -> Vec<Ask> {
        if unit.kind == Kind::Balancer {
            return Vec::new();
        }
        let standing = self.standing();
        let rule = |((port, node), rule): (&(String, Option<String>), &PortRule)| {
            let fits = node.as_ref().is_none_or(|node| *node == unit.name);
            let own = node.is_some();
            fits.then(|| Ask::Rule { port: port.clone(), own, rule: Some(rule.clone()) })
        };
        let rules = standing.rules.iter().filter_map(rule);
        let pauses = standing.paused.iter();
        rules
            .chain(pauses.map(|group| Ask::Consumer { group: group.clone(), paused: true }))
            .collect()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn failed(error: EngineError) -> ControlError {
    ControlError::Failed(error.to_string())
}
