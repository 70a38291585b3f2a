//! Nodes as threads of this process: those of the embedded substrate.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::{
    CounterReading, FoldView, GaugeReading, NodeInfo, NodeState, SystemEvent, ThreadCpu,
};
use chat_control::{ControlError, Result};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::cpu::CpuLedger;
use crate::embedded::Embedded;
use crate::host::Host;
use crate::node::{self, Shared, Signs, Start};
use crate::readings;
use crate::thread::{self, NodeThread};
use crate::unit::{Unit, expect_state};

/// How long a node may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// What a node is, running or not.
struct Place {
    unit: Unit,
    state: NodeState,
    signs: Arc<Signs>,
    drain: CancellationToken,
    thread: Option<NodeThread>,
}

impl Place {
    /// Notices that a node has ended by itself, after a drain or an error.
    fn look(&mut self) {
        if self.thread.as_ref().is_some_and(NodeThread::ended) {
            self.thread = None;
            self.state = NodeState::Stopped;
        }
    }

    fn expect_state(&self, fits: &[NodeState]) -> Result<()> {
        expect_state(&self.unit.name, self.state, fits)
    }
}

/// A node by name, as it is now.
fn place_of<'a>(places: &'a mut BTreeMap<String, Place>, node: &str) -> Result<&'a mut Place> {
    let place = places.get_mut(node).ok_or_else(|| ControlError::Unknown(node.to_owned()))?;
    place.look();
    Ok(place)
}

/// The nodes and what they share.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    backends: Arc<Embedded>,
    order: Vec<String>,
    places: Mutex<BTreeMap<String, Place>>,
    cpu: Arc<CpuLedger>,
}

impl Threads {
    /// None of the nodes runs yet.
    pub(crate) fn new(shared: Shared, backends: Arc<Embedded>, units: Vec<Unit>) -> Self {
        let order = units.iter().map(|unit| unit.name.clone()).collect();
        let place = |unit: Unit| {
            let (state, drain) = (NodeState::Stopped, CancellationToken::new());
            (unit.name.clone(), Place { unit, state, signs: Arc::default(), drain, thread: None })
        };
        Self {
            shared: Arc::new(shared),
            backends,
            order,
            places: Mutex::new(units.into_iter().map(place).collect()),
            cpu: Arc::default(),
        }
    }

    /// Starts a node that does not run and waits until it is ready.
    async fn launch(&self, place: &mut Place) -> Result<()> {
        let (ready, mut is_ready) = watch::channel(false);
        place.drain = CancellationToken::new();
        let Unit { name, kind, roles, addr } = place.unit.clone();
        let (shared, signs, drain) =
            (Arc::clone(&self.shared), Arc::clone(&place.signs), place.drain.clone());
        let node: Arc<str> = name.as_str().into();
        let ports = self.backends.ports_of(&name);
        let main: thread::Main = Box::new(move || {
            let main: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
                let leases = shared.settings.policies.sessions.lease;
                let ports = match ports {
                    Ok(ports) => ports.under(leases),
                    Err(error) => {
                        tracing::error!(%node, %error, "The node has no ports.");
                        return;
                    }
                };
                let shutdown = CancellationToken::new();
                let start =
                    Start { name: node, addr, roles, shared, signs, ready, drain, shutdown };
                Box::pin(node::run(kind, start, Some(ports))).await;
            });
            main
        });
        let thread = NodeThread::start(&kind.thread_name(&name), Arc::clone(&self.cpu), main)
            .map_err(|error| ControlError::Failed(format!("no thread for `{name}`: {error}")))?;
        let ready = tokio::time::timeout(READY_LIMIT, is_ready.wait_for(|ready| *ready))
            .await
            .map(|ready| ready.is_ok());
        match ready {
            Ok(true) => {
                place.thread = Some(thread);
                place.state = NodeState::Running;
                Ok(())
            }
            Ok(false) => {
                thread.kill().await;
                let port = addr.port();
                let why = format!("`{name}` ended before it was ready; is port {port} taken?");
                Err(ControlError::Failed(why))
            }
            Err(_) => {
                thread.kill().await;
                Err(ControlError::TimedOut(name))
            }
        }
    }
}

