//! All conditioned links of a run.
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat_control::act::PortRule;
use chat_ports::observe::Observer;
use futures_util::future;

use super::api::Api;
use super::driver::Driver;
use super::listener::{Limits, Listener, Tools};
use super::plan::LinkPlan;
use super::rules::Rules;
use super::toxic::toxics_of;
use super::{Backend, LinkError};

/// Where a backend is.
#[derive(Clone, Debug)]
pub(in crate::containers) struct Route {
    /// As containers reach it: name and port.
    pub(in crate::containers) upstream: String,
    /// As this host reaches it, without Toxiproxy.
    pub(in crate::containers) direct: SocketAddr,
}

/// The links. Rules of several listeners are put beside each other, those of one listener one after another.
pub(in crate::containers) struct Links {
    plan: LinkPlan,
    /// A listener is held while its toxics change.
    listeners: Vec<tokio::sync::Mutex<Listener>>,
    rules: Mutex<Rules>,
    tools: Tools,
}

impl Links {
    /// Opens all listeners of a plan on a Toxiproxy, and reads each back. One try; a Toxiproxy that is not up yet is an error.
    ///
    /// Counts `toxiproxy.changes` (changes that were read back as asked) and `toxiproxy.heal_forced` (listeners that had to be closed
    /// and opened again to be healed).
    pub(in crate::containers) async fn open(
        plan: &LinkPlan,
        api: SocketAddr,
        route: impl Fn(Backend) -> Route,
        observer: &Observer,
    ) -> Result<Self, LinkError> {
        Self::open_within(plan, api, route, observer, Limits::default()).await
    }

    pub(super) async fn open_within(
        plan: &LinkPlan,
        api: SocketAddr,
        route: impl Fn(Backend) -> Route,
        observer: &Observer,
        limits: Limits,
    ) -> Result<Self, LinkError> {
        let tools = Tools {
            api: Api::new(api, limits.call),
            driver: Driver::start(api, limits.call)?,
            limits,
            changed: observer.counter("toxiproxy.changes"),
            forced: observer.counter("toxiproxy.heal_forced"),
        };
        let listeners: Vec<_> = plan
            .all()
            .iter()
            .map(|planned| {
                let Route { upstream, direct } = route(planned.backend);
                Listener::new(planned, upstream, direct)
            })
            .collect();
        let version = tools.driver.version().await?;
        tools.driver.populate(listeners.iter().map(Listener::as_told).collect()).await?;
        future::try_join_all(listeners.iter().map(|listener| listener.put(&tools, &[]))).await?;
        tracing::info!(
            version,
            listeners = listeners.len(),
            "Toxiproxy stands between nodes and backends."
        );
        let listeners = listeners.into_iter().map(tokio::sync::Mutex::new).collect();
        Ok(Self { plan: plan.clone(), listeners, rules: Mutex::default(), tools })
    }

    /// Whether rules on the ports of a backend can be kept.
    pub(in crate::containers) fn conditions(&self, backend: Backend) -> bool {
        self.plan.conditions(backend)
    }

    /// Puts a rule on the link behind a port, of one node or of all, or takes it away. Returns when it was read back, and after a
    /// heal when calls get through again. Doing it twice does no harm; ports that share a link each have their own rule.
    ///
    /// When it fails the rule does not count, but some links may have it: taking it away settles them.
    pub(in crate::containers) async fn rule(
        &self,
        backend: Backend,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<(), LinkError> {
        toxics_of(rule.as_ref())?;
        if let Some(node) = node
            && self.plan.port(backend, node).is_none()
        {
            // What cannot have a rule needs no healing, and an undo may come without its fault.
            if rule.is_none() {
                return Ok(());
            }
            let backend = backend.name();
            return Err(LinkError::Rule(format!("node `{node}` has no link to `{backend}`")));
        }
        let heals = rule.is_none();
        let before = self.rules().set(backend, port, node, rule);
        let hit = self.plan.all().iter().zip(&self.listeners).filter(|(planned, _)| {
            planned.backend == backend && node.is_none_or(|node| node == planned.node)
        });
        let done = hit.map(|(_, listener)| self.bring(listener, heals));
        let failed = future::join_all(done).await.into_iter().find_map(Result::err);
        let Some(error) = failed else { return Ok(()) };
        if !heals {
            self.rules().set(backend, port, node, before);
        }
        Err(error)
    }

    /// Brings a listener to the rule that is in force now, which may be a later one than the caller's.
    async fn bring(
        &self,
        listener: &tokio::sync::Mutex<Listener>,
        heals: bool,
    ) -> Result<(), LinkError> {
        let listener = listener.lock().await;
        let rule = self.rules().effective(listener.backend, &listener.node);
        let wanted = toxics_of(rule.as_ref())?;
        if heals {
            listener.heal(&self.tools, &wanted).await
        } else {
            listener.put(&self.tools, &wanted).await
        }
    }

    /// Ends the library's thread. To be called when Toxiproxy is gone, so that nothing can hang.
    pub(in crate::containers) async fn stop(&self) {
        self.tools.driver.stop().await;
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
