//! The control door of a system in one process.
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::{
    BrokerInfo, ConvDigest, CounterReading, EventKind, FoldView, GaugeReading, GroupLag,
    HistoryRow, LeaseView, NodeInfo, NodeState, QueueView, RouteChange, SystemEvent, ThreadCpu,
};
use chat_control::{Control, ControlError, Result};
use chat_ports::PortError;
use chat_ports::history::PageRequest;
use chat_ports::observe::{Event, Noted};
use chat_protocol::{ConvId, DeviceId};

use crate::{Kind, Slot, Testbed, start_node};

/// Rows of one answer of `rows`.
const ROWS_MAX: u32 = 1_000;

/// A node by name, as it is now.
fn slot_of<'a>(slots: &'a mut BTreeMap<String, Slot>, node: &str) -> Result<&'a mut Slot> {
    let slot = slots.get_mut(node).ok_or_else(|| ControlError::Unknown(node.to_owned()))?;
    slot.look();
    Ok(slot)
}

impl Slot {
    /// Notices that a node has ended by itself, after a drain or an error.
    fn look(&mut self) {
        if self.thread.as_ref().is_some_and(crate::thread::NodeThread::ended) {
            self.thread = None;
            self.state = NodeState::Stopped;
        }
    }

    fn expect_state(&self, node: &str, fits: &[NodeState]) -> Result<()> {
        if fits.contains(&self.state) {
            return Ok(());
        }
        let state = format!("{:?}", self.state).to_lowercase();
        Err(ControlError::State { target: node.to_owned(), state })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn failed(error: PortError) -> ControlError {
    ControlError::Failed(error.to_string())
}

#[async_trait]
impl Control for Testbed {
    async fn nodes(&self) -> Result<Vec<NodeInfo>> {
        let mut slots = self.slots.lock().await;
        let info = |(name, slot): (&String, &mut Slot)| {
            slot.look();
            let mut roles: Vec<_> = slot.roles.iter().map(|role| role.name().to_owned()).collect();
            if slot.kind == Kind::Balancer {
                roles.push("balancer".to_owned());
            }
            NodeInfo {
                name: name.clone(),
                roles,
                addr: slot.addr,
                epoch: slot.signs.epoch.load(Relaxed),
                state: slot.state,
                connections: slot.signs.connections.load(Relaxed),
            }
        };
        Ok(slots.iter_mut().map(info).collect())
    }

    async fn kill(&self, node: &str, how: KillHow) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(node, &[NodeState::Running, NodeState::Draining, NodeState::Paused])?;
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

    async fn start(&self, node: &str) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(node, &[NodeState::Stopped, NodeState::Vanished])?;
        if let Some(thread) = slot.thread.take() {
            thread.kill().await;
        }
        start_node(&self.shared, &*self.substrate, &self.cpu, node, slot).await
    }

    async fn pause(&self, node: &str) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(node, &[NodeState::Running])?;
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
        slot.expect_state(node, &[NodeState::Paused])?;
        if !slot.thread.as_mut().is_some_and(crate::thread::NodeThread::resume) {
            return Err(ControlError::Failed(format!("`{node}` is not there any more")));
        }
        slot.state = NodeState::Running;
        Ok(())
    }

    async fn drain(&self, node: &str) -> Result<()> {
        let mut slots = self.slots.lock().await;
        let slot = slot_of(&mut slots, node)?;
        slot.expect_state(node, &[NodeState::Running])?;
        slot.drain.cancel();
        slot.state = NodeState::Draining;
        Ok(())
    }

    async fn brokers(&self) -> Result<Vec<BrokerInfo>> {
        self.substrate.brokers().await.map_err(failed)
    }

    async fn broker_kill(&self, broker: u32) -> Result<()> {
        self.substrate.broker_kill(broker).await.map_err(failed)
    }

    async fn broker_start(&self, broker: u32) -> Result<()> {
        self.substrate.broker_start(broker).await.map_err(failed)
    }

