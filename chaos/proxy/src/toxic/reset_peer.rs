//! `reset_peer`: both sockets of a connection get a reset, whether data flows or not.

use std::time::Duration;

/// Attributes of `reset_peer`. While it stands, new connections that it hits are reset as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetPeer {
    /// Time from the toxic's coming, or the connection's if that is later, to the reset; zero is at once.
    pub timeout: Duration,
}
