//! Connections and routes of every device over time, and how long a route was stale or missing.
use std::collections::BTreeMap;
use std::sync::Arc;

use storm_record::facts::{Facts, FaultKind, FaultLog, RouteSeen};
use storm_record::ledger::row::ClosedBy;
use storm_record::{Device, Ledger};

use crate::bounds::Bounds;

/// One connection as its device saw it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Whose.
    pub device: Device,
    /// Its epoch.
    pub epoch: u64,
    /// Node.
    pub node: Arc<str>,
    /// `welcome`.
    pub opened_ns: u64,
    /// Last frame from the server; the end of the record while it is open.
    pub last_frame_ns: u64,
    /// End, with who ended it.
    pub closed: Option<(u64, ClosedBy)>,
}

/// A span in which a device's route was one value.
#[derive(Clone, Debug)]
pub struct RouteSpan {
    /// Begin.
    pub from_ns: u64,
    /// End; the end of the record for a present route.
    pub to_ns: u64,
    /// The route.
    pub route: RouteSeen,
}

/// A route that outlived its connection, or a connection without route.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// Whose.
    pub device: Device,
    /// Node of the route or connection.
    pub node: String,
    /// Connection epoch.
    pub epoch: u64,
    /// When the bound began to run.
    pub from_ns: u64,
    /// How long it lasted.
    pub len_ns: u64,
    /// How long it may last.
    pub bound_ns: u64,
    /// Why the bound is what it is.
    pub why: &'static str,
}

/// All devices.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// Connections by device, in order of opening.
    pub connections: BTreeMap<Device, Vec<Connection>>,
    /// Route spans by device, in order.
    pub routes: BTreeMap<Device, Vec<RouteSpan>>,
    /// Gone connections that had a route.
    pub gone: u64,
    /// Stale routes, whatever their age.
    pub stale: Vec<Deviation>,
    /// Connections without route for longer than the bound.
    pub missing: Vec<Deviation>,
    /// Connections looked at for a missing route.
    pub checked: u64,
}

impl Sessions {
    /// Puts the rows of the ledger and the routes of the registry side by side.
    pub fn of(ledger: &Ledger, facts: &Facts, bounds: &Bounds) -> Self {
        let mut all = Self::default();
        let end_ns = facts.end_ns;
        for opened in &ledger.opened {
            all.connections.entry(opened.device).or_default().push(Connection {
                device: opened.device,
                epoch: opened.conn_epoch,
                node: Arc::clone(&opened.node),
                opened_ns: opened.at_ns,
                last_frame_ns: end_ns,
                closed: None,
            });
        }
        for closed in &ledger.closed {
            let known = all.connections.get_mut(&closed.device);
            let known = known.and_then(|list| {
                list.iter_mut().rev().find(|known| known.epoch == closed.conn_epoch)
            });
            if let Some(known) = known {
                known.last_frame_ns = closed.last_frame_ns;
                known.closed = Some((closed.at_ns, closed.by));
            }
        }
        for list in all.connections.values_mut() {
            list.sort_by_key(|connection| connection.opened_ns);
        }
        let mut open: BTreeMap<Device, (u64, RouteSeen)> = BTreeMap::new();
        for change in &facts.routes {
            if let Some((from_ns, route)) = open.remove(&change.device) {
                let span = RouteSpan { from_ns, to_ns: change.at_ns, route };
                all.routes.entry(change.device).or_default().push(span);
            }
            if let Some(route) = &change.route {
                open.insert(change.device, (change.at_ns, route.clone()));
            }
        }
        for (device, (from_ns, route)) in open {
            all.routes.entry(device).or_default().push(RouteSpan {
                from_ns,
                to_ns: end_ns.max(from_ns),
                route,
            });
        }
        all.find_stale(facts, bounds);
        all.find_missing(facts, bounds);
        all
    }

    /// The connection a device had at an instant.
    pub fn at(&self, device: Device, at_ns: u64) -> Option<&Connection> {
        let list = self.connections.get(&device)?;
        list.iter().rev().find(|connection| {
            connection.opened_ns <= at_ns
                && connection.closed.is_none_or(|(closed, _)| at_ns < closed)
        })
    }

    fn find_stale(&mut self, facts: &Facts, bounds: &Bounds) {
        let devices = self.connections.len() as u64;
        for (device, spans) in &self.routes {
            let Some(connections) = self.connections.get(device) else { continue };
            for span in spans {
                // A route whose connection the device never learned of is a ghost of an unknown connect.
                let Some(connection) =
                    connections.iter().find(|known| known.epoch == span.route.conn_epoch)
                else {
                    continue;
                };
                let Some((gone_ns, bound_ns, why)) = gone(connection, facts, bounds) else {
                    continue;
                };
                self.gone += 1;
                let from_ns = gone_ns.max(span.from_ns);
                let len_ns = span.to_ns.saturating_sub(from_ns);
                let about = (from_ns, from_ns + bound_ns);
                let blind = facts.faults.iter().any(|log| blinds(log, about, bounds, devices));
                if len_ns > 0 && !blind {
                    let (node, epoch) = (span.route.node.clone(), span.route.conn_epoch);
                    self.stale.push(Deviation {
                        device: *device,
                        node,
                        epoch,
                        from_ns,
                        len_ns,
                        bound_ns,
                        why,
                    });
                }
            }
        }
    }

