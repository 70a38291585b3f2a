//! The chat nodes as containers of the image `chatstorm/node`, seen from the harness.
//!
//! - [`preflight`] whether the image holds this very binary.
//! - `launch` what a node's container is started from; [`doors`] where their doors will be.
//! - `client` the way through a node's door; `place` what is known of one node.
//! - `standing` what was said to the nodes, and has to be said to one that did not hear it.
//! - `acts` kill, freeze, drain, start. `looks` what all nodes together show.
//!
//! A node whose container does not run, or that does not answer, keeps what it said last. Nothing is asked of one that is known to
//! stand still, and one that hangs makes a look at most half a second late, once a second.
mod acts;
mod client;
mod image;
mod launch;
mod looks;
mod place;
#[cfg(test)]
mod scripted;
mod standing;
#[cfg(test)]
mod stories;

pub use image::preflight;
pub use launch::doors;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use chat_control::{ControlError, Result};
use chat_ports::observe::Observer;
use tokio::sync::Mutex;

use super::ContainersConfig;
use super::engine::{Engine, EngineError};
use super::toxiproxy::LinkPlan;
use crate::config::Config;
use crate::cpu::CpuLedger;
use crate::unit::{Kind, Unit};
use launch::Recipe;
use looks::Merged;
use place::Place;
use standing::Standing;

/// All nodes of a run.
pub(super) struct Nodes {
    engine: Engine,
    recipe: Recipe,
    /// In the order of their starts.
    order: Vec<String>,
    places: BTreeMap<String, Place>,
    /// Held while something is said to nodes, so that none hears an older word after a newer one.
    standing: Mutex<Standing>,
    /// What backends and the operator's clients note in this process.
    observer: Observer,
    merged: Mutex<Merged>,
    /// Threads of this process.
    cpu: CpuLedger,
    logs: Option<PathBuf>,
}

impl Nodes {
    /// None of them runs yet. `plan` says which of their links to backends are conditioned.
    pub(super) fn new(
        engine: Engine,
        config: &Config,
        wanted: &ContainersConfig,
        units: Vec<Unit>,
        plan: LinkPlan,
        observer: &Observer,
    ) -> std::result::Result<Self, EngineError> {
        launch::expect_doors(units.len())?;
        let recipe = Recipe::new(config, wanted, plan)?;
        let order = units.iter().map(|unit| unit.name.clone()).collect();
        let places = units.into_iter().enumerate().map(|(number, unit)| {
            let door = SocketAddr::from((Ipv4Addr::LOCALHOST, recipe.door(number)));
            let container = recipe.layout.name(&unit.name);
            (unit.name.clone(), Place::new(unit, number, container, door))
        });
        Ok(Self {
            engine,
            places: places.collect(),
            recipe,
            order,
            standing: Mutex::default(),
            observer: observer.clone(),
            merged: Mutex::default(),
            cpu: CpuLedger::default(),
            logs: wanted.logs.clone(),
        })
    }

    fn place(&self, node: &str) -> Result<&Place> {
        self.places.get(node).ok_or_else(|| ControlError::Unknown(node.to_owned()))
    }

    /// The nodes of one kind, in the order of their starts.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Place> {
        let places = self.order.iter().filter_map(|name| self.places.get(name));
        places.filter(move |place| place.unit.kind == kind)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn failed(error: EngineError) -> ControlError {
    ControlError::Failed(error.to_string())
}
