//! Backends whose links can be conditioned.

/// A backend that nodes can reach through a listener of their own. The brokers of the log are none: each advertises one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// Behind the ports `registry` and `relay_queue`.
    Redis,
    /// Behind the ports `history` and `tables`.
    Cassandra,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Redis, Self::Cassandra];

    /// What stands behind a port; `None` for a port whose links cannot be conditioned, and for a name that is no port.
    pub fn of_port(port: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.ports().contains(&port))
    }

    /// The ports that share its link.
    pub const fn ports(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &["registry", "relay_queue"],
            Self::Cassandra => &["history", "tables"],
        }
    }

    /// Last part of its container's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Cassandra => "cassandra",
        }
    }
}
