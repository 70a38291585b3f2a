//! The embedded substrate: every backend in this process.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::PortRule;
use chat_control::inspect::{BrokerInfo, GroupLag, LeaseView, QueueView, RouteChange};
use chat_embedded::guard::Hooks;
use chat_embedded::history::HistoryAdmin;
use chat_embedded::log::LogAdmin;
use chat_embedded::store::StoreAdmin;
use chat_embedded::{Backends, BackendsConfig};
use chat_ports::PortError;
use chat_ports::clock::SharedClock;
use chat_ports::consumer;
use chat_ports::history::History;
use chat_ports::observe::Observer;
use chat_protocol::DeviceId;

use crate::config::Config;
use crate::substrate::{Ports, Substrate};

/// The backends in this process and the operator's handles of them.
pub(crate) struct Embedded {
    /// `None` once they are stopped.
    backends: Mutex<Option<Backends>>,
    log: LogAdmin,
    store: StoreAdmin,
    history: Arc<dyn History>,
    history_admin: HistoryAdmin,
    hooks: Arc<Hooks>,
}

impl Embedded {
    pub(crate) fn start(
        config: &Config,
        clock: &SharedClock,
        observer: &Observer,
    ) -> Result<Self, chat_embedded::StartError> {
        let mut wanted =
            BackendsConfig::new(config.data.clone(), config.partitions, config.timers, config.seed);
        wanted.relay_queue = config.relay_queue;
        wanted.log.log_buffer = config.log_buffer;
        wanted.log.isolation = config.policies.isolation;
        let backends = Backends::start(wanted, clock, observer)?;
        Ok(Self {
            log: backends.log_admin().clone(),
            store: backends.store_admin().clone(),
            history: backends.history().history(),
            history_admin: backends.history_admin(),
            hooks: Arc::clone(backends.hooks()),
            backends: Mutex::new(Some(backends)),
        })
    }
}

impl Embedded {
    /// The ports of one start of a node.
    pub(crate) fn ports_of(&self, node: &str) -> Result<Ports, PortError> {
        let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = backends.as_ref().map(|backends| Ports {
            node: backends.ports_of(node),
            sequencer_log: backends.log_of(node, consumer::SEQUENCER),
            receipts_log: backends.log_of(node, consumer::RECEIPTS),
            history_log: backends.log_of(node, consumer::HISTORY_WRITER),
        });
        ports.ok_or_else(|| PortError::Refused("the system is stopped".to_owned()))
    }

    /// See `Control::consumer_pause`.
    pub(crate) async fn consumer_pause(&self, group: &str, paused: bool) -> Result<(), PortError> {
        self.log.consumer_pause(group, paused).await
    }
}

#[async_trait]
impl Substrate for Embedded {
    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<(), PortError> {
        self.hooks.set(port, node, rule)
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::clone(&self.history)
    }

    async fn brokers(&self) -> Result<Vec<BrokerInfo>, PortError> {
        self.log.brokers().await
    }

    async fn broker_kill(&self, broker: u32) -> Result<(), PortError> {
        self.log.broker_kill(broker).await
    }

    async fn broker_start(&self, broker: u32) -> Result<(), PortError> {
        self.log.broker_start(broker).await
    }

    async fn broker_slow(&self, broker: u32, delay: Duration) -> Result<(), PortError> {
        self.log.broker_slow(broker, delay).await
    }

    async fn store_wipe(&self) -> Result<(), PortError> {
        self.store.wipe().await
    }

    async fn history_stop(&self) -> Result<(), PortError> {
        self.history_admin.stop();
        Ok(())
    }

    async fn history_start(&self) -> Result<(), PortError> {
        self.history_admin.start();
        Ok(())
    }

    async fn lags(&self) -> Result<Vec<GroupLag>, PortError> {
        self.log.lags().await
    }

    async fn routes_since(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64), PortError> {
        self.store.routes_since(cursor).await
    }

    async fn leases(&self) -> Result<Vec<LeaseView>, PortError> {
        self.store.leases().await
    }

    async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>, PortError> {
        self.store.queues(devices).await
    }

    async fn stop(&self) {
        let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner).take();
        if tokio::task::spawn_blocking(move || drop(backends)).await.is_err() {
            tracing::error!("A backend panicked while it stopped.");
        }
    }
}