    fn find_missing(&mut self, facts: &Facts, bounds: &Bounds) {
        if facts.routes.is_empty() {
            return;
        }
        // Routes are read up to some instant; what comes after it is not known.
        let known_ns = facts.end_ns;
        let (bound_ns, devices) = (bounds.routed_ns(), self.connections.len() as u64);
        for (device, connections) in &self.connections {
            let spans = self.routes.get(device).map_or(&[][..], Vec::as_slice);
            for connection in connections {
                let alive_ns = connection.last_frame_ns.min(known_ns);
                if alive_ns <= connection.opened_ns + bound_ns {
                    continue;
                }
                self.checked += 1;
                let mut bare_from = connection.opened_ns;
                let fitting = spans.iter().filter(|span| span.route.conn_epoch >= connection.epoch);
                let marks =
                    fitting.map(|span| (span.from_ns, span.to_ns)).chain([(alive_ns, alive_ns)]);
                for (from_ns, to_ns) in marks {
                    let until = from_ns.min(alive_ns);
                    let len_ns = until.saturating_sub(bare_from);
                    let bare = (bare_from, until);
                    let blind = facts.faults.iter().any(|log| blinds(log, bare, bounds, devices));
                    if len_ns > bound_ns && !blind {
                        self.missing.push(Deviation {
                            device: *device,
                            node: connection.node.to_string(),
                            epoch: connection.epoch,
                            from_ns: bare_from,
                            len_ns,
                            bound_ns,
                            why: "connected",
                        });
                    }
                    bare_from = bare_from.max(to_ns);
                }
            }
        }
    }
}

/// When a connection was gone for good, and how long its route may stay.
fn gone(
    connection: &Connection,
    facts: &Facts,
    bounds: &Bounds,
) -> Option<(u64, u64, &'static str)> {
    let stopped = facts.faults.iter().find(|log| {
        log.kind.is_some_and(FaultKind::stops_node)
            && log.targets.nodes.iter().any(|node| **node == *connection.node)
            && log.injected_ns.is_some_and(|at| {
                at >= connection.opened_ns
                    && connection
                        .closed
                        .is_none_or(|(closed, _)| at <= closed + bounds.stale_clean_ns())
            })
    });
    let paused = |log: &FaultLog| log.kind == Some(FaultKind::Pause);
    let ended = connection.closed.filter(|(_, by)| *by != ClosedBy::End);
    match (stopped, ended) {
        (Some(log), None) if !paused(log) => {
            Some((log.injected_ns?, bounds.stale_dead_ns(), "its node is dead"))
        }
        (Some(log), Some((closed, _))) if paused(log) => {
            Some((closed.max(log.injected_ns?), bounds.stale_dead_ns(), "its node is frozen"))
        }
        (Some(log), Some(_)) => {
            Some((log.injected_ns?, bounds.stale_dead_ns(), "its node is dead"))
        }
        (_, None) => None,
        (None, Some((closed, by))) => {
            let held = facts.faults.iter().any(|log| {
                silences(log, connection, bounds)
                    && log.active_at(
                        connection.last_frame_ns.max(log.began_ns.unwrap_or(0)).min(closed),
                    )
            });
            if by == ClosedBy::Patience || held {
                Some((connection.last_frame_ns, bounds.half_open_ns(), "its link went silent"))
            } else {
                Some((closed, bounds.stale_clean_ns(), "it was closed"))
            }
        }
    }
}

/// Whether a fault makes this link silent. Only links that were there when it came are: the device's next one works. One that was
/// being opened then may say so a little later.
pub(crate) fn silences(log: &FaultLog, connection: &Connection, bounds: &Bounds) -> bool {
    log.kind.is_some_and(FaultKind::silences_links)
        && log.targets.devices.contains(&connection.device)
        && log.injected_ns.is_some_and(|at| connection.opened_ns <= at + bounds.routed_ns())
}

/// Whether the registry could not be trusted in a span: a fault on it, with the time to rebuild. A registry that was emptied has that
/// time from the act on, whenever its fault counts as healed, and what is not back by then is missing.
fn blinds(log: &FaultLog, (from_ns, to_ns): (u64, u64), bounds: &Bounds, devices: u64) -> bool {
    let hit = log.kind.is_some_and(FaultKind::blinds_ports)
        && log.targets.ports.iter().any(|port| port == "registry");
    let Some(injected) = log.injected_ns.filter(|_| hit) else { return false };
    if log.kind == Some(FaultKind::RegistryWipe) {
        return injected <= to_ns && to_ns <= injected + bounds.rebuilt_ns(devices);
    }
    let over = log.healed_ns.map_or(u64::MAX, |at| at + bounds.routed_ns());
    injected <= to_ns && from_ns <= over
}
