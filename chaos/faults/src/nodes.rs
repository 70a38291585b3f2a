//! Counters of nodes that a fault aims at: what they were before, what they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_control::inspect::{EventKind, LeaseView, NodeInfo, NodeState};
use chat_protocol::limits::Timers;

use crate::bed::{Bed, BedError, Reach};
use crate::fault::{Description, InjectError, Refusal, Step, names, of_nodes};
use crate::heal_guard::Armed;
use crate::roster::NodePlace;
use crate::spec::NodeRole;
use crate::undo::Undo;
use crate::witness::{Evidence, Reading};

/// Close code of a drained gateway.
const CLOSE_DRAINED: u16 = 1012;

/// Added to a wait derived from timers, for a busy host.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

/// One node before the act.
#[derive(Debug)]
pub(crate) struct NodeBefore {
    pub(crate) place: NodePlace,
    pub(crate) epoch: u64,
    pub(crate) connections: u64,
    /// Devices connected to it, as they say.
    devices: BTreeSet<u64>,
}

/// Watches the nodes of one fault.
#[derive(Debug)]
pub(crate) struct NodeWatch {
    pub(crate) nodes: Vec<NodeBefore>,
    cursor: u64,
    /// Partitions that members elsewhere got since the act.
    partitions_moved: u64,
    /// Connections that the nodes closed as drained since the act.
    closed_drained: u64,
}

/// The nodes at one moment.
pub(crate) struct NodesNow {
    infos: BTreeMap<String, NodeInfo>,
    leases: Vec<LeaseView>,
}

impl NodesNow {
    pub(crate) fn state(&self, name: &str) -> Option<NodeState> {
        self.infos.get(name).map(|info| info.state)
    }

    /// Client connections; none of a node that is gone.
    pub(crate) fn connections(&self, name: &str) -> u64 {
        let alive =
            |info: &&NodeInfo| !matches!(info.state, NodeState::Stopped | NodeState::Vanished);
        self.infos.get(name).filter(alive).map_or(0, |info| info.connections)
    }

    fn epoch(&self, name: &str) -> u64 {
        self.infos.get(name).map_or(0, |info| info.epoch)
    }

    /// Milliseconds left of the lease of a node's incarnation; 0 when it ended or is not there.
    fn lease_left_ms(&self, name: &str, epoch: u64) -> u64 {
        let lease = self.leases.iter().find(|lease| lease.node == name && lease.epoch == epoch);
        lease.and_then(|lease| u64::try_from(lease.left_ms).ok()).unwrap_or(0)
    }
}

impl NodeWatch {
    /// Notes what the nodes are before the act.
    pub(crate) async fn start(reach: &Reach, nodes: Vec<NodePlace>) -> Result<NodeWatch, BedError> {
        let (_, cursor) = reach.control.events(0).await?;
        let infos = reach.control.nodes().await?;
        let placed = reach.devices.list();
        let before = |place: NodePlace| {
            let info = infos.iter().find(|info| info.name == place.name);
            let there = |name: &str| {
                placed
                    .iter()
                    .filter(|device| device.connected && device.node.as_deref() == Some(name))
                    .map(|device| device.device)
                    .collect()
            };
            NodeBefore {
                epoch: info.map_or(0, |info| info.epoch),
                connections: info.map_or(0, |info| info.connections),
                devices: there(&place.name),
                place,
            }
        };
        let nodes = nodes.into_iter().map(before).collect();
        Ok(NodeWatch { nodes, cursor, partitions_moved: 0, closed_drained: 0 })
    }

    /// Looks at the nodes, and at what happened since the last look.
    pub(crate) async fn look(&mut self, reach: &Reach) -> Result<NodesNow, BedError> {
        let (events, cursor) = reach.control.events(self.cursor).await?;
        self.cursor = cursor;
        for event in events {
            let ours = self.nodes.iter().any(|node| node.place.name == event.node);
            match event.kind {
                EventKind::PartitionAssigned { .. } if !ours => self.partitions_moved += 1,
                EventKind::ConnectionClosed { code: CLOSE_DRAINED, .. } if ours => {
                    self.closed_drained += 1;
                }
                _ => {}
            }
        }
        let infos = reach.control.nodes().await?;
        let infos = infos.into_iter().map(|info| (info.name.clone(), info)).collect();
        Ok(NodesNow { infos, leases: reach.control.leases().await? })
    }

