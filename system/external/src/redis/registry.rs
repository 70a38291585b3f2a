//! Node leases and routes.
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use chat_ports::PortError;
use chat_ports::registry::{
    NodeKey, NodeLease, Registered, Role, Route, RouteEntry, SessionRegistry,
};
use chat_protocol::DeviceId;
use chat_protocol::ids::SLOTS;
use redis::Value;

use super::answer::{self, odd};
use super::keys;
use super::scripts::{Call, Script};
use super::store::Door;

/// A node as the script `nodes` lists it: about it, and milliseconds left.
pub(super) struct Listed {
    pub(super) key: NodeKey,
    about: String,
    pub(super) left_ms: i64,
}

/// All nodes that were not swept.
pub(super) async fn nodes(door: &Door) -> Result<Vec<Listed>, PortError> {
    let answer = door.ask(Call::new(Script::Nodes, &door.shared.keys.leases())).await?;
    let listed = |node: Value| {
        let [key, about, left] = answer::few(node)?;
        Ok(Listed {
            key: keys::parse_node(answer::text(&key)?).ok_or_else(odd)?,
            about: answer::text(&about)?.to_owned(),
            left_ms: answer::text(&left)?.parse().map_err(|_| odd())?,
        })
    };
    answer::list(answer)?.into_iter().map(listed).collect()
}

/// [`SessionRegistry`] in Redis.
pub(super) struct RedisRegistry {
    door: Door,
}

impl RedisRegistry {
    pub(super) fn new(door: Door) -> Self {
        Self { door }
    }

    fn lease(&self, script: Script) -> Call {
        Call::new(script, &self.door.shared.keys.leases())
    }

    /// Claims, unless it is later than `until` by the server's clock, in milliseconds.
    pub(super) async fn claim_by(
        &self,
        until: u64,
        claim: Duration,
    ) -> Result<Option<NodeKey>, PortError> {
        let call = self.lease(Script::Claim).arg(millis(claim)).arg(until);
        let answer = answer::list(self.door.ask(call).await?)?;
        let node =
            |node| answer::text(node).and_then(|node| keys::parse_node(node).ok_or_else(odd));
        answer.first().map(node).transpose()
    }

    /// A call of a script that changes routes.
    fn routing(&self, script: Script) -> Call {
        let keys = &self.door.shared.keys;
        let [nodes, ..] = keys.leases();
        let call = Call::new(script, &[nodes, keys.changes()]);
        call.arg(keys.queues()).arg(keys.devices()).arg(keys.routed())
    }
}

#[async_trait]
impl SessionRegistry for RedisRegistry {
    async fn join(
        &self,
        name: &str,
        addr: SocketAddr,
        roles: &[Role],
        ttl: Duration,
    ) -> Result<u64, PortError> {
        let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        let about = format!("{addr} {}", roles.join(","));
        let call = self.lease(Script::Join).arg(name).arg(about).arg(millis(ttl));
        answer::number(&self.door.ask(call).await?)
    }

    async fn renew(&self, node: &NodeKey, ttl: Duration) -> Result<bool, PortError> {
        let call = self.lease(Script::Renew).arg(node.epoch).arg(&*node.name).arg(millis(ttl));
        answer::flag(&self.door.ask(call).await?)
    }

    async fn leave(&self, node: &NodeKey) -> Result<(), PortError> {
        self.door.ask(self.lease(Script::Leave).arg(keys::node(node))).await.map(drop)
    }

    async fn nodes(&self) -> Result<Vec<NodeLease>, PortError> {
        let lease = |node: Listed| {
            let (addr, roles) = node.about.split_once(' ').ok_or_else(odd)?;
            Ok(NodeLease {
                key: node.key,
                addr: addr.parse().map_err(|_| odd())?,
                roles: roles.split(',').filter_map(role_of).collect(),
                left: u64::try_from(node.left_ms)
                    .ok()
                    .filter(|left| *left > 0)
                    .map(Duration::from_millis),
            })
        };
        nodes(&self.door).await?.into_iter().map(lease).collect()
    }

