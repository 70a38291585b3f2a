//! How a fault is taken away: a closed, serialisable value whose application may be repeated.

use chat_control::ControlError;
use chat_control::act::KillHow;
use chat_control::inspect::NodeState;
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant, sleep};

use crate::bed::{BedError, Reach};

const POLL_PAUSE: Duration = Duration::from_millis(50);

/// Added to the drain deadline before a node that still drains is ended by force.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What takes a fault away. Applying it twice, or without the fault, does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// Start these nodes unless they run; a node that drains is waited for first.
    NodesStarted(Vec<String>),
    /// Let these nodes go on if they are paused.
    NodesResumed(Vec<String>),
    /// Remove the toxic of this name from every proxy.
    ToxicRemoved(String),
    /// Start these brokers unless they run.
    BrokersStarted(Vec<u32>),
    /// Take the delay off these brokers.
    BrokersNormal(Vec<u32>),
    /// Let this group of the event log read on.
    GroupResumed(String),
    /// Take our rule off these ports, for one node or for all.
    PortsCleared {
        /// The ports.
        ports: Vec<String>,
        /// The node, or all.
        node: Option<String>,
    },
    /// Start the store of history and tables unless it runs.
    HistoryStarted,
    /// The act is over in an instant and leaves nothing behind.
    Nothing,
}

impl Undo {
    /// The undo as a sentence, for the plan.
    pub fn in_words(&self) -> String {
        match self {
            Undo::NodesStarted(nodes) => format!("start {}, empty", nodes.join(", ")),
            Undo::NodesResumed(nodes) => format!("let {} go on", nodes.join(", ")),
            Undo::ToxicRemoved(name) => format!("remove toxic `{name}` from every proxy"),
            Undo::BrokersStarted(brokers) => format!("start broker {}", numbers(brokers)),
            Undo::BrokersNormal(brokers) => {
                format!("take the delay off broker {}", numbers(brokers))
            }
            Undo::GroupResumed(group) => format!("let group `{group}` read on"),
            Undo::PortsCleared { ports, node } => {
                let whose = node.as_deref().unwrap_or("every node");
                format!("take the rule off port {} of {whose}", ports.join(", "))
            }
            Undo::HistoryStarted => String::from("start the store of history and tables"),
            Undo::Nothing => {
                String::from("nothing to undo: devices dial and nodes register again by themselves")
            }
        }
    }

    /// Takes the fault away. The caller sets the limit on the wait.
    pub(crate) async fn apply(&self, reach: &Reach) -> Result<(), BedError> {
        let control = &reach.control;
        match self {
            Undo::NodesStarted(nodes) => {
                for node in nodes {
                    start(reach, node).await?;
                }
            }
            Undo::NodesResumed(nodes) => {
                for node in nodes {
                    if reach.node(node).await?.state == NodeState::Paused {
                        control.resume(node).await?;
                    }
                }
            }
            Undo::ToxicRemoved(name) => remove_toxic(reach, name).await?,
            Undo::BrokersStarted(ids) => {
                for broker in control.brokers().await? {
                    if ids.contains(&broker.id) && !broker.up {
                        control.broker_start(broker.id).await?;
                    }
                }
            }
            Undo::BrokersNormal(ids) => {
                for id in ids {
                    control.broker_slow(*id, 0).await?;
                }
            }
            Undo::GroupResumed(group) => control.consumer_pause(group, false).await?,
            Undo::PortsCleared { ports, node } => {
                for port in ports {
                    control.port_rule(port, node.as_deref(), None).await?;
                }
            }
            Undo::HistoryStarted => control.history_start().await?,
            Undo::Nothing => {}
        }
        Ok(())
    }
}

/// Brokers as a list for people.
pub(crate) fn numbers(brokers: &[u32]) -> String {
    let names: Vec<String> = brokers.iter().map(u32::to_string).collect();
    names.join(", ")
}

async fn start(reach: &Reach, name: &str) -> Result<(), BedError> {
    let force_at = Instant::now() + reach.timers.drain_deadline + DRAIN_GRACE;
    let control = &reach.control;
    loop {
        let act = match reach.node(name).await?.state {
            NodeState::Running => return Ok(()),
            NodeState::Paused => control.resume(name).await,
            NodeState::Stopped | NodeState::Vanished => control.start(name).await,
            NodeState::Draining if force_at <= Instant::now() => {
                control.kill(name, KillHow::Process).await
            }
            NodeState::Draining => Ok(()),
        };
        match act {
            // The node changed between the look and the act: by itself, or because somebody else takes the same fault away.
            Ok(()) | Err(ControlError::State { .. }) => sleep(POLL_PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn remove_toxic(reach: &Reach, name: &str) -> Result<(), BedError> {
    let mut pending = Vec::new();
    for proxy in reach.proxies() {
        match proxy.remove_toxic(name) {
            Ok(generation) => pending.push((proxy, generation)),
            // A proxy that ended holds no rule.
            Err(storm_proxy::ControlError::Stopped { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (proxy, generation) in pending {
        match proxy.applied(generation).await {
            Ok(()) | Err(storm_proxy::ControlError::Stopped { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
