//! What an operator may do to the log, and see of it.
use std::time::Duration;

use chat_control::inspect::{BrokerInfo, GroupLag};
use chat_ports::PortError;

use super::handle::Call;
use crate::desk::Desk;

/// The operator's handle of the log. Brokers are numbered from 1; an unknown one is refused.
#[derive(Clone)]
pub struct LogAdmin {
    pub(super) desk: Desk<Call>,
}

impl LogAdmin {
    /// Stops a broker; its partitions get other leaders after the election time. One that is down is refused.
    pub async fn broker_kill(&self, broker: u32) -> Result<(), PortError> {
        self.desk.ask(|reply| Call::Kill(broker, reply)).await?
    }

    /// Starts a stopped broker. One that runs is refused.
    pub async fn broker_start(&self, broker: u32) -> Result<(), PortError> {
        self.desk.ask(|reply| Call::Start(broker, reply)).await?
    }

    /// Delays a broker's replication fetches and the appends it leads, up to a minute; zero heals.
    pub async fn broker_slow(&self, broker: u32, delay: Duration) -> Result<(), PortError> {
        self.desk.ask(|reply| Call::Slow(broker, delay, reply)).await?
    }

    /// Makes fetches through [`super::EmbeddedLog::for_group`] handles of a group answer empty, or lets them read again.
    pub async fn consumer_pause(&self, group: &str, paused: bool) -> Result<(), PortError> {
        let group = group.to_owned();
        self.desk.ask(|reply| Call::Pause(group, paused, reply)).await
    }

    /// All brokers.
    pub async fn brokers(&self) -> Result<Vec<BrokerInfo>, PortError> {
        self.desk.ask(Call::Brokers).await
    }

    /// How far every group is behind, partition by partition.
    pub async fn lags(&self) -> Result<Vec<GroupLag>, PortError> {
        self.desk.ask(Call::Lags).await
    }
}
