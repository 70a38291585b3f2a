//! The live node table every node keeps: its own lease, and a cached view of everybody's.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_protocol::ids::rendezvous;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::PortError;
use crate::registry::{NodeKey, NodeLease, Role, SessionRegistry};

/// A node whose lease was running when the table was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveNode {
    /// Which incarnation.
    pub key: NodeKey,
    /// Where to reach it.
    pub addr: SocketAddr,
    /// What it hosts.
    pub roles: Vec<Role>,
}

/// All live nodes, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTable {
    nodes: Vec<LiveNode>,
}

impl NodeTable {
    /// The table of the nodes among `leases` whose lease is running.
    pub fn of(leases: Vec<NodeLease>) -> Self {
        Self::of_those(leases, |lease| lease.left.is_some())
    }

    fn of_those(leases: Vec<NodeLease>, alive: impl FnMut(&NodeLease) -> bool) -> Self {
        let mut nodes: Vec<_> = leases
            .into_iter()
            .filter(alive)
            .map(|lease| LiveNode { key: lease.key, addr: lease.addr, roles: lease.roles })
            .collect();
        nodes.sort_by(|a, b| a.key.cmp(&b.key));
        // Of two incarnations of one name, the newer one is the node.
        nodes.reverse();
        nodes.dedup_by(|older, newer| older.key.name == newer.key.name);
        nodes.reverse();
        Self { nodes }
    }

    /// All of them.
    pub fn all(&self) -> &[LiveNode] {
        &self.nodes
    }

    /// Those that host a role.
    pub fn with(&self, role: Role) -> Vec<&LiveNode> {
        self.nodes.iter().filter(|n| n.roles.contains(&role)).collect()
    }

    /// Whether exactly this incarnation is alive.
    pub fn has(&self, key: &NodeKey) -> bool {
        self.nodes.iter().any(|n| n.key == *key)
    }

    /// The node of a role that takes care of `key`: rendezvous hashing, so all nodes agree while their tables do.
    pub fn owner(&self, role: Role, key: u64) -> Option<&LiveNode> {
        rendezvous(key, &self.with(role), |n| &n.key.name).copied()
    }
}

/// State of this node's own lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// When the registry last confirmed it.
    pub renewed: Instant,
    /// The registry said that the lease is not ours any more.
    pub lost: bool,
}

/// Keeps this node's lease and the live node table; run it as a task of the node.
pub struct NodeKeeper {
    registry: Arc<dyn SessionRegistry>,
    key: NodeKey,
    renew: Duration,
    ttl: Duration,
    refresh: Duration,
    table: watch::Sender<Arc<NodeTable>>,
    lease: watch::Sender<LeaseState>,
}

