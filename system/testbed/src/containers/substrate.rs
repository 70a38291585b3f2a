//! The containers substrate as the testbed sees it.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_control::inspect::{BrokerInfo, GroupLag, LeaseView, QueueView, RouteChange, ThreadCpu};
use chat_ports::PortError;
use chat_ports::history::History;
use chat_protocol::DeviceId;

use super::Containers;
use super::engine::EngineError;
use super::recipe::BROKERS;
use super::toxiproxy::Backend;
use crate::substrate::Substrate;

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn failed(error: EngineError) -> PortError {
    PortError::Refused(error.to_string())
}

fn number_of(broker: u32) -> Result<u16, PortError> {
    u16::try_from(broker)
        .ok()
        .filter(|number| (1..=BROKERS).contains(number))
        .ok_or_else(|| PortError::Refused(format!("there is no broker {broker}")))
}

fn unconditioned(port: &str, backend: Backend) -> String {
    let backend = backend.name();
    format!(
        "no Toxiproxy stands between nodes and `{backend}` in this run, so port `{port}` cannot be conditioned: `{backend}` has to be among the conditioned backends (`ContainersConfig::conditioned`) before the start"
    )
}

#[async_trait]
impl Substrate for Containers {
    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<(), PortError> {
        // Rules on other ports stand in the nodes.
        let Some(backend) = Backend::of_port(port) else {
            return Err(PortError::Refused(format!("there is no link behind a port `{port}`")));
        };
        match self.links.as_ref().filter(|links| links.conditions(backend)) {
            Some(links) => Ok(links.rule(backend, port, node, rule).await?),
            None if rule.is_none() => Ok(()),
            None => Err(PortError::Refused(unconditioned(port, backend))),
        }
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::clone(&self.doors.history)
    }

    async fn brokers(&self) -> Result<Vec<BrokerInfo>, PortError> {
        let mut brokers = match self.doors.kafka.brokers().await {
            Ok(brokers) => brokers,
            // Without the majority nobody tells about anybody.
            Err(_) if !self.down.unheard().is_zero() => self.doors.kafka.silent(),
            Err(error) => return Err(error),
        };
        for broker in &mut brokers {
            // A broker that is alone with the news does not know who died beside it.
            broker.up &= !self.down.now(broker.id);
        }
        Ok(brokers)
    }

    async fn broker_kill(&self, broker: u32) -> Result<(), PortError> {
        number_of(broker)?;
        self.set.kill(&format!("kafka-{broker}")).await.map_err(failed)?;
        self.down.killed(broker);
        Ok(())
    }

    /// It comes back into sync in its own time, and without a majority not before another one is started. Kafka moves leadership back by
    /// itself then.
    async fn broker_start(&self, broker: u32) -> Result<(), PortError> {
        number_of(broker)?;
        self.set.revive(&format!("kafka-{broker}")).await.map_err(failed)?;
        self.down.started(broker);
        Ok(())
    }

    async fn broker_slow(&self, _broker: u32, _delay: Duration) -> Result<(), PortError> {
        Err(PortError::Refused("the substrate `containers` cannot slow a broker down".to_owned()))
    }

    async fn store_wipe(&self) -> Result<(), PortError> {
        self.doors.redis.wipe().await
    }

    async fn history_stop(&self) -> Result<(), PortError> {
        self.set.kill("cassandra").await.map_err(failed)
    }

    async fn history_start(&self) -> Result<(), PortError> {
        self.set.revive("cassandra").await.map_err(failed)
    }

    async fn lags(&self) -> Result<Vec<GroupLag>, PortError> {
        self.doors.kafka.lags(|| self.down.unheard()).await
    }

    async fn routes_since(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64), PortError> {
        self.doors.redis.routes_since(cursor).await
    }

    async fn leases(&self) -> Result<Vec<LeaseView>, PortError> {
        self.doors.redis.leases().await
    }

    async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>, PortError> {
        self.doors.redis.queues(devices).await
    }

    async fn cpu(&self) -> Vec<ThreadCpu> {
        self.set.cpu().await
    }

    fn servers(&self) -> BTreeMap<String, String> {
        self.servers.clone()
    }

    async fn stop(&self) {
        self.set.stop().await;
        if let Some(links) = &self.links {
            links.stop().await;
        }
    }
}
