//! The observer on the control door: looks once a second and notes what it sees as facts. It never judges.
use std::collections::{BTreeMap, BTreeSet};

use chat_control::inspect::{EventKind, RouteChange, SystemEvent};
use chat_control::{Control, ControlError};
use chat_protocol::{ConvId, DeviceId, UserId};
use storm_record::facts::{
    CounterList, CpuList, DigestList, DigestSeen, Fact, FoldList, FoldSeen, GaugeList, GaugeSeen,
    LagList, LagSeen, LeaseList, LeaseSeen, NodeList, NodeSeen, ObserverLost, QueueList, QueueSeen,
    RouteFact, RouteSeen, SystemFact, SystemWhat,
};
use storm_workload::population::{DeviceIx, Population};

use crate::host;
use crate::notes::Notes;

/// Devices or conversations asked for in one look of the final reads.
const PAGE: usize = 512;

/// Converts a wall instant of the system to the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// Wall milliseconds at the run's start.
    pub start_ms: u64,
}

impl WallClock {
    fn ns(self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.start_ms).saturating_mul(1_000_000)
    }
}

/// Looks at one system during one run.
pub struct Watch<'a> {
    control: &'a dyn Control,
    people: &'a Population,
    notes: &'a dyn Notes,
    wall: WallClock,
    routes: u64,
    events: u64,
    folds: BTreeSet<(String, String, u32, u64)>,
    lost: BTreeSet<&'static str>,
    /// CPU time of a thread that ended stays in the sum of its name.
    cpu: BTreeMap<String, u64>,
}

impl<'a> Watch<'a> {
    /// An observer that has seen nothing yet.
    pub fn new(
        control: &'a dyn Control,
        people: &'a Population,
        notes: &'a dyn Notes,
        wall: WallClock,
    ) -> Self {
        Self {
            control,
            people,
            notes,
            wall,
            routes: 0,
            events: 0,
            folds: BTreeSet::new(),
            lost: BTreeSet::new(),
            cpu: BTreeMap::new(),
        }
    }

    /// One look at everything that changes while a run lasts.
    pub async fn look(&mut self, at_ns: u64) {
        // First, since what is left of a lease counts from the instant of the look.
        self.leases(at_ns).await;
        self.threads(at_ns).await;
        self.routes(at_ns).await;
        self.events(at_ns).await;
        self.nodes(at_ns).await;
        self.gauges(at_ns).await;
        self.counters(at_ns).await;
        self.lags(at_ns).await;
        self.folds(at_ns).await;
        if let Some(memory) = host::memory(at_ns) {
            self.notes.note(Fact::Memory(memory));
        }
    }

    async fn routes(&mut self, at_ns: u64) {
        let answer = self.control.routes(self.routes).await;
        let Some((changes, next)) = self.seen("routes", answer, at_ns) else { return };
        self.routes = next;
        for change in changes {
            if let Some(fact) = self.route(&change) {
                self.notes.note(Fact::Route(fact));
            }
        }
    }

    /// Routes of devices that are not of the plan (somebody else's client) are nobody's fact.
    fn route(&self, change: &RouteChange) -> Option<RouteFact> {
        let route = change.route.as_ref().map(|route| RouteSeen {
            node: route.node.clone(),
            node_epoch: route.node_epoch,
            conn_epoch: route.conn_epoch,
        });
        Some(RouteFact {
            device: self.dense(change.device)?,
            route,
            at_ns: self.wall.ns(change.at_ms),
        })
    }

    fn dense(&self, device: DeviceId) -> Option<u32> {
        let user = u32::try_from(device.user().0).ok()?;
        self.people.device(user, device.index()).map(|ix| ix.0)
    }

    async fn events(&mut self, at_ns: u64) {
        let answer = self.control.events(self.events).await;
        let Some((events, next)) = self.seen("events", answer, at_ns) else { return };
        self.events = next;
        for event in events {
            if let Some(fact) = self.event(event) {
                self.notes.note(Fact::System(fact));
            }
        }
    }

    fn event(&self, event: SystemEvent) -> Option<SystemFact> {
        let what = match event.kind {
            EventKind::ConnectionClosed { device, conn_epoch, code, silent_ms } => {
                SystemWhat::ConnectionClosed {
                    device: self.dense(device)?,
                    conn_epoch,
                    code,
                    silent_ms,
                }
            }
            EventKind::Fenced => SystemWhat::Fenced,
            EventKind::RouteSwept { device } => SystemWhat::RouteSwept(self.dense(device)?),
            EventKind::FloorRaised { device } => SystemWhat::FloorRaised(self.dense(device)?),
            EventKind::LeaderElected { partition, broker } => {
                SystemWhat::LeaderElected { partition, broker }
            }
            EventKind::PartitionAssigned { group, partition } => {
                SystemWhat::PartitionAssigned { group, partition }
            }
            EventKind::PartitionStopped { group, partition, why } => {
                SystemWhat::PartitionStopped { group, partition, why }
            }
            EventKind::EventsLost => SystemWhat::EventsLost,
        };
        Some(SystemFact { at_ns: self.wall.ns(event.at_ms), node: event.node, what })
    }

    async fn nodes(&mut self, at_ns: u64) {
        let answer = self.control.nodes().await;
        let Some(nodes) = self.seen("nodes", answer, at_ns) else { return };
        let nodes = nodes
            .into_iter()
            .map(|node| NodeSeen {
                node: node.name,
                roles: node.roles,
                epoch: node.epoch,
                state: format!("{:?}", node.state).to_lowercase(),
                connections: node.connections,
            })
            .collect();
        self.notes.note(Fact::Nodes(NodeList { at_ns, nodes }));
    }