/// Beats at once and then each `period`, counted from the last beat where one came late.
fn beats(period: Duration) -> Interval {
    let mut beats = interval(period);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// What the rest of the node sees of its keeper.
#[derive(Clone)]
pub struct NodeView {
    /// This incarnation.
    pub key: NodeKey,
    /// The live node table.
    pub table: watch::Receiver<Arc<NodeTable>>,
    /// The node's own lease.
    pub lease: watch::Receiver<LeaseState>,
}

impl NodeKeeper {
    /// Joins the registry and reads the first table.
    pub async fn join(
        registry: Arc<dyn SessionRegistry>,
        name: &str,
        addr: SocketAddr,
        roles: &[Role],
        timers: &chat_protocol::limits::Timers,
    ) -> Result<(Self, NodeView), PortError> {
        let epoch = registry.join(name, addr, roles, timers.lease_ttl).await?;
        let key = NodeKey { name: name.into(), epoch };
        let table = NodeTable::of(registry.nodes().await?);
        let (table, table_view) = watch::channel(Arc::new(table));
        let (lease, lease_view) =
            watch::channel(LeaseState { renewed: Instant::now(), lost: false });
        let view = NodeView { key: key.clone(), table: table_view, lease: lease_view };
        let keeper = Self {
            registry,
            key,
            renew: timers.lease_renew,
            ttl: timers.lease_ttl,
            refresh: timers.node_table,
            table,
            lease,
        };
        Ok((keeper, view))
    }

    /// Renews and refreshes until `shutdown`, then gives the lease back. A call that fails is tried again at the next beat. A
    /// renewal does not wait for the table to be read: a registry that answers slowly would cost leases otherwise.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep_renewing() => {}
            () = self.keep_refreshing() => {}
        }
        if let Err(error) = self.registry.leave(&self.key).await {
            tracing::debug!(node = %self.key.name, %error, "The lease was not given back; it ends by itself.");
        }
    }

    async fn keep_renewing(&self) {
        let mut beats = beats(self.renew);
        loop {
            beats.tick().await;
            self.renew_once().await;
        }
    }

    async fn keep_refreshing(&self) {
        let mut beats = beats(self.refresh);
        let mut patience = Patience { read: Instant::now(), until: None };
        loop {
            beats.tick().await;
            self.refresh_once(&mut patience).await;
        }
    }

    async fn renew_once(&self) {
        let asked = Instant::now();
        match self.registry.renew(&self.key, self.ttl).await {
            Ok(true) => self.lease.send_modify(|lease| lease.renewed = asked),
            Ok(false) => self.lease.send_modify(|lease| lease.lost = true),
            Err(error) => {
                tracing::debug!(node = %self.key.name, %error, "The lease was not renewed.");
            }
        }
    }

    async fn refresh_once(&self, patience: &mut Patience) {
        let Ok(leases) = self.registry.nodes().await else { return };
        let patient = patience.after_read(self.ttl.saturating_sub(self.renew), self.ttl);
        self.table.send_if_modified(|present| {
            let alive =
                |lease: &NodeLease| lease.left.is_some() || (patient && present.has(&lease.key));
            let table = NodeTable::of_those(leases, alive);
            let changed = **present != table;
            if changed {
                *present = Arc::new(table);
            }
            changed
        });
    }
}

/// After an outage of the registry that outlived leases, ended leases prove nothing: who lives has to be able to renew first. Without
/// it every stream to every node would be closed at the end of each such outage, and what is under way on them lost.
struct Patience {
    /// When the table was last read.
    read: Instant,
    /// Until then a node that was alive before the outage counts as alive while the registry still knows it.
    until: Option<Instant>,
}

