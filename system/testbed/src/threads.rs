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
use crate::host::Host;
use crate::node::{self, Shared, Signs, Start};
use crate::readings;
use crate::substrate::Substrate;
use crate::thread::{self, NodeThread};
use crate::unit::{Unit, expect_state};

/// How long a node may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// What a node is, running or not.
struct Slot {
    unit: Unit,
    state: NodeState,
    signs: Arc<Signs>,
    drain: CancellationToken,
    thread: Option<NodeThread>,
}

impl Slot {
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
fn slot_of<'a>(slots: &'a mut BTreeMap<String, Slot>, node: &str) -> Result<&'a mut Slot> {
    let slot = slots.get_mut(node).ok_or_else(|| ControlError::Unknown(node.to_owned()))?;
    slot.look();
    Ok(slot)
}

/// The nodes and what they share.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    substrate: Arc<dyn Substrate>,
    order: Vec<String>,
    slots: Mutex<BTreeMap<String, Slot>>,
    cpu: Arc<CpuLedger>,
}

impl Threads {
    /// None of the nodes runs yet.
    pub(crate) fn new(shared: Shared, substrate: Arc<dyn Substrate>, units: Vec<Unit>) -> Self {
        let order = units.iter().map(|unit| unit.name.clone()).collect();
        let slot = |unit: Unit| {
            let (state, drain) = (NodeState::Stopped, CancellationToken::new());
            (unit.name.clone(), Slot { unit, state, signs: Arc::default(), drain, thread: None })
        };
        Self {
            shared: Arc::new(shared),
            substrate,
            order,
            slots: Mutex::new(units.into_iter().map(slot).collect()),
            cpu: Arc::default(),
        }
    }

    /// Starts a node that does not run and waits until it is ready.
    async fn launch(&self, slot: &mut Slot) -> Result<()> {
        let (ready, mut is_ready) = watch::channel(false);
        slot.drain = CancellationToken::new();
        let Unit { name, kind, roles, addr } = slot.unit.clone();
        let (shared, signs, drain) =
            (Arc::clone(&self.shared), Arc::clone(&slot.signs), slot.drain.clone());
        let node: Arc<str> = name.as_str().into();
        let make = self.substrate.ports_of(&name);
        let main: thread::Main = Box::new(move || {
            let main: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
                let leases = shared.settings.policies.sessions.lease;
                let ports = match make().await {
                    Ok(ports) => ports.under(leases),
                    Err(error) => {
                        tracing::error!(%node, %error, "The node has no ports.");
                        return;
                    }
                };
                let shutdown = CancellationToken::new();
                let start =
                    Start { name: node, addr, roles, shared, ports, signs, ready, drain, shutdown };
                Box::pin(node::run(kind, start)).await;
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
                slot.thread = Some(thread);
                slot.state = NodeState::Running;
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
        let mut slots = self.slots.lock().await;
        for name in &self.order {
            self.launch(slot_of(&mut slots, name)?).await?;
        }
        Ok(())
    }

    async fn nodes(&self) -> Vec<NodeInfo> {
        let mut slots = self.slots.lock().await;
        let info = |slot: &mut Slot| {
            slot.look();
            let (epoch, connections) = (&slot.signs.epoch, &slot.signs.connections);
            slot.unit.info(slot.state, epoch.load(Relaxed), connections.load(Relaxed))
        };
        slots.values_mut().map(info).collect()
    }

    async fn start(&self, node: &str) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(&[NodeState::Stopped, NodeState::Vanished])?;
        if let Some(thread) = slot.thread.take() {
            thread.kill().await;
        }
        self.launch(slot).await
    }

    async fn kill(&self, node: &str, how: KillHow) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(&[NodeState::Running, NodeState::Draining, NodeState::Paused])?;
        let Some(thread) = slot.thread.as_mut() else { return Ok(()) };
        match how {
            KillHow::Process => {
                if let Some(thread) = slot.thread.take() {
                    thread.kill().await;
                }
                slot.state = NodeState::Stopped;
            }
            KillHow::Silent => {
                if slot.state != NodeState::Paused && !thread.pause().await {
                    return Err(ControlError::Failed(format!("`{node}` ended before it vanished")));
                }
                slot.state = NodeState::Vanished;
            }
        }
        slot.signs.connections.store(0, Relaxed);
        Ok(())
    }

    async fn pause(&self, node: &str) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(&[NodeState::Running])?;
        let paused = match slot.thread.as_mut() {
            Some(thread) => thread.pause().await,
            None => false,
        };
        if !paused {
            return Err(ControlError::Failed(format!("`{node}` ended before it stood still")));
        }
        slot.state = NodeState::Paused;
        Ok(())
    }

    async fn resume(&self, node: &str) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(&[NodeState::Paused])?;
        if !slot.thread.as_mut().is_some_and(NodeThread::resume) {
            return Err(ControlError::Failed(format!("`{node}` is not there any more")));
        }
        slot.state = NodeState::Running;
        Ok(())
    }

    async fn drain(&self, node: &str) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(&[NodeState::Running])?;
        slot.drain.cancel();
        slot.state = NodeState::Draining;
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
    async fn consumer_pause(&self, _: &str, _: bool) -> Result<()> {
        Ok(())
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
        let mut slots = self.slots.lock().await;
        for slot in slots.values_mut() {
            slot.state = NodeState::Stopped;
            if let Some(thread) = slot.thread.take() {
                thread.kill().await;
            }
        }
    }
}