    async fn register(
        &self,
        node: &NodeKey,
        devices: &[(DeviceId, u64)],
    ) -> Result<Vec<Registered>, PortError> {
        let mut call = self.routing(Script::Register).arg(keys::node(node));
        for (device, conn) in devices {
            call = call.arg(keys::device(*device)).arg(*conn);
        }
        let answer = self.door.ask(call).await?;
        if answer == Value::Nil {
            let (name, epoch) = (&node.name, node.epoch);
            return Err(PortError::Refused(format!("there is no node {name} of epoch {epoch}")));
        }
        let registered = |[epoch, previous]: [Value; 2]| {
            Ok(Registered {
                conn_epoch: answer::number(&epoch)?,
                previous: answer::route(&previous)?,
            })
        };
        let all = answer::groups(answer::list(answer)?)?.map(registered);
        all.collect::<Result<Vec<_>, _>>().and_then(|all| same_number(all, devices.len()))
    }

    async fn unregister(&self, routes: &[(DeviceId, Route)]) -> Result<Vec<bool>, PortError> {
        let mut call = self.routing(Script::Unregister);
        for (device, route) in routes {
            call = call.arg(keys::device(*device)).arg(keys::route(route));
        }
        let answer = answer::list(self.door.ask(call).await?)?;
        let all: Result<Vec<bool>, _> = answer.iter().map(answer::flag).collect();
        same_number(all?, routes.len())
    }

    async fn routes(&self, devices: &[DeviceId]) -> Result<Vec<Option<Route>>, PortError> {
        let mut call = Call::new(Script::Present, &[]).arg(self.door.shared.keys.devices());
        for device in devices {
            call = call.arg(keys::device(*device));
        }
        let answer = answer::list(self.door.ask(call).await?)?;
        let all: Result<Vec<_>, _> = answer.iter().map(answer::route).collect();
        same_number(all?, devices.len())
    }

    async fn routes_of(&self, node: &NodeKey, limit: usize) -> Result<Vec<RouteEntry>, PortError> {
        let keys = &self.door.shared.keys;
        let routed: Vec<String> = keys.routed_to(&keys::node(node)).collect();
        let mut call = Call::new(Script::RoutesOf, &routed).arg(keys.devices()).arg(limit);
        for slot in 0..SLOTS {
            call = call.arg(keys::tag(slot));
        }
        let answer = answer::list(self.door.ask(call).await?)?;
        let mut entries = Vec::with_capacity(answer.len() / 2);
        for [device, route] in answer::groups(answer)? {
            let device = DeviceId(answer::number(&device)?);
            entries.extend(answer::route(&route)?.map(|route| RouteEntry { device, route }));
        }
        Ok(entries)
    }

    async fn claim_dead(
        &self,
        sweeper: &str,
        claim: Duration,
    ) -> Result<Option<NodeKey>, PortError> {
        let asked: u64 = answer::number(&self.door.ask(Call::new(Script::Now, &[])).await?)?;
        let until = asked.saturating_add(millis(self.door.shared.call));
        let claimed = self.claim_by(until, claim).await?;
        if let Some(node) = &claimed {
            tracing::debug!(sweeper, node = %node.name, epoch = node.epoch, "A dead node is being swept.");
        }
        Ok(claimed)
    }

    async fn forget(&self, node: &NodeKey) -> Result<bool, PortError> {
        let (keys, node) = (&self.door.shared.keys, keys::node(node));
        let all: Vec<String> = keys.leases().into_iter().chain(keys.routed_to(&node)).collect();
        answer::flag(&self.door.ask(Call::new(Script::Forget, &all).arg(node)).await?)
    }
}

fn role_of(name: &str) -> Option<Role> {
    let mut all = Role::SERVICES.into_iter().chain([Role::Gateway]);
    all.find(|role| role.name() == name)
}

/// Whole milliseconds, one at least.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// As many answers as were asked for, or an error.
pub(super) fn same_number<T>(answers: Vec<T>, asked: usize) -> Result<Vec<T>, PortError> {
    if answers.len() == asked { Ok(answers) } else { Err(odd()) }
}