#[async_trait]
impl Host for Threads {
    async fn start_all(&self) -> Result<()> {
        let mut places = self.places.lock().await;
        for name in &self.order {
            self.launch(place_of(&mut places, name)?).await?;
        }
        Ok(())
    }

    async fn nodes(&self) -> Vec<NodeInfo> {
        let mut places = self.places.lock().await;
        let info = |place: &mut Place| {
            place.look();
            let (epoch, connections) = (&place.signs.epoch, &place.signs.connections);
            place.unit.info(place.state, epoch.load(Relaxed), connections.load(Relaxed))
        };
        places.values_mut().map(info).collect()
    }

    async fn start(&self, node: &str) -> Result<()> {
        let mut places = self.places.lock().await;
        let place = place_of(&mut places, node)?;
        place.expect_state(&[NodeState::Stopped, NodeState::Vanished])?;
        if let Some(thread) = place.thread.take() {
            thread.kill().await;
        }
        self.launch(place).await
    }

    async fn kill(&self, node: &str, how: KillHow) -> Result<()> {
        let mut places = self.places.lock().await;
        let place = place_of(&mut places, node)?;
        place.expect_state(&[NodeState::Running, NodeState::Draining, NodeState::Paused])?;
        let Some(thread) = place.thread.as_mut() else { return Ok(()) };
        match how {
            KillHow::Process => {
                if let Some(thread) = place.thread.take() {
                    thread.kill().await;
                }
                place.state = NodeState::Stopped;
            }
            KillHow::Silent => {
                if place.state != NodeState::Paused && !thread.pause().await {
                    return Err(ControlError::Failed(format!("`{node}` ended before it vanished")));
                }
                place.state = NodeState::Vanished;
            }
        }
        place.signs.connections.store(0, Relaxed);
        Ok(())
    }

    async fn pause(&self, node: &str) -> Result<()> {
        let mut places = self.places.lock().await;
        let place = place_of(&mut places, node)?;
        place.expect_state(&[NodeState::Running])?;
        let paused = match place.thread.as_mut() {
            Some(thread) => thread.pause().await,
            None => false,
        };
        if !paused {
            return Err(ControlError::Failed(format!("`{node}` ended before it stood still")));
        }
        place.state = NodeState::Paused;
        Ok(())
    }

    async fn resume(&self, node: &str) -> Result<()> {
        let mut places = self.places.lock().await;
        let place = place_of(&mut places, node)?;
        place.expect_state(&[NodeState::Paused])?;
        if !place.thread.as_mut().is_some_and(NodeThread::resume) {
            return Err(ControlError::Failed(format!("`{node}` is not there any more")));
        }
        place.state = NodeState::Running;
        Ok(())
    }

    async fn drain(&self, node: &str) -> Result<()> {
        let mut places = self.places.lock().await;
        let place = place_of(&mut places, node)?;
        place.expect_state(&[NodeState::Running])?;
        place.drain.cancel();
        place.state = NodeState::Draining;
        Ok(())
    }

    /// Rules stand in the substrate, whose hooks all nodes share.
    async fn port_rule(
        &self,
        _: &str,
        _: Option<&str>,
        _: Option<&PortRule>,
    ) -> Option<Result<()>> {
        None
    }

    /// Groups are paused in the substrate, which all members share.
    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<()> {
        let done = self.backends.consumer_pause(group, paused).await;
        done.map_err(|error| ControlError::Failed(error.to_string()))
    }

    async fn counters(&self) -> Vec<CounterReading> {
        readings::counters(&self.shared.observer)
    }

    async fn gauges(&self) -> Vec<GaugeReading> {
        readings::gauges(&self.shared.observer)
    }

    async fn events(&self, cursor: u64) -> (Vec<SystemEvent>, u64) {
        readings::events(&self.shared.observer, cursor)
    }

    async fn folds(&self) -> Vec<FoldView> {
        readings::folds(&self.shared.folds)
    }

    async fn cpu(&self) -> Vec<ThreadCpu> {
        self.cpu.threads()
    }

    async fn stop(&self) {
        let mut places = self.places.lock().await;
        for place in places.values_mut() {
            place.state = NodeState::Stopped;
            if let Some(thread) = place.thread.take() {
                thread.kill().await;
            }
        }
    }
}