    async fn broker_slow(&self, broker: u32, delay_ms: u64) -> Result<()> {
        self.substrate.broker_slow(broker, Duration::from_millis(delay_ms)).await.map_err(failed)
    }

    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<()> {
        self.substrate.consumer_pause(group, paused).await.map_err(failed)
    }

    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<()> {
        self.substrate.port_rule(port, node, rule).map_err(failed)
    }

    async fn routes(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64)> {
        self.substrate.routes_since(cursor).await.map_err(failed)
    }

    async fn leases(&self) -> Result<Vec<LeaseView>> {
        self.substrate.leases().await.map_err(failed)
    }

    async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>> {
        self.substrate.queues(devices).await.map_err(failed)
    }

    async fn digests(&self, convs: &[ConvId]) -> Result<Vec<ConvDigest>> {
        let digests = self.substrate.history().digests(convs).await.map_err(failed)?;
        let view = |(conv, digest): (&ConvId, chat_ports::history::ConvDigest)| ConvDigest {
            conv: *conv,
            rows: digest.rows,
            top: digest.top,
            digest: digest.digest,
        };
        Ok(convs.iter().zip(digests).map(view).collect())
    }

    async fn rows(&self, conv: ConvId, after: u64) -> Result<Vec<HistoryRow>> {
        let request = PageRequest { conv, backward: false, from: after, limit: ROWS_MAX };
        let rows = self.substrate.history().page(request).await.map_err(failed)?;
        Ok(rows
            .into_iter()
            .map(|row| HistoryRow { cseq: row.cseq, mid: row.mid, cid: row.cid })
            .collect())
    }

    async fn folds(&self) -> Result<Vec<FoldView>> {
        let view = |fold: chat_ports::consumer::FoldState| FoldView {
            group: fold.group.to_owned(),
            node: fold.node.to_string(),
            partition: fold.partition,
            next_offset: fold.next_offset,
            remembered: fold.remembered,
            checkpoints: fold.checkpoints,
        };
        Ok(self.shared.folds.all().into_iter().map(view).collect())
    }

    async fn lags(&self) -> Result<Vec<GroupLag>> {
        self.substrate.lags().await.map_err(failed)
    }

    async fn counters(&self) -> Result<Vec<CounterReading>> {
        let counters = self.shared.observer.counters();
        Ok(counters.into_iter().map(|(name, value)| CounterReading { name, value }).collect())
    }

    async fn gauges(&self) -> Result<Vec<GaugeReading>> {
        let gauges = self.shared.observer.gauges();
        Ok(gauges
            .into_iter()
            .map(|(name, value, limit)| GaugeReading { name, value, limit })
            .collect())
    }

    async fn events(&self, cursor: u64) -> Result<(Vec<SystemEvent>, u64)> {
        let (noted, next, lost) = self.shared.observer.events(cursor);
        let mut events = Vec::with_capacity(noted.len() + 1);
        if lost {
            let at_ms = noted.first().map_or(0, |first| first.at_ms);
            events.push(SystemEvent { at_ms, node: String::new(), kind: EventKind::EventsLost });
        }
        events.extend(noted.into_iter().map(event));
        Ok((events, next))
    }

    async fn threads(&self) -> Result<Vec<ThreadCpu>> {
        let mut all = self.cpu.threads();
        all.extend(self.substrate.cpu().await);
        Ok(all)
    }
}

fn event(noted: Noted) -> SystemEvent {
    let kind = match noted.event {
        Event::ConnectionClosed(device, conn_epoch, code, silent_ms) => {
            EventKind::ConnectionClosed { device, conn_epoch, code, silent_ms }
        }
        Event::Fenced => EventKind::Fenced,
        Event::RouteSwept(device) => EventKind::RouteSwept { device },
        Event::FloorRaised(device) => EventKind::FloorRaised { device },
        Event::LeaderElected(partition, broker) => EventKind::LeaderElected { partition, broker },
        Event::PartitionAssigned(group, partition) => {
            EventKind::PartitionAssigned { group: group.to_owned(), partition }
        }
        Event::PartitionStopped(group, partition, why) => {
            EventKind::PartitionStopped { group: group.to_owned(), partition, why }
        }
    };
    SystemEvent { at_ms: noted.at_ms, node: noted.node.to_string(), kind }
}
