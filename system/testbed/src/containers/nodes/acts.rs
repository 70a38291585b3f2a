//! What is done to a node. Acts on one node come one after another.
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::{
    CounterReading, FoldView, GaugeReading, NodeInfo, NodeState, SystemEvent, ThreadCpu,
};
use chat_control::{ControlError, Result};
use futures_util::future;
use tokio::time::Instant;

use super::super::engine::EngineError;
use super::super::recipe;
use super::super::toxiproxy::Backend;
use super::slot::{Slot, odd};
use super::{Nodes, failed};
use crate::host::Host;
use crate::process::wire::{Answer, Ask};
use crate::unit::{Kind, expect_state};

/// How long a node may take from the start of its container until it serves.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at a node that starts.
const LOOK: Duration = Duration::from_millis(50);
/// So often the engine is asked whether the container of a node that starts still runs.
const LOOKS_AN_ENGINE: u32 = 10;

impl Nodes {
    /// Makes and starts the container of a node for the first time.
    async fn launch(&self, slot: &Slot) -> Result<()> {
        let mut container = slot.acts.lock().await;
        let request = self.recipe.request(&slot.unit, slot.number).map_err(failed)?;
        slot.begins();
        *container = Some(recipe::start(request).await.map_err(failed)?);
        self.wait_ready(slot).await
    }

