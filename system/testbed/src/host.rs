//! Where the nodes of a system run, as the panel sees it: threads of this process, or containers.
use async_trait::async_trait;
use chat_control::Result;
use chat_control::act::{KillHow, PortRule};
use chat_control::inspect::{
    CounterReading, FoldView, GaugeReading, NodeInfo, SystemEvent, ThreadCpu,
};

/// All nodes of one system. Acts and looks are those of `Control`, and say what it says.
#[async_trait]
pub(crate) trait Host: Send + Sync {
    /// Starts every node in the order of the system and waits until all are ready.
    async fn start_all(&self) -> Result<()>;

    /// All nodes, running or not, sorted by name.
    async fn nodes(&self) -> Vec<NodeInfo>;

    /// Starts a node that does not run and waits until it is ready.
    async fn start(&self, node: &str) -> Result<()>;

    /// Ends a node at once.
    async fn kill(&self, node: &str, how: KillHow) -> Result<()>;

    /// Stops a node's execution.
    async fn pause(&self, node: &str) -> Result<()>;

    /// Lets a paused node go on.
    async fn resume(&self, node: &str) -> Result<()>;

    /// Begins a drain.
    async fn drain(&self, node: &str) -> Result<()>;

    /// Puts a rule on a port where the nodes make their calls; `None` when no rule on this port stands there.
    async fn port_rule(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<&PortRule>,
    ) -> Option<Result<()>>;

    /// Stops or resumes a group where its members are.
    async fn consumer_pause(&self, group: &str, paused: bool) -> Result<()>;

    /// Counters of nodes and backends.
    async fn counters(&self) -> Vec<CounterReading>;

    /// Gauges of nodes and backends: the highest value since the last call.
    async fn gauges(&self) -> Vec<GaugeReading>;

    /// Events of nodes and backends since a cursor.
    async fn events(&self, cursor: u64) -> (Vec<SystemEvent>, u64);

    /// Folds of all nodes that have not ended.
    async fn folds(&self) -> Vec<FoldView>;

    /// CPU time of the nodes, and of this process's other threads where the nodes are some of its own.
    async fn cpu(&self) -> Vec<ThreadCpu>;

    /// Ends every node.
    async fn stop(&self);
}
