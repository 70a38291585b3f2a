//! Whether a port of this host is ours to listen on.
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A connection over loopback arrives within microseconds; this long, and nobody will answer.
const ARRIVES: Duration = Duration::from_millis(500);

/// What keeps a port from a listener of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortTrouble {
    /// Somebody listens there.
    #[error("port {0} is taken")]
    Taken(u16),
    /// Connections to it end elsewhere. An engine that was killed leaves such rules: its containers are gone, and the kernel still
    /// forwards their published ports to them.
    #[error("connections to port {0} do not reach who listens there")]
    Redirected(u16),
}

impl PortTrouble {
    /// What to do about it.
    #[must_use]
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Taken(_) => "another run may be under way; `ss -ltnp` shows who listens",
            Self::Redirected(_) => {
                "a packet filter forwards them (`iptables -t nat -S`); rules of a container engine that was killed are gone when it starts again"
            }
        }
    }
}

/// Listens on a port for a moment and connects to it. Waits a second at most, and only where something is wrong. What else keeps a
/// listener away, a privileged port for one, is told by the start of who wants to listen.
///
/// # Errors
/// The port is taken, or what connects to it does not arrive.
pub fn expect_port(addr: SocketAddr) -> Result<(), PortTrouble> {
    let listener = match TcpListener::bind(addr) {
        Ok(listener) => listener,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            return Err(PortTrouble::Taken(addr.port()));
        }
        Err(_) => return Ok(()),
    };
    let connected = TcpStream::connect_timeout(&addr, ARRIVES).is_ok();
    let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(ARRIVES.subsec_nanos()) };
    let arrived = connected
        && poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&limit))
            .is_ok_and(|ready| ready > 0);
    if arrived { Ok(()) } else { Err(PortTrouble::Redirected(addr.port())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_port_is_ours_and_one_with_a_listener_is_not() {
        let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = other.local_addr().unwrap();
        assert_eq!(expect_port(addr), Err(PortTrouble::Taken(addr.port())));
        drop(other);
        assert_eq!(expect_port(addr), Ok(()));
    }
}
