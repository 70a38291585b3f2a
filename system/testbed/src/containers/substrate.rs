//! The containers substrate as the testbed sees it.
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_control::inspect::{BrokerInfo, GroupLag, LeaseView, QueueView, RouteChange, ThreadCpu};
use chat_embedded::NodePorts;
use chat_embedded::guard::Guarded;
use chat_external::cassandra::CassandraStore;
use chat_external::kafka::KafkaLog;
use chat_external::redis::RedisStore;
use chat_external::s3::S3Blobs;
use chat_ports::PortError;
use chat_ports::consumer;
use chat_ports::history::History;
use chat_ports::log::EventLog;
use chat_protocol::DeviceId;

use super::Containers;
use super::engine::EngineError;
use super::paused::GroupLog;
use super::recipe::BROKERS;
use super::toxiproxy::Backend;
use crate::substrate::{Ports, PortsMaker, Substrate};

/// Moves leadership back to the preferred replicas. Kafka's own tool does it, since no client library offers it.
const PREFERRED_ELECTION: [&str; 11] = [
    "java",
    "-Xmx64m",
    "-XX:TieredStopAtLevel=1",
    "-cp",
    "/opt/kafka/libs/*",
    "org.apache.kafka.tools.LeaderElectionCommand",
    "--bootstrap-server",
    "localhost:9092",
    "--election-type",
    "preferred",
    "--all-topic-partitions",
];
/// A broker that was started has to be back in the metadata within this.
const BROKER_BACK: Duration = Duration::from_secs(30);
/// How long the pause between two looks is.
const LOOK: Duration = Duration::from_millis(250);

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
    fn ports_of(&self, node: &str) -> PortsMaker {
        let mut contacts = self.contacts.clone();
        let listener = |backend| self.links.as_ref().and_then(|links| links.addr(backend, node));
        if let Some(addr) = listener(Backend::Redis) {
            contacts.redis.addr = addr;
        }
        if let Some(addr) = listener(Backend::Cassandra) {
            contacts.cassandra.contact = addr;
        }
        let (hooks, observer) = (Arc::clone(&self.hooks), self.observer.clone());
        let node = node.to_owned();
        let (paused, timers) = (Arc::clone(&self.paused), self.timers);
        Box::new(move || {
            Box::pin(async move {
                let redis = RedisStore::connect(contacts.redis, &observer).await?;
                let kafka = KafkaLog::connect(contacts.kafka, &observer).await?;
                let cassandra = CassandraStore::connect(contacts.cassandra, &observer).await?;
                let s3 = S3Blobs::connect(contacts.s3)?;
                let (store, table, append) =
                    (timers.store_call, timers.table_call, timers.log_append);
                let log_of = |group: &'static str| -> Arc<dyn EventLog> {
                    let log: Arc<dyn EventLog> = Arc::new(GroupLog {
                        inner: kafka.handle(),
                        group,
                        paused: Arc::clone(&paused),
                    });
                    Arc::new(Guarded::new(log, &node, &hooks, &observer, append))
                };
                Ok(Ports {
                    sequencer_log: log_of(consumer::SEQUENCER),
                    receipts_log: log_of(consumer::RECEIPTS),
                    history_log: log_of(consumer::HISTORY_WRITER),
                    node: NodePorts {
                        registry: Arc::new(Guarded::new(
                            redis.registry(),
                            &node,
                            &hooks,
                            &observer,
                            store,
                        )),
                        relay_queue: Arc::new(Guarded::new(
                            redis.relay_queue(),
                            &node,
                            &hooks,
                            &observer,
                            store,
                        )),
                        log: Arc::new(Guarded::new(
                            kafka.handle(),
                            &node,
                            &hooks,
                            &observer,
                            append,
                        )),
                        history: Arc::new(Guarded::new(
                            cassandra.history(),
                            &node,
                            &hooks,
                            &observer,
                            table,
                        )),
                        tables: Arc::new(Guarded::new(
                            cassandra.tables(),
                            &node,
                            &hooks,
                            &observer,
                            table,
                        )),
                        blobs: Arc::new(Guarded::new(s3.handle(), &node, &hooks, &observer, table)),
                    },
                })
            })
        })
    }

    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<(), PortError> {
        let Some(backend) = Backend::of_port(port) else {
            // Nothing stands between nodes and the other backends.
            return self.hooks.set(port, node, rule);
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
        self.doors.kafka.brokers().await
    }

    async fn broker_kill(&self, broker: u32) -> Result<(), PortError> {
        number_of(broker)?;
        self.set.kill(&format!("kafka-{broker}")).await.map_err(failed)
    }

    async fn broker_start(&self, broker: u32) -> Result<(), PortError> {
        number_of(broker)?;
        let name = format!("kafka-{broker}");
        self.set.revive(&name).await.map_err(failed)?;
        let back = async {
            loop {
                let synced = |b: &BrokerInfo| b.id == broker && b.up && b.in_sync == b.replicas;
                if self.brokers().await.is_ok_and(|brokers| brokers.iter().any(synced)) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(BROKER_BACK, back).await.map_err(|_| {
            PortError::Unknown(format!("broker {broker} is not in sync after {BROKER_BACK:?}"))
        })?;
        self.set.exec(&name, &PREFERRED_ELECTION).await.map_err(failed)
    }

    async fn broker_slow(&self, _broker: u32, _delay: Duration) -> Result<(), PortError> {
        Err(PortError::Refused("the substrate `containers` cannot slow a broker down".to_owned()))
    }

    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<(), PortError> {
        self.paused.set(group, paused);
        Ok(())
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
        self.doors.kafka.lags().await
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

    async fn stop(&self) {
        self.set.stop().await;
        if let Some(links) = &self.links {
            links.stop().await;
        }
    }
}