    /// Devices that were connected to the nodes.
    pub(crate) fn devices(&self) -> BTreeSet<u64> {
        self.nodes.iter().flat_map(|node| node.devices.iter().copied()).collect()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.place.name.as_str())
    }

    pub(crate) fn count(&self) -> u64 {
        count_of(self.nodes.iter())
    }

    /// Nodes in one of these states, of all.
    pub(crate) fn standing(&self, counter: &str, now: &NodesNow, states: &[NodeState]) -> Reading {
        let there = |node: &&NodeBefore| {
            now.state(&node.place.name).is_some_and(|state| states.contains(&state))
        };
        Reading::stands(counter, 0, count_of(self.nodes.iter().filter(there)), self.count())
    }

    /// Whether some of the nodes serve clients, and some do work for others.
    pub(crate) fn kinds(&self) -> (bool, bool) {
        let serve = self.nodes.iter().any(|node| node.place.serves_clients());
        let work = self.nodes.iter().any(|node| node.place.plays(NodeRole::Service));
        (serve, work)
    }

    /// Client connections that the nodes held before and do not hold now.
    pub(crate) fn connections_lost(&self, now: &NodesNow) -> u64 {
        self.nodes
            .iter()
            .map(|node| node.connections.saturating_sub(now.connections(&node.place.name)))
            .sum()
    }

    /// Client connections that the nodes held before the act.
    pub(crate) fn connections_before(&self) -> u64 {
        self.nodes.iter().map(|node| node.connections).sum()
    }

    /// Devices that were connected to the nodes and are not any more, as they say.
    pub(crate) fn devices_lost(&self, reach: &Reach) -> u64 {
        let before = self.devices();
        let placed = reach.devices.list();
        let still = placed.iter().filter(|device| {
            let at_one = |name: &String| self.nodes.iter().any(|node| node.place.name == *name);
            device.connected
                && device.node.as_ref().is_some_and(at_one)
                && before.contains(&device.device)
        });
        count_of(before.iter()).saturating_sub(count_of(still))
    }

    /// What others had to take over: partitions assigned elsewhere, and leases of the nodes that ended.
    pub(crate) fn work_moved(&self, now: &NodesNow) -> u64 {
        let ended = |node: &&NodeBefore| {
            0 < node.epoch && now.lease_left_ms(&node.place.name, node.epoch) == 0
        };
        self.partitions_moved + count_of(self.nodes.iter().filter(ended))
    }

    /// The reading of [`NodeWatch::work_moved`], where one of the nodes does work for others.
    pub(crate) fn work_reading(&self, now: &NodesNow) -> Option<Reading> {
        let (_, work) = self.kinds();
        work.then(|| Reading::once("work_moved", 0, self.work_moved(now), 1))
    }

    /// Connections closed as drained.
    pub(crate) fn closed_drained(&self) -> u64 {
        self.closed_drained
    }

    /// How long the nodes have not renewed their leases, the shortest of them; balancers have none.
    pub(crate) fn lease_behind_ms(&self, now: &NodesNow, timers: &Timers) -> Option<u64> {
        let ttl = millis(timers.lease_ttl);
        let leased = self.nodes.iter().filter(|node| !is_balancer(&node.place));
        leased.map(|node| ttl.saturating_sub(now.lease_left_ms(&node.place.name, node.epoch))).min()
    }

    /// Nodes that run in a later incarnation than before; a balancer, which has none, is not among them.
    pub(crate) fn restarted(&self, now: &NodesNow) -> u64 {
        let later = |node: &&NodeBefore| {
            now.state(&node.place.name) == Some(NodeState::Running)
                && node.epoch < now.epoch(&node.place.name)
        };
        count_of(self.nodes.iter().filter(later))
    }

    /// Evidence that the nodes serve: they run, in a later incarnation where they were started again, and their leases are alive.
    pub(crate) async fn serving(
        &mut self,
        reach: &Reach,
        restarted: bool,
    ) -> Result<Vec<Evidence>, BedError> {
        let now = self.look(reach).await?;
        let runs = |node: &&NodeBefore| {
            let name = &node.place.name;
            // A balancer joins no registry, so it has neither epochs nor a lease.
            let later = !restarted || is_balancer(&node.place) || node.epoch < now.epoch(name);
            now.state(name) == Some(NodeState::Running) && later
        };
        let leased = |node: &&NodeBefore| {
            0 < now.lease_left_ms(&node.place.name, now.epoch(&node.place.name))
        };
        let with_lease = count_of(self.nodes.iter().filter(|node| !is_balancer(&node.place)));
        Ok(vec![
            Evidence::new("units_ready", 0, count_of(self.nodes.iter().filter(runs)), self.count()),
            Evidence::new(
                "leases_alive",
                0,
                count_of(self.nodes.iter().filter(leased)),
                with_lease,
            ),
        ])
    }

    /// How long the loss of the nodes may take to show.
    pub(crate) fn patience(&self, timers: &Timers) -> Duration {
        match self.kinds() {
            (_, true) => timers.lease_ttl.max(timers.log_session) + timers.sweep + SLACK,
            (_, false) => SLACK,
        }
    }
}

/// Devices connected to the nodes, sorted.
pub(crate) fn device_list(watch: &NodeWatch) -> Vec<u64> {
    watch.devices().into_iter().collect()
}

/// Nodes picked, and what is said about them.
pub(crate) struct Picked {
    nodes: Vec<NodePlace>,
    pub(crate) what: Description,
    undo: Undo,
}

impl Picked {
    /// Describes a fault on these nodes, as the step asks for it.
    pub(crate) fn new(
        fault: &'static str,
        step: &Step,
        nodes: Vec<NodePlace>,
        undo: fn(Vec<String>) -> Undo,
        (witness, counters): (&'static str, &'static [&'static str]),
    ) -> Result<Picked, Refusal> {
        let undo = undo(names(&nodes));
        let what = of_nodes(fault, &nodes, &undo, witness, counters).asked_by(step)?;
        Ok(Picked { nodes, what, undo })
    }

    /// Notes what the nodes are and enters the fault in the journal. The act comes next.
    pub(crate) async fn armed(
        self,
        bed: &Bed,
        step: &Step,
    ) -> Result<(Armed, NodeWatch), InjectError> {
        let watch = NodeWatch::start(&bed.reach, self.nodes).await?;
        let armed = bed.arm(step, self.what, self.undo)?.hitting(device_list(&watch));
        Ok((armed, watch))
    }
}

fn is_balancer(place: &NodePlace) -> bool {
    place.plays(NodeRole::Balancer)
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn count_of<T>(list: impl Iterator<Item = T>) -> u64 {
    u64::try_from(list.count()).unwrap_or(u64::MAX)
}
