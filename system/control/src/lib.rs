//! Door 2: the operator's panel of the system under test.
//!
//! The harness lists, kills, pauses, drains and restarts nodes, conditions ports and brokers, and inspects state through
//! this trait only. It is implemented where a system is put together and costs the system nothing while unused.
//!
//! - [`Control`] the panel.
//! - [`act`] what can be done to a system.
//! - [`inspect`] what can be seen of it.
pub mod act;
pub mod inspect;

use async_trait::async_trait;
use chat_protocol::{ConvId, DeviceId};

use act::{KillHow, PortRule};
use inspect::{
    BrokerInfo, ConvDigest, CounterReading, FoldView, GaugeReading, GroupLag, HistoryRow,
    LeaseView, NodeInfo, QueueView, RouteChange, SystemEvent, ThreadCpu,
};

/// Why an act or a look failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Nothing of that name.
    #[error("there is no `{0}`")]
    Unknown(String),
    /// The act does not fit the state the target is in.
    #[error("`{target}` is {state}")]
    State {
        /// Whom the act was meant for.
        target: String,
        /// Its state in words.
        state: String,
    },
    /// The act took longer than its limit.
    #[error("`{0}` did not answer in time")]
    TimedOut(String),
    /// The act failed.
    #[error("{0}")]
    Failed(String),
}

/// Result of an act or a look.
pub type Result<T> = std::result::Result<T, ControlError>;

/// The operator's panel.
#[async_trait]
pub trait Control: Send + Sync {
    /// All nodes, running or not, sorted by name.
    async fn nodes(&self) -> Result<Vec<NodeInfo>>;

    /// Ends a node at once, with all it holds and nothing else.
    async fn kill(&self, node: &str, how: KillHow) -> Result<()>;

    /// Starts a node that was killed or drained, empty, under its name and address; waits until it is ready. What a silent
    /// kill left standing is torn down first.
    async fn start(&self, node: &str) -> Result<()>;

    /// Stops a node's execution; its sockets stay open.
    async fn pause(&self, node: &str) -> Result<()>;

    /// Lets a paused node go on.
    async fn resume(&self, node: &str) -> Result<()>;

    /// Begins a drain; the node ends by itself. `nodes` shows when it is `stopped`.
    async fn drain(&self, node: &str) -> Result<()>;

    /// Brokers of the event log.
    async fn brokers(&self) -> Result<Vec<BrokerInfo>>;

    /// Stops a broker.
    async fn broker_kill(&self, broker: u32) -> Result<()>;

    /// Starts a stopped broker.
    async fn broker_start(&self, broker: u32) -> Result<()>;

    /// Delays everything a broker does by this many milliseconds; 0 heals.
    async fn broker_slow(&self, broker: u32, delay_ms: u64) -> Result<()>;

    /// Stops or resumes the consumption of a log group, wherever its members are.
    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<()>;

    /// Puts a rule on a port, for all nodes or one; replaces the rule with the same scope. `None` takes it away.
    async fn port_rule(&self, port: &str, node: Option<&str>, rule: Option<PortRule>)
    -> Result<()>;

    /// Empties the store behind registry and relay queues: every key is gone at once, and the store goes on.
    async fn store_wipe(&self) -> Result<()>;

    /// Ends the store behind history and tables at once; it keeps what it has written. Calls fail until it is started.
    async fn history_stop(&self) -> Result<()>;

    /// Starts that store again; it answers soon after. One that runs is left alone.
    async fn history_start(&self) -> Result<()>;

    /// Changes of routes since the cursor, and the cursor for the next call. Cursor 0 lists all present routes.
    async fn routes(&self, cursor: u64) -> Result<(Vec<RouteChange>, u64)>;

    /// Node leases as the registry holds them.
    async fn leases(&self) -> Result<Vec<LeaseView>>;

    /// Relay queues of devices, in order.
    async fn queues(&self, devices: &[DeviceId]) -> Result<Vec<QueueView>>;

    /// Digests of conversations, read from history.
    async fn digests(&self, convs: &[ConvId]) -> Result<Vec<ConvDigest>>;

    /// All rows of one conversation above `after`, at most 1,000, read from history.
    async fn rows(&self, conv: ConvId, after: u64) -> Result<Vec<HistoryRow>>;

    /// The fold of every partition, as each group's present members hold it.
    async fn folds(&self) -> Result<Vec<FoldView>>;

    /// Position against log end, by group and partition.
    async fn lags(&self) -> Result<Vec<GroupLag>>;

    /// Counters since the start of the system: operations and bytes by port, frames, rejects, fault-hook hits, *sometimes*-conditions.
    async fn counters(&self) -> Result<Vec<CounterReading>>;

    /// Gauges with their declared limits.
    async fn gauges(&self) -> Result<Vec<GaugeReading>>;

    /// Events since the cursor, and the cursor for the next call. The newest 65,536 are kept; a cursor that fell behind gets an
    /// `events_lost` event first.
    async fn events(&self, cursor: u64) -> Result<(Vec<SystemEvent>, u64)>;

    /// CPU time by thread of the system.
    async fn threads(&self) -> Result<Vec<ThreadCpu>>;
}