    async fn leases(&mut self, at_ns: u64) {
        let answer = self.control.leases().await;
        let Some(leases) = self.seen("leases", answer, at_ns) else { return };
        let leases = leases
            .into_iter()
            .map(|lease| LeaseSeen { node: lease.node, epoch: lease.epoch, left_ms: lease.left_ms })
            .collect();
        self.notes.note(Fact::Leases(LeaseList { at_ns, leases }));
    }

    async fn gauges(&mut self, at_ns: u64) {
        let answer = self.control.gauges().await;
        let Some(gauges) = self.seen("gauges", answer, at_ns) else { return };
        let gauges = gauges
            .into_iter()
            .map(|g| GaugeSeen { name: g.name, value: g.value, limit: g.limit })
            .collect();
        self.notes.note(Fact::Gauges(GaugeList { at_ns, gauges }));
    }

    async fn counters(&mut self, at_ns: u64) {
        let answer = self.control.counters().await;
        let Some(counters) = self.seen("counters", answer, at_ns) else { return };
        let counters = counters.into_iter().map(|c| (c.name, c.value)).collect();
        self.notes.note(Fact::Counters(CounterList { at_ns, counters }));
    }

    async fn lags(&mut self, at_ns: u64) {
        let answer = self.control.lags().await;
        let Some(lags) = self.seen("lags", answer, at_ns) else { return };
        let lags = lags
            .into_iter()
            .filter(|lag| lag.end > lag.position)
            .map(|lag| LagSeen {
                group: lag.group,
                topic: lag.topic,
                partition: lag.partition,
                behind: lag.end - lag.position,
                oldest_ms: lag.oldest_ms,
            })
            .collect();
        self.notes.note(Fact::Lags(LagList { at_ns, lags }));
    }

    /// Every checkpoint is noted once; two readers that differ at one offset are the judge's business.
    async fn folds(&mut self, at_ns: u64) {
        let answer = self.control.folds().await;
        let Some(views) = self.seen("folds", answer, at_ns) else { return };
        let mut folds = Vec::new();
        for view in views {
            for (offset, digest) in view.checkpoints {
                let key = (view.group.clone(), view.node.clone(), view.partition, offset);
                if self.folds.insert(key) {
                    let (group, node) = (view.group.clone(), view.node.clone());
                    folds.push(FoldSeen { group, node, partition: view.partition, offset, digest });
                }
            }
        }
        if !folds.is_empty() {
            self.notes.note(Fact::Folds(FoldList { at_ns, folds }));
        }
    }

    async fn threads(&mut self, at_ns: u64) {
        let answer = self.control.threads().await;
        let Some(threads) = self.seen("threads", answer, at_ns) else { return };
        let apart = threads.iter().filter(|thread| thread.apart).map(|thread| thread.cpu_ns).sum();
        if let Some(used) = host::cores(at_ns, apart) {
            self.notes.note(Fact::Host(used));
        }
        for thread in threads {
            let known = self.cpu.entry(thread.thread).or_default();
            *known = (*known).max(thread.cpu_ns);
        }
        self.notes.note(Fact::Cpu(CpuList { at_ns, threads: self.cpu.clone() }));
    }

    /// The relay queues of all devices; those that hold something are listed.
    pub async fn queues(&mut self, at_ns: u64, last: bool) -> bool {
        let id = |dense: u32| {
            let (user, index) = self.people.split(DeviceIx(dense));
            (dense, UserId(u64::from(user)).device(index))
        };
        let devices: Vec<_> = (0..self.people.devices()).map(id).collect();
        let mut queues = Vec::new();
        for page in devices.chunks(PAGE) {
            let ids: Vec<_> = page.iter().map(|(_, id)| *id).collect();
            let answer = self.control.queues(&ids).await;
            let Some(views) = self.seen("queues", answer, at_ns) else { return false };
            for ((dense, _), view) in page.iter().zip(views) {
                let items = (view.top + 1).saturating_sub(view.base);
                if view.epoch > 0 && items > 0 {
                    queues.push(QueueSeen { device: *dense, items, oldest_ms: view.oldest_ms });
                }
            }
        }
        self.notes.note(Fact::Queues(QueueList {
            at_ns,
            last,
            looked: devices.len() as u64,
            queues,
        }));
        true
    }

    /// What history holds of every conversation.
    pub async fn history(&mut self, at_ns: u64, convs: &[ConvId]) -> bool {
        for page in convs.chunks(PAGE) {
            let answer = self.control.digests(page).await;
            let Some(views) = self.seen("digests", answer, at_ns) else { return false };
            let digests = views
                .into_iter()
                .map(|view| DigestSeen {
                    conv: view.conv,
                    rows: view.rows,
                    top: view.top,
                    digest: view.digest,
                })
                .collect();
            self.notes.note(Fact::Digests(DigestList { at_ns, digests }));
        }
        true
    }

    /// Notes a failed look once an observer; the verdict can then not be Pass.
    fn seen<T>(
        &mut self,
        observer: &'static str,
        answer: Result<T, ControlError>,
        at_ns: u64,
    ) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(error) => {
                if self.lost.insert(observer) {
                    let lost = ObserverLost {
                        observer: observer.to_owned(),
                        why: error.to_string(),
                        at_ns,
                    };
                    self.notes.note(Fact::ObserverLost(lost));
                }
                None
            }
        }
    }
}
