//! How a fault reaches and sees the planted system: its control, and its devices.

use async_trait::async_trait;
use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::{
    BrokerInfo, ConvDigest, CounterReading, FoldView, GaugeReading, GroupLag, HistoryRow,
    LeaseView, NodeInfo, NodeState, QueueView, RouteChange, RouteView, SystemEvent, ThreadCpu,
};
use chat_control::{Control, ControlError, Result};
use chat_protocol::{ConvId, DeviceId};

use super::*;
use crate::bed::{DevicePlace, Devices};

impl Devices for Inner {
    fn list(&self) -> Vec<DevicePlace> {
        let world = self.world();
        let mut places = Vec::new();
        for (number, name) in (1..).zip(["gateway-1", "gateway-2", "gateway-3"]) {
            let silent = world.nodes[name].state == NodeState::Vanished;
            let connected = !world.idle && (silent || 0 < world.connections(name));
            for k in 0..DEVICES_A_GATEWAY {
                let node = connected.then(|| String::from(name));
                places.push(DevicePlace { device: number * 100 + k, node, connected });
            }
        }
        places
    }
}

#[async_trait]
impl Control for Inner {
    async fn nodes(&self) -> Result<Vec<NodeInfo>> {
        let mut world = self.world();
        world.look();
        let info = |(name, node): (&String, &Node)| NodeInfo {
            name: name.clone(),
            roles: node.roles.clone(),
            addr: ([127, 0, 0, 1], 1).into(),
            epoch: node.epoch,
            state: node.state,
            connections: world.connections(name),
        };
        Ok(world.nodes.iter().map(info).collect())
    }

    async fn kill(&self, node: &str, how: KillHow) -> Result<()> {
        if self.world().refused.as_deref() == Some(node) {
            return Err(ControlError::Failed(String::from("refused")));
        }
        self.set(
            node,
            if how == KillHow::Silent { NodeState::Vanished } else { NodeState::Stopped },
        )
    }

    async fn start(&self, node: &str) -> Result<()> {
        self.set(node, NodeState::Running)?;
        self.world().nodes.get_mut(node).unwrap().epoch += 1;
        Ok(())
    }

    async fn pause(&self, node: &str) -> Result<()> {
        self.set(node, NodeState::Paused)
    }

    async fn resume(&self, node: &str) -> Result<()> {
        self.set(node, NodeState::Running)
    }

    async fn drain(&self, node: &str) -> Result<()> {
        self.set(node, NodeState::Draining)
    }

    async fn brokers(&self) -> Result<Vec<BrokerInfo>> {
        let world = self.world();
        let busy = !world.idle;
        let slowest = world.brokers_slow.values().copied().max().unwrap_or(0);
        let info = |id: u32| {
            let up = !world.brokers_down.contains(&id);
            BrokerInfo {
                id,
                up,
                leads: if busy && up {
                    vec![format!("chat.messages/{}", id - 1)]
                } else {
                    Vec::new()
                },
                in_sync: usize::from(busy && up) * 3,
                replicas: usize::from(busy) * 3,
                bytes_led: [0, 100, 300, 200][usize::try_from(id).unwrap()],
                leader_epochs: world.elections,
                append_us: u64::from(busy) * (300 + slowest * 1_000),
            }
        };
        Ok([1, 2, 3].map(info).to_vec())
    }

    async fn broker_kill(&self, broker: u32) -> Result<()> {
        let mut world = self.world();
        world.elections += u64::from(!world.idle);
        world.brokers_down.push(broker);
        Ok(())
    }

    async fn broker_start(&self, broker: u32) -> Result<()> {
        self.world().brokers_down.retain(|id| *id != broker);
        Ok(())
    }

    async fn broker_slow(&self, broker: u32, delay_ms: u64) -> Result<()> {
        self.world().brokers_slow.insert(broker, delay_ms);
        Ok(())
    }

    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<()> {
        let at = self.ticks();
        let mut world = self.world();
        world.held.remove(group);
        if paused {
            world.held.insert(String::from(group), at);
        }
        Ok(())
    }

    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<()> {
        let mut world = self.world();
        world.make_calls(self.started.elapsed());
        let key = (String::from(port), node.map(String::from));
        match rule {
            Some(rule) => world.rules.insert(key, Ruled { rule, since: Instant::now() }),
            None => world.rules.remove(&key),
        };
        Ok(())
    }