    /// Waits until a node serves; rules and pauses that stand are told to it as soon as its door is open.
    async fn wait_ready(&self, slot: &Slot) -> Result<()> {
        let until = Instant::now() + READY_LIMIT;
        let mut told = false;
        for look in 1_u32.. {
            if let Ok(ready) = slot.read_signs().await {
                if !told {
                    told = self.tell(slot, &self.told(&slot.unit)).await.is_ok();
                }
                if ready && told {
                    break;
                }
            }
            let expired = Instant::now() >= until;
            if expired || look.is_multiple_of(LOOKS_AN_ENGINE) {
                let runs = self.engine.runs(&slot.container).await.unwrap_or(true);
                if !runs || expired {
                    let node = &slot.unit.name;
                    let log = self.engine.last_lines(&slot.container).await;
                    let what =
                        if runs { "is not ready after 30 s" } else { "ended before it was ready" };
                    if runs {
                        // As with every node that does not become ready: nothing half-started is left.
                        self.engine.kill(&slot.container).await.map_err(failed)?;
                    }
                    slot.set(NodeState::Stopped);
                    let why = format!("`{node}` {what}; its last lines:\n{log}");
                    return Err(ControlError::Failed(why));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        slot.set(NodeState::Running);
        Ok(())
    }

    async fn tell(&self, slot: &Slot, asks: &[Ask]) -> std::io::Result<()> {
        for ask in asks {
            match slot.ask(ask).await? {
                Answer::Done => {}
                other => return Err(odd(&other)),
            }
        }
        Ok(())
    }

    /// Tells something to all nodes that execute; the others hear of it when they start.
    async fn tell_all(&self, node: Option<&str>, ask: Ask) -> Result<()> {
        let fits = |slot: &&Slot| {
            slot.unit.kind != Kind::Balancer
                && node.is_none_or(|node| node == slot.unit.name)
                && matches!(slot.state(), NodeState::Running | NodeState::Draining)
        };
        let asks = [ask];
        let tell = self.slots.values().filter(fits).map(|slot| async {
            let told = self.tell(slot, &asks).await;
            told.map_err(|error| {
                ControlError::Failed(format!("`{}` was not told: {error}", slot.unit.name))
            })
        });
        future::join_all(tell).await.into_iter().collect()
    }

    /// The last readings of a node that is about to end.
    async fn last_readings(&self, slot: &Slot) {
        let mut merged = self.merged.lock().await;
        if let Err(error) = self.read_all(slot, &mut merged).await {
            let node = &slot.unit.name;
            tracing::debug!(node, %error, "What the node counted last is not known.");
        }
    }

    /// Removes the containers; their logs are written before.
    async fn remove_all(&self) {
        if let Some(folder) = &self.logs {
            self.save_logs(folder).await;
        }
        let gone = self.slots.values().map(|slot| async {
            let container = slot.acts.lock().await.take();
            slot.set(NodeState::Stopped);
            if let Some(container) = container
                && let Err(error) = container.rm().await
            {
                tracing::warn!(%error, "The container of a node could not be removed.");
            }
        });
        future::join_all(gone).await;
    }

    /// The logs of all containers of the run: nodes and backends.
    async fn save_logs(&self, folder: &Path) {
        if let Err(error) = self.try_save_logs(folder).await {
            tracing::warn!(%error, "Not all logs of containers could be written.");
        }
    }

    async fn try_save_logs(&self, folder: &Path) -> std::result::Result<(), EngineError> {
        let unwritable = |error: std::io::Error| EngineError::Refused {
            act: "write logs".to_owned(),
            why: error.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        let prefix = self.recipe.layout.name("");
        for name in self.engine.containers_of(&self.run).await? {
            let short = name.strip_prefix(&prefix).unwrap_or(&name);
            self.engine.save_log(&name, &folder.join(format!("{short}.log"))).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Host for Nodes {
    async fn start_all(&self) -> Result<()> {
        for kind in [Kind::Service, Kind::Gateway, Kind::Balancer] {
            // Those of one kind beside each other.
            let started = future::join_all(self.of(kind).map(|slot| self.launch(slot))).await;
            started.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }

    async fn nodes(&self) -> Vec<NodeInfo> {
        future::join_all(self.slots.values().map(|slot| self.look(slot))).await;
        self.slots.values().map(Slot::info).collect()
    }

    async fn start(&self, node: &str) -> Result<()> {
        let slot = self.slot(node)?;
        let _acts = slot.acts.lock().await;
        self.refresh(slot).await;
        let state = slot.state();
        expect_state(node, state, &[NodeState::Stopped, NodeState::Vanished])?;
        if state == NodeState::Vanished {
            let network = self.recipe.layout.network();
            self.engine.reconnect(&network, &slot.container).await.map_err(failed)?;
            // It has its network again, and is only dead from now on.
            slot.set(NodeState::Stopped);
        }
        slot.begins();
        self.engine.start(&slot.container).await.map_err(failed)?;
        self.wait_ready(slot).await
    }

    async fn kill(&self, node: &str, how: KillHow) -> Result<()> {
        let slot = self.slot(node)?;
        let _acts = slot.acts.lock().await;
        let alive = [NodeState::Running, NodeState::Draining, NodeState::Paused];
        expect_state(node, slot.state(), &alive)?;
        if slot.state() != NodeState::Paused {
            self.last_readings(slot).await;
        }
        match how {
            KillHow::Process => {
                self.engine.kill(&slot.container).await.map_err(failed)?;
                slot.set(NodeState::Stopped);
            }
            KillHow::Silent => {
                // Without its network the death of the process closes no connection that anybody hears of.
                let network = self.recipe.layout.network();
                self.engine.disconnect(&network, &slot.container).await.map_err(failed)?;
                slot.set(NodeState::Vanished);
                self.engine.kill(&slot.container).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn pause(&self, node: &str) -> Result<()> {
        let slot = self.slot(node)?;
        let _acts = slot.acts.lock().await;
        expect_state(node, slot.state(), &[NodeState::Running])?;
        self.engine.pause(&slot.container).await.map_err(failed)?;
        slot.set(NodeState::Paused);
        Ok(())
    }

    async fn resume(&self, node: &str) -> Result<()> {
        let slot = self.slot(node)?;
        let _acts = slot.acts.lock().await;
        expect_state(node, slot.state(), &[NodeState::Paused])?;
        self.engine.unpause(&slot.container).await.map_err(failed)?;
        slot.set(NodeState::Running);
        // What was said to all while it stood still.
        let told = self.tell(slot, &self.told(&slot.unit)).await;
        told.map_err(|error| ControlError::Failed(format!("`{node}` was not told: {error}")))
    }

    async fn drain(&self, node: &str) -> Result<()> {
        let slot = self.slot(node)?;
        let _acts = slot.acts.lock().await;
        expect_state(node, slot.state(), &[NodeState::Running])?;
        self.engine.signal(&slot.container, "SIGTERM").await.map_err(failed)?;
        slot.set(NodeState::Draining);
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
        {
            let key = (port.to_owned(), node.map(str::to_owned));
            let mut standing = self.standing();
            match rule {
                Some(rule) => standing.rules.insert(key, rule.clone()),
                None => standing.rules.remove(&key),
            };
        }
        let ask = Ask::Rule { port: port.to_owned(), own: node.is_some(), rule: rule.cloned() };
        Some(self.tell_all(node, ask).await)
    }

    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<()> {
        {
            let mut standing = self.standing();
            if paused {
                standing.paused.insert(group.to_owned());
            } else {
                standing.paused.remove(group);
            }
        }
        self.tell_all(None, Ask::Consumer { group: group.to_owned(), paused }).await
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
