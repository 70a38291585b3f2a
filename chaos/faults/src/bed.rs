//! What faults may touch, and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chat_control::Control;
use chat_control::inspect::{BrokerInfo, NodeInfo};
use chat_protocol::limits::Timers;
use storm_proxy::{ProxyControl, ProxyHandle};
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::fault::{Description, InjectError, Step};
use crate::heal_guard::Armed;
use crate::janitor::Janitor;
use crate::journal::{Journal, Line};
use crate::roster::{NodePlace, Roster};
use crate::undo::Undo;

/// One device of the plan and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlace {
    /// Device id, as in the preamble of its connections.
    pub device: u64,
    /// Gateway of its connection, as its last welcome named it.
    pub node: Option<String>,
    /// Whether it has a connection, as far as it knows.
    pub connected: bool,
}

/// What the devices know about themselves.
pub trait Devices: Send + Sync {
    /// All devices of the plan, sorted by device.
    fn list(&self) -> Vec<DevicePlace>;
}

/// Why the system or a proxy did not do as told, or could not be seen.
#[derive(Debug, Error)]
pub enum BedError {
    /// The operator's panel said so.
    #[error(transparent)]
    Control(#[from] chat_control::ControlError),
    /// A proxy said so.
    #[error(transparent)]
    Proxy(#[from] storm_proxy::ControlError),
}

/// What a bed is made of.
pub struct BedParts {
    /// The operator's panel.
    pub control: Arc<dyn Control>,
    /// The proxies in front of the entry addresses, where client links are conditioned.
    pub proxies: Option<ProxyHandle>,
    /// The devices.
    pub devices: Arc<dyn Devices>,
    /// The undo journal.
    pub journal: Journal,
    /// Seed of the run; decides every selection.
    pub seed: u64,
    /// Timers the system runs with; waits and bounds derive from them.
    pub timers: Timers,
}

/// The bed on which faults are made. It owns the janitor and the tasks of its faults.
pub struct Bed {
    pub(crate) reach: Arc<Reach>,
    pub(crate) tasks: TaskTracker,
    janitor: Janitor,
}

/// What is left when a bed is finished.
#[derive(Debug, Default)]
pub struct Remainder {
    /// Journal entries whose guard went without healing and whose undo the janitor applied.
    pub undone: Vec<u64>,
    /// Journal entries whose undo failed or was not done in time, and why.
    pub failed: Vec<(u64, String)>,
    /// Entries that the journal still has open.
    pub open: Vec<Line>,
    /// Whether a task of a fault had not ended in time.
    pub tasks_left: bool,
}

impl Remainder {
    /// Whether nothing was left behind.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.open.is_empty() && !self.tasks_left
    }
}

impl Bed {
    /// Makes the bed and starts its janitor.
    pub fn start(parts: BedParts) -> io::Result<Bed> {
        let BedParts { control, proxies, devices, journal, seed, timers } = parts;
        let reach = Arc::new(Reach { control, proxies, devices, journal, seed, timers });
        let janitor = Janitor::start(Arc::clone(&reach))?;
        Ok(Bed { reach, tasks: TaskTracker::new(), janitor })
    }

    /// Everything that can be hit now.
    pub async fn roster(&self) -> Result<Roster, BedError> {
        let nodes = self.reach.control.nodes().await?;
        let mut nodes: Vec<NodePlace> = nodes
            .into_iter()
            .map(|node| NodePlace { name: node.name, roles: node.roles })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let mut brokers: Vec<u32> =
            self.reach.brokers().await?.iter().map(|broker| broker.id).collect();
        brokers.sort_unstable();
        let mut devices: Vec<u64> =
            self.reach.devices.list().iter().map(|place| place.device).collect();
        devices.sort_unstable();
        let links = !self.reach.proxies().is_empty();
        Ok(Roster { seed: self.reach.seed, nodes, brokers, devices, links })
    }

    /// Timers the system runs with.
    pub fn timers(&self) -> &Timers {
        &self.reach.timers
    }

    /// Writes the undo down and takes over the duty to apply it. The act comes after this.
    pub(crate) fn arm(
        &self,
        step: &Step,
        what: Description,
        undo: Undo,
    ) -> Result<Armed, InjectError> {
        let ticket = self.janitor.ticket().ok_or(InjectError::TooMany)?;
        let id = self
            .reach
            .journal
            .open(&step.id, what.fault, what.targets.in_short(), &undo)
            .map_err(InjectError::Journal)?;
        Ok(Armed::new(Arc::clone(&self.reach), step, what, undo, id, ticket))
    }

    /// Waits for the tasks of faults and for the janitor, at most `limit` each, and says what is left. Guards still alive are not
    /// waited for: heal or drop them first.
    pub async fn finish(self, limit: Duration) -> Remainder {
        let Bed { reach, tasks, mut janitor } = self;
        tasks.close();
        let tasks_left = timeout(limit, tasks.wait()).await.is_err();
        let swept = tokio::task::spawn_blocking(move || janitor.finish(limit)).await;
        let swept = swept.unwrap_or_default();
        let open = reach.journal.leftovers().unwrap_or_else(|error| {
            tracing::error!(%error, "The undo journal could not be read.");
            Vec::new()
        });
        Remainder { undone: swept.undone, failed: swept.failed, open, tasks_left }
    }
}

/// The doors and tools that faults, their effects and their undos share.
pub(crate) struct Reach {
    pub(crate) control: Arc<dyn Control>,
    proxies: Option<ProxyHandle>,
    pub(crate) devices: Arc<dyn Devices>,
    pub(crate) journal: Journal,
    pub(crate) seed: u64,
    pub(crate) timers: Timers,
}

impl Reach {
    pub(crate) fn proxies(&self) -> Vec<ProxyControl> {
        self.proxies.as_ref().map(ProxyHandle::proxies).unwrap_or_default()
    }

    pub(crate) async fn node(&self, name: &str) -> Result<NodeInfo, BedError> {
        let nodes = self.control.nodes().await?;
        let found = nodes.into_iter().find(|node| node.name == name);
        Ok(found.ok_or_else(|| chat_control::ControlError::Unknown(String::from(name)))?)
    }

    pub(crate) async fn brokers(&self) -> Result<Vec<BrokerInfo>, BedError> {
        let mut brokers = self.control.brokers().await?;
        brokers.sort_by_key(|broker| broker.id);
        Ok(brokers)
    }
}
