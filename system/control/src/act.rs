//! What can be done to a system.
use std::time::Duration;

/// How a node is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KillHow {
    /// The process dies: its sockets close at once.
    Process,
    /// The machine vanishes: nothing is executed any more and no FIN leaves.
    Silent,
}

/// What a port does to calls while the rule is in force.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortRule {
    /// Every call takes `delay` longer, give or take a uniform `jitter`.
    Slow {
        /// Added to every call.
        delay: Duration,
        /// Spread around it.
        jitter: Duration,
    },
    /// Calls are lost before they reach the store: they time out with no effect.
    Cut,
    /// Connections are reset: calls fail at once, and whether one had its effect nobody knows.
    Reset,
    /// Calls are held and go on when the rule is taken away; one whose own time limit ends before is lost with no effect.
    Stall,
}
