//! What is done to a node. Acts on one node come one after another.
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::{
    CounterReading, FoldView, GaugeReading, NodeInfo, NodeState, SystemEvent, ThreadCpu,
};
use chat_control::{ControlError, Result};
use chat_embedded::guard::PORTS;
use futures_util::future;
use tokio::time::Instant;

use super::super::recipe;
use super::super::toxiproxy::Backend;
use super::place::Place;
use super::{Nodes, failed};
use crate::host::Host;
use crate::process::wire::Ask;
use crate::unit::{Kind, expect_state};

/// How long a node may take from the start of its container until it serves.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at a node that starts.
const LOOK: Duration = Duration::from_millis(50);
/// So often the engine is asked whether the container of a node that starts still runs.
const LOOKS_AN_ENGINE: u32 = 10;

impl Nodes {
    /// Makes and starts the container of a node for the first time.
    async fn launch(&self, place: &Place) -> Result<()> {
        let mut container = place.acts.lock().await;
        let request = self.recipe.request(&place.unit, place.number).map_err(failed)?;
        self.begins(place).await;
        *container = Some(recipe::start(request).await.map_err(failed)?);
        self.wait_ready(place).await
    }

    /// Forgets what belonged to the incarnation before, while nobody reads its events: their cursor would be set for this one.
    async fn begins(&self, place: &Place) {
        let _unread = self.merged.lock().await;
        place.begins();
    }

