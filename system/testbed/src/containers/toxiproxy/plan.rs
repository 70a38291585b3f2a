//! Which node reaches which backend through which listener; fixed before anything starts, since ports are published at the start.
use std::collections::{BTreeMap, BTreeSet};

use super::super::engine::EngineError;
use super::Backend;

/// First port of the listeners above the system's first one.
const FIRST: u16 = 51;
/// Port of Toxiproxy's HTTP interface above the system's first one.
const API: u16 = 50;
/// Listeners that fit.
const LISTENERS_MAX: u16 = 29;

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::containers) struct Planned {
    /// The node that has it to itself.
    pub(in crate::containers) node: String,
    /// Where it leads.
    pub(in crate::containers) backend: Backend,
    /// Inside the container as on the host.
    pub(in crate::containers) port: u16,
}

impl Planned {
    /// Name of the listener.
    pub(in crate::containers) fn name(&self) -> String {
        format!("{}.{}", self.node, self.backend.name())
    }
}

/// All listeners of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::containers) struct LinkPlan {
    all: Vec<Planned>,
    ports: BTreeMap<(Backend, String), u16>,
    conditioned: BTreeSet<Backend>,
}

impl LinkPlan {
    /// One listener for each node and conditioned backend; refused beyond 29.
    pub(in crate::containers) fn new(
        base_port: u16,
        nodes: &[String],
        conditioned: &BTreeSet<Backend>,
    ) -> Result<Self, EngineError> {
        let (wanted, room) = (nodes.len() * conditioned.len(), usize::from(LISTENERS_MAX));
        if wanted > room {
            return Err(EngineError::TooManyLinks { wanted, room });
        }
        let pairs =
            conditioned.iter().flat_map(|backend| nodes.iter().map(move |node| (*backend, node)));
        let all: Vec<_> = (base_port + FIRST..)
            .zip(pairs)
            .map(|(port, (backend, node))| Planned { node: node.clone(), backend, port })
            .collect();
        let ports = all.iter().map(|one| ((one.backend, one.node.clone()), one.port)).collect();
        Ok(Self { all, ports, conditioned: conditioned.clone() })
    }

    /// Without a listener no Toxiproxy is started.
    pub(in crate::containers) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// In the order of their ports.
    pub(in crate::containers) fn all(&self) -> &[Planned] {
        &self.all
    }

    /// Port of a node's listener, if its links to the backend are conditioned.
    pub(in crate::containers) fn port(&self, backend: Backend, node: &str) -> Option<u16> {
        self.ports.get(&(backend, node.to_owned())).copied()
    }

    /// Whether any link of a backend is conditioned.
    pub(in crate::containers) fn conditions(&self, backend: Backend) -> bool {
        self.conditioned.contains(&backend)
    }

    /// Where Toxiproxy's HTTP interface is published.
    pub(in crate::containers) const fn api_port(base_port: u16) -> u16 {
        base_port + API
    }

    /// Every port that a plan may take.
    pub(in crate::containers) fn range(base_port: u16) -> std::ops::Range<u16> {
        base_port + API..base_port + FIRST + LISTENERS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("gateway-{n}")).collect()
    }

    #[test]
    fn every_node_has_a_listener_of_its_own_to_each_conditioned_backend() {
        let plan = LinkPlan::new(7_000, &nodes(3), &BTreeSet::from(Backend::ALL)).unwrap();
        let ports: BTreeSet<_> = plan.all().iter().map(|one| one.port).collect();
        assert_eq!(ports, (7_051..7_057).collect());
        assert!(ports.iter().all(|port| LinkPlan::range(7_000).contains(port)));
        assert_ne!(
            plan.port(Backend::Redis, "gateway-1"),
            plan.port(Backend::Cassandra, "gateway-1")
        );
        assert_eq!(plan.port(Backend::Redis, "balancer-1"), None);
    }

    #[test]
    fn nothing_conditioned_means_no_listener() {
        assert!(LinkPlan::new(7_000, &nodes(3), &BTreeSet::new()).unwrap().is_empty());
    }

    #[test]
    fn more_listeners_than_ports_are_refused_before_anything_starts() {
        let both = BTreeSet::from(Backend::ALL);
        assert!(LinkPlan::new(7_000, &nodes(14), &both).is_ok());
        let refused = LinkPlan::new(7_000, &nodes(15), &both);
        assert!(matches!(refused, Err(EngineError::TooManyLinks { wanted: 30, room: 29 })));
    }

    #[test]
    fn last_listener_is_inside_the_range_and_below_the_balancer() {
        let plan = LinkPlan::new(7_000, &nodes(29), &BTreeSet::from([Backend::Redis])).unwrap();
        assert_eq!(plan.all().last().map(|one| one.port), Some(7_079));
        assert_eq!(LinkPlan::range(7_000), 7_050..7_080);
    }
}