    async fn store_wipe(&self) -> Result<()> {
        let mut world = self.world();
        world.wipes += u64::from(!world.rules_ignored);
        Ok(())
    }

    async fn history_stop(&self) -> Result<()> {
        let mut world = self.world();
        world.make_calls(self.started.elapsed());
        world.history_down = true;
        Ok(())
    }

    async fn history_start(&self) -> Result<()> {
        let mut world = self.world();
        world.make_calls(self.started.elapsed());
        world.history_down = false;
        Ok(())
    }

    async fn routes(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64)> {
        let placed = self.list();
        let world = self.world();
        let empty = world.stays_wiped && 0 < world.wipes;
        let routed = placed.into_iter().filter(|place| place.connected && !empty);
        let route = |place: DevicePlace| RouteChange {
            device: DeviceId(place.device),
            route: place.node.map(|node| {
                let conn_epoch = 1 + world.wipes;
                RouteView { node, node_epoch: 1, conn_epoch }
            }),
            at_ms: 0,
        };
        Ok((routed.map(route).collect(), cursor + 1))
    }

    async fn leases(&self) -> Result<Vec<LeaseView>> {
        let world = self.world();
        let ttl = Timers::DEFAULT.lease_ttl;
        let lease = |(name, node): (&String, &Node)| {
            let ours = |((_, whose), ruled): &(&(String, Option<String>), &Ruled)| {
                ruled.rule == PortRule::Cut && whose.as_deref() == Some(name)
            };
            let cut = world.rules.iter().find(ours);
            let unrenewed = node.stopped_at.or(cut.map(|(_, ruled)| ruled.since));
            let behind = unrenewed.map_or(Duration::ZERO, |at| at.elapsed());
            let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap();
            LeaseView { node: name.clone(), epoch: node.epoch, left_ms: ms(ttl) - ms(behind) }
        };
        Ok(world.nodes.iter().map(lease).collect())
    }

    async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>> {
        let epoch = {
            let mut world = self.world();
            world.queue_looks += 1;
            1 + world.wipes
        };
        let view = |device: &DeviceId| QueueView {
            device: *device,
            epoch,
            floor: 0,
            base: 1,
            top: 0,
            oldest_ms: 0,
        };
        Ok(devices.iter().map(view).collect())
    }

    async fn digests(&self, _: &[ConvId]) -> Result<Vec<ConvDigest>> {
        Ok(Vec::new())
    }

    async fn rows(&self, _: ConvId, _: u64) -> Result<Vec<HistoryRow>> {
        Ok(Vec::new())
    }

    async fn folds(&self) -> Result<Vec<FoldView>> {
        Ok(Vec::new())
    }

    async fn lags(&self) -> Result<Vec<GroupLag>> {
        let now = self.ticks();
        let world = self.world();
        let lag = |group: &str| {
            let read_to = world.held.get(group).copied().unwrap_or(now);
            let (position, end, oldest_ms) = if world.idle {
                (0, 0, 0)
            } else {
                (read_to, now + 10, (now - read_to) * 10 + 100)
            };
            let (group, topic) = (String::from(group), String::from("chat.messages"));
            GroupLag { group, topic, partition: 0, position, end, oldest_ms }
        };
        Ok(["sequencer", "history-writer"].map(lag).to_vec())
    }

    async fn counters(&self) -> Result<Vec<CounterReading>> {
        let mut world = self.world();
        world.make_calls(self.started.elapsed());
        let mut readings = Vec::new();
        for ((port, node), calls) in &world.calls {
            let Calls { answered, failed, held, took_us, under_way } = *calls;
            let counts = [
                ("started", answered + failed + held + u64::from(under_way.is_some())),
                ("answered", answered),
                ("failed", failed),
                ("took_us", took_us),
            ];
            for (what, value) in counts {
                readings
                    .push(CounterReading { name: format!("calls.{port}.{node}.{what}"), value });
            }
        }
        Ok(readings)
    }

    async fn gauges(&self) -> Result<Vec<GaugeReading>> {
        Ok(Vec::new())
    }

    async fn events(&self, cursor: u64) -> Result<(Vec<SystemEvent>, u64)> {
        let world = self.world();
        let events = world.events.iter().skip(usize::try_from(cursor).unwrap()).cloned().collect();
        Ok((events, u64::try_from(world.events.len()).unwrap()))
    }

    async fn threads(&self) -> Result<Vec<ThreadCpu>> {
        Ok(Vec::new())
    }
}
