//! Close codes of a WebSocket, and what a client does on each.
//!
//! Unknown codes act by range, the convention of Centrifuge: 4000–4499 reconnect, 4500–4999 terminal.

/// The peer left on purpose.
pub const NORMAL: u16 = 1000;
/// The peer goes away on purpose.
pub const AWAY: u16 = 1001;
/// A frame that breaks the protocol: out of order, beyond what was sent, not decodable.
pub const PROTOCOL: u16 = 1002;
/// A frame of the wrong type (text on a binary subprotocol).
pub const UNSUPPORTED: u16 = 1003;
/// Text that is not UTF-8.
pub const INVALID: u16 = 1007;
/// A message above [`crate::limits::FRAME_MAX`].
pub const TOO_BIG: u16 = 1009;
/// Something broke inside the server.
pub const INTERNAL: u16 = 1011;
/// The node restarts or drains.
pub const RESTART: u16 = 1012;
/// Load is shed, or a store is unavailable.
pub const SHED: u16 = 1013;
/// The token is bad or expired, or no `hello` came.
pub const UNAUTHORISED: u16 = 4401;
/// No `pong` in time.
pub const HEARTBEAT: u16 = 4408;
/// The node fenced itself: it could not renew its lease.
pub const FENCED: u16 = 4421;
/// No ack progress, or too much unread.
pub const SLOW: u16 = 4440;
/// Another protocol version.
pub const VERSION: u16 = 4500;
/// A newer connection of the same device took over.
pub const DISPLACED: u16 = 4509;

/// What a client does after a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The client itself left; nothing to do.
    Nothing,
    /// Never reconnect; the harness or the account is at fault.
    Terminal,
    /// First delay uniform in the window that the server dictated; the attempt counter starts at zero.
    Window,
    /// First delay uniform in the window, the attempt counter is not raised.
    Restart,
    /// Honour `retry_after`, start at attempt 3.
    Shed,
    /// Full-jitter backoff at the present attempt.
    Backoff,
}

/// The reaction to a close code; `None` is a death without close frame (1006 in the browser's words).
pub fn reaction(code: Option<u16>) -> Reaction {
    match code {
        None => Reaction::Window,
        Some(NORMAL | AWAY) => Reaction::Nothing,
        Some(PROTOCOL | UNSUPPORTED | INVALID | TOO_BIG) => Reaction::Terminal,
        Some(RESTART) => Reaction::Restart,
        Some(SHED) => Reaction::Shed,
        Some(FENCED) => Reaction::Window,
        Some(4500..=4999) => Reaction::Terminal,
        Some(_) => Reaction::Backoff,
    }
}