impl Patience {
    /// The table was read just now. An outage of more than `outlived` may have ended leases; their nodes get `time`. Whether ended
    /// leases are to be forgiven.
    fn after_read(&mut self, outlived: Duration, time: Duration) -> bool {
        let now = Instant::now();
        if now - self.read > outlived {
            self.until = Some(now + time);
        }
        self.read = now;
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use chat_protocol::DeviceId;
    use chat_protocol::limits::Timers;

    use super::*;
    use crate::registry::{Registered, Route, RouteEntry};

    const TOOK: Duration = Duration::from_millis(250);

    /// Answers late, and what it is told to.
    struct Gray {
        /// Nothing is answered while there is nothing.
        nodes: Mutex<Option<Vec<NodeLease>>>,
    }

    impl Gray {
        fn with(nodes: Vec<NodeLease>) -> Arc<Self> {
            Arc::new(Self { nodes: Mutex::new(Some(nodes)) })
        }

        fn answers(&self, nodes: Option<Vec<NodeLease>>) {
            *self.nodes.lock().unwrap() = nodes;
        }
    }

    fn unasked<T>() -> Result<T, PortError> {
        Err(PortError::Refused("no keeper asks for this".to_owned()))
    }

    #[async_trait]
    impl SessionRegistry for Gray {
        async fn join(
            &self,
            _: &str,
            _: SocketAddr,
            _: &[Role],
            _: Duration,
        ) -> Result<u64, PortError> {
            Ok(1)
        }

        async fn renew(&self, _: &NodeKey, _: Duration) -> Result<bool, PortError> {
            tokio::time::sleep(TOOK).await;
            Ok(true)
        }

        async fn leave(&self, _: &NodeKey) -> Result<(), PortError> {
            Ok(())
        }

        async fn nodes(&self) -> Result<Vec<NodeLease>, PortError> {
            tokio::time::sleep(TOOK).await;
            self.nodes
                .lock()
                .unwrap()
                .clone()
                .ok_or_else(|| PortError::Unknown("cut off".to_owned()))
        }

        async fn register(
            &self,
            _: &NodeKey,
            _: &[(DeviceId, u64)],
        ) -> Result<Vec<Registered>, PortError> {
            unasked()
        }

        async fn unregister(&self, _: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
            unasked()
        }

        async fn routes(&self, _: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError> {
            unasked()
        }

        async fn routes_of(&self, _: &NodeKey, _: usize) -> Result<Vec<RouteEntry>, PortError> {
            unasked()
        }

        async fn claim_dead(&self, _: &str, _: Duration) -> Result<Option<NodeKey>, PortError> {
            unasked()
        }

        async fn forget(&self, _: &NodeKey) -> Result<bool, PortError> {
            unasked()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renewal_in_a_slow_registry_does_not_wait_for_the_table() {
        let timers = Timers::short();
        assert!(timers.node_table < TOOK, "the table is read all the time");
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let registry = Gray::with(Vec::new());
        let (keeper, mut view) =
            NodeKeeper::join(registry, "gateway-1", addr, &[], &timers).await.unwrap();
        let shutdown = CancellationToken::new();
        let watched = async {
            let mut before = view.lease.borrow_and_update().renewed;
            for _ in 0..50 {
                view.lease.changed().await.unwrap();
                assert!(before.elapsed() <= timers.lease_renew + TOOK, "{:?}", before.elapsed());
                before = view.lease.borrow_and_update().renewed;
            }
            shutdown.cancel();
        };
        tokio::join!(keeper.run(shutdown.clone()), watched);
    }

    fn lease(name: &str, epoch: u64, left: Option<Duration>) -> NodeLease {
        let key = NodeKey { name: name.into(), epoch };
        NodeLease { key, addr: SocketAddr::from(([127, 0, 0, 1], 1)), roles: Vec::new(), left }
    }

    /// A keeper that runs while `story` does; the story has its registry, and its table by names.
    async fn kept<Story: Future<Output = ()>>(
        nodes: Vec<NodeLease>,
        story: impl FnOnce(Arc<Gray>, Box<dyn Fn() -> Vec<String>>) -> Story,
    ) {
        let (registry, timers) = (Gray::with(nodes), Timers::DEFAULT);
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let shared: Arc<dyn SessionRegistry> = Arc::<Gray>::clone(&registry);
        let (keeper, view) = NodeKeeper::join(shared, "a", addr, &[], &timers).await.unwrap();
        let names = move || {
            let table = view.table.borrow();
            table.all().iter().map(|node| format!("{}.{}", node.key.name, node.key.epoch)).collect()
        };
        let shutdown = CancellationToken::new();
        let story = async {
            story(registry, Box::new(names)).await;
            shutdown.cancel();
        };
        tokio::join!(keeper.run(shutdown.clone()), story);
    }

    const LEFT: Option<Duration> = Some(Duration::from_secs(1));

    #[tokio::test(start_paused = true)]
    async fn nodes_stay_after_an_outage_in_which_nobody_could_renew() {
        let timers = Timers::DEFAULT;
        let all = vec![lease("a", 1, LEFT), lease("b", 1, LEFT), lease("c", 1, LEFT)];
        kept(all, async |registry, names| {
            registry.answers(None);
            tokio::time::sleep(timers.lease_ttl).await;
            // Back, before anybody has renewed. One node has left, one was replaced.
            let back = vec![lease("a", 1, None), lease("b", 1, None), lease("b", 2, LEFT)];
            registry.answers(Some(back));
            tokio::time::sleep(timers.node_table + 2 * TOOK).await;
            assert_eq!(names(), ["a.1", "b.2"]);
            // Whoever has not renewed in the time of a lease is dead.
            tokio::time::sleep(timers.lease_ttl + timers.node_table).await;
            assert_eq!(names(), ["b.2"]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_stops_renewing_is_gone_at_once_while_the_registry_answers() {
        let timers = Timers::DEFAULT;
        kept(vec![lease("a", 1, LEFT), lease("b", 1, LEFT)], async |registry, names| {
            tokio::time::sleep(timers.lease_ttl).await;
            registry.answers(Some(vec![lease("a", 1, LEFT), lease("b", 1, None)]));
            tokio::time::sleep(timers.node_table + 2 * TOOK).await;
            assert_eq!(names(), ["a.1"]);
        })
        .await;
    }
}