    /// Waits until a node serves. What stands is told to it as soon as its door is open, and when it serves once more, since what was
    /// said to all in between was not said to it.
    async fn wait_ready(&self, place: &Place) -> Result<()> {
        let until = Instant::now() + READY_LIMIT;
        let mut told = false;
        for look in 1_u32.. {
            if let Ok(ready) = place.read_signs().await
                && (ready || !told)
            {
                let standing = self.standing.lock().await;
                told = tell(place, &standing.told(&place.unit)).await.is_ok();
                if ready && told {
                    place.set(NodeState::Running);
                    break;
                }
            }
            let expired = Instant::now() >= until;
            if expired || look.is_multiple_of(LOOKS_AN_ENGINE) {
                let runs = self.engine.runs(&place.container).await.unwrap_or(true);
                if !runs || expired {
                    let node = &place.unit.name;
                    let log = self.engine.last_lines(&place.container).await;
                    let what =
                        if runs { "is not ready after 30 s" } else { "ended before it was ready" };
                    if runs {
                        // As with every node that does not become ready: nothing half-started is left.
                        self.engine.kill(&place.container).await.map_err(failed)?;
                    }
                    place.set(NodeState::Stopped);
                    let why = format!("`{node}` {what}; its last lines:\n{log}");
                    return Err(ControlError::Failed(why));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Tells something to all nodes that execute; the others hear of it when they go on or start. The caller holds what stands.
    async fn tell_all(&self, node: Option<&str>, ask: Ask) -> Result<()> {
        let fits = |place: &&Place| {
            place.unit.kind != Kind::Balancer
                && node.is_none_or(|node| node == place.unit.name)
                && matches!(place.state(), NodeState::Running | NodeState::Draining)
        };
        let tell = self.places.values().filter(fits).map(|place| async {
            place.tell(&ask).await.map_err(|error| untold(&place.unit.name, &error))
        });
        future::join_all(tell).await.into_iter().collect()
    }

    /// The last readings of a node that is about to end.
    async fn last_readings(&self, place: &Place) {
        let mut merged = self.merged.lock().await;
        if let Err(error) = self.read_all(place, &mut merged).await {
            let node = &place.unit.name;
            tracing::debug!(node, %error, "What the node counted last is not known.");
        }
    }

    /// Removes the containers; their logs are written before.
    async fn remove_all(&self) {
        if let Some(folder) = &self.logs {
            self.engine.save_logs(&self.recipe.layout, folder).await;
        }
        let gone = self.places.values().map(|place| async {
            let container = place.acts.lock().await.take();
            place.set(NodeState::Stopped);
            if let Some(container) = container
                && let Err(error) = container.rm().await
            {
                tracing::warn!(%error, "The container of a node could not be removed.");
            }
        });
        future::join_all(gone).await;
    }
}

/// Tells a node one thing after another.
async fn tell(place: &Place, asks: &[Ask]) -> io::Result<()> {
    for ask in asks {
        place.tell(ask).await?;
    }
    Ok(())
}

fn untold(node: &str, error: &io::Error) -> ControlError {
    ControlError::Failed(format!("`{node}` was not told: {error}"))
}

#[async_trait]
impl Host for Nodes {
    async fn start_all(&self) -> Result<()> {
        for kind in [Kind::Service, Kind::Gateway, Kind::Balancer] {
            // Those of one kind beside each other.
            let started = future::join_all(self.of(kind).map(|place| self.launch(place))).await;
            started.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }

    async fn nodes(&self) -> Vec<NodeInfo> {
        future::join_all(self.places.values().map(|place| self.look(place))).await;
        self.places.values().map(Place::info).collect()
    }

    async fn start(&self, node: &str) -> Result<()> {
        let place = self.place(node)?;
        let _acts = place.acts.lock().await;
        self.refresh(place).await;
        let state = place.state();
        expect_state(node, state, &[NodeState::Stopped, NodeState::Vanished])?;
        if state == NodeState::Vanished {
            self.engine.kill(&place.container).await.map_err(failed)?;
            place.set(NodeState::Stopped);
        }
        self.begins(place).await;
        self.engine.start(&place.container).await.map_err(failed)?;
        self.wait_ready(place).await
    }

    async fn kill(&self, node: &str, how: KillHow) -> Result<()> {
        let place = self.place(node)?;
        let _acts = place.acts.lock().await;
        let alive = [NodeState::Running, NodeState::Draining, NodeState::Paused];
        expect_state(node, place.state(), &alive)?;
        if place.state() != NodeState::Paused {
            self.last_readings(place).await;
        }
        match how {
            KillHow::Process => {
                self.engine.kill(&place.container).await.map_err(failed)?;
                place.set(NodeState::Stopped);
            }
            KillHow::Silent => {
                // It executes nothing any more, and its sockets stay open until it is started again. Taken from its network instead it
                // would not be silent: what clients send next is refused by this host.
                if place.state() != NodeState::Paused {
                    self.engine.pause(&place.container).await.map_err(failed)?;
                }
                place.set(NodeState::Vanished);
            }
        }
        Ok(())
    }

    async fn pause(&self, node: &str) -> Result<()> {
        let place = self.place(node)?;
        let _acts = place.acts.lock().await;
        expect_state(node, place.state(), &[NodeState::Running])?;
        self.engine.pause(&place.container).await.map_err(failed)?;
        place.set(NodeState::Paused);
        Ok(())
    }

    async fn resume(&self, node: &str) -> Result<()> {
        let place = self.place(node)?;
        let _acts = place.acts.lock().await;
        expect_state(node, place.state(), &[NodeState::Paused])?;
        self.engine.unpause(&place.container).await.map_err(failed)?;
        // What was said to all while it stood still. Until it has heard that it counts as paused, so that who tries again does so.
        let standing = self.standing.lock().await;
        let told = tell(place, &standing.told(&place.unit)).await;
        told.map_err(|error| untold(node, &error))?;
        place.set(NodeState::Running);
        Ok(())
    }

    async fn drain(&self, node: &str) -> Result<()> {
        let place = self.place(node)?;
        let _acts = place.acts.lock().await;
        expect_state(node, place.state(), &[NodeState::Running])?;
        self.engine.signal(&place.container, "SIGTERM").await.map_err(failed)?;
        place.set(NodeState::Draining);
        Ok(())
    }

    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<&PortRule>,
    ) -> Option<Result<()>> {
        // Between a node and these backends stand proxies, which the substrate sets.
        if Backend::of_port(port).is_some() {
            return None;
        }
        // It would be kept, and every node that starts would refuse it.
        if !PORTS.contains(&port) {
            return Some(Err(ControlError::Failed(format!("there is no port `{port}`"))));
        }
        let mut standing = self.standing.lock().await;
        let ask = standing.rule(port, node, rule);
        Some(self.tell_all(node, ask).await)
    }

    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<()> {
        let mut standing = self.standing.lock().await;
        let ask = standing.consumer(group, paused);
        self.tell_all(None, ask).await
    }

    async fn counters(&self) -> Vec<CounterReading> {
        self.all_counters().await
    }

    async fn gauges(&self) -> Vec<GaugeReading> {
        self.all_gauges().await
    }

    async fn events(&self, cursor: u64) -> (Vec<SystemEvent>, u64) {
        self.all_events(cursor).await
    }

    async fn folds(&self) -> Vec<FoldView> {
        self.all_folds().await
    }

    async fn cpu(&self) -> Vec<ThreadCpu> {
        self.all_cpu().await
    }

    async fn stop(&self) {
        self.remove_all().await;
    }
}
