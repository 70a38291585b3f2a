//! The control door: nodes are asked where they run, backends where they stand.
use std::time::Duration;

use async_trait::async_trait;
use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::{
    BrokerInfo, ConvDigest, CounterReading, FoldView, GaugeReading, GroupLag, HistoryRow,
    LeaseView, NodeInfo, QueueView, RouteChange, SystemEvent, ThreadCpu,
};
use chat_control::{Control, ControlError, Result};
use chat_ports::PortError;
use chat_ports::history::PageRequest;
use chat_protocol::{ConvId, DeviceId};

use crate::Testbed;

/// Rows of one answer of `rows`.
const ROWS_MAX: u32 = 1_000;

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn failed(error: PortError) -> ControlError {
    ControlError::Failed(error.to_string())
}

#[async_trait]
impl Control for Testbed {
    async fn nodes(&self) -> Result<Vec<NodeInfo>> {
        Ok(self.host.nodes().await)
    }

    async fn kill(&self, node: &str, how: KillHow) -> Result<()> {
        self.host.kill(node, how).await
    }

    async fn start(&self, node: &str) -> Result<()> {
        self.host.start(node).await
    }

    async fn pause(&self, node: &str) -> Result<()> {
        self.host.pause(node).await
    }

    async fn resume(&self, node: &str) -> Result<()> {
        self.host.resume(node).await
    }

    async fn drain(&self, node: &str) -> Result<()> {
        self.host.drain(node).await
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
        self.host.consumer_pause(group, paused).await
    }

    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<()> {
        if let Some(done) = self.host.port_rule(port, node, rule.as_ref()).await {
            return done;
        }
        self.substrate.port_rule(port, node, rule).await.map_err(failed)
    }

    async fn store_wipe(&self) -> Result<()> {
        self.substrate.store_wipe().await.map_err(failed)
    }

    async fn history_stop(&self) -> Result<()> {
        self.substrate.history_stop().await.map_err(failed)
    }

    async fn history_start(&self) -> Result<()> {
        self.substrate.history_start().await.map_err(failed)
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
        Ok(self.host.folds().await)
    }

    async fn lags(&self) -> Result<Vec<GroupLag>> {
        self.substrate.lags().await.map_err(failed)
    }

    async fn counters(&self) -> Result<Vec<CounterReading>> {
        Ok(self.host.counters().await)
    }

    async fn gauges(&self) -> Result<Vec<GaugeReading>> {
        Ok(self.host.gauges().await)
    }

    async fn events(&self, cursor: u64) -> Result<(Vec<SystemEvent>, u64)> {
        Ok(self.host.events(cursor).await)
    }

    async fn threads(&self) -> Result<Vec<ThreadCpu>> {
        let mut all = self.host.cpu().await;
        all.extend(self.substrate.cpu().await);
        Ok(all)
    }
}
