//! What a gateway is given: ports, timers, limits and policies.
use std::sync::Arc;
use std::time::Duration;

use chat_ports::clock::SharedClock;
use chat_ports::nodes::NodeView;
use chat_ports::observe::Observer;
use chat_ports::tables::Tables;
use chat_protocol::limits::Timers;
use chat_protocol::token::TokenKey;

/// Everything a gateway needs of the world.
#[derive(Clone)]
pub struct Deps {
    /// This node's key, its lease and the live node table; the keeper behind it is run by the caller.
    pub view: NodeView,
    /// Wall time.
    pub clock: SharedClock,
    /// Timers of the system.
    pub timers: Timers,
    /// The system's observer, already of this node.
    pub observer: Observer,
    /// Key that signs and checks access tokens; the same on every gateway.
    pub token_key: TokenKey,
    /// The directory, for `POST /v1/tokens`.
    pub tables: Arc<dyn Tables>,
    /// Partitions of `chat.messages`; they decide which intake gets a send.
    pub partitions: u32,
    /// Seed of jitter.
    pub seed: u64,
    /// Limits.
    pub limits: Limits,
    /// Policies.
    pub policies: Policies,
}

/// Limits of a gateway, and what happens at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, HTTP included; a further one is closed unanswered.
    pub connections: usize,
    /// WebSocket handshakes a second; a further one gets 503 with `Retry-After`.
    pub handshakes_per_s: u32,
    /// Handshakes under way; a further one gets 503 with `Retry-After`.
    pub handshakes_pending: usize,
    /// Devices a second that are pulled or registered again after a stream or a store came back; more wait.
    pub catch_up_per_s: u32,
    /// Outbound bytes of a socket beyond which its device is behind: pages instead of pushes.
    pub behind_bytes: usize,
    /// Unwritten bytes of a socket beyond which it is closed with 4440.
    pub unwritten_bytes: usize,
    /// Sends by REST that wait for their answer; a further one gets 503.
    pub rest_sends: usize,
    /// Page reads that wait for their answer; a further one gets 503.
    pub rest_reads: usize,
    /// Bytes of a REST request body; a larger one gets 413.
    pub rest_body_bytes: usize,
    /// How long a REST request may take to arrive.
    pub rest_header_wait: Duration,
    /// How long an access token is good.
    pub token_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshakes_per_s: 2_500,
            handshakes_pending: 1_024,
            catch_up_per_s: 5_000,
            behind_bytes: 256 * 1024,
            unwritten_bytes: 1024 * 1024,
            rest_sends: 4_096,
            rest_reads: 4_096,
            // A body of the largest size in base64, and room for the rest of the JSON.
            rest_body_bytes: chat_protocol::limits::BODY_MAX / 3 * 4 + 4_096,
            rest_header_wait: Duration::from_secs(5),
            token_life: Duration::from_hours(24),
        }
    }
}

/// Policies of a gateway; the default of each is the right one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// What happens at a hole in what relay pushed.
    pub hole: HoleRule,
    /// When an item counts as acknowledged.
    pub ack: AckPoint,
    /// Whose resume cursors are honoured.
    pub cursor: CursorScope,
    /// What a gateway does that cannot keep its lease.
    pub fence: FenceRule,
    /// Whether silent connections are closed.
    pub heartbeat: HeartbeatRule,
    /// How the reconnect window is chosen.
    pub window: WindowRule,
}

/// What happens at a hole in what relay pushed, and after a broken stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoleRule {
    /// What is missing is pulled.
    #[default]
    Pull,
    /// What is pushed is all there is.
    TrustPushes,
}

/// When an item counts as acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPoint {
    /// When the device says so.
    #[default]
    DeviceAck,
    /// When it was written to the socket.
    SocketWrite,
}

/// Whose resume cursors are honoured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CursorScope {
    /// Everybody's: the store judges them.
    #[default]
    Store,
    /// Those of devices that this node incarnation has served before; others go on behind the newest item.
    Node,
}

/// What a gateway does that cannot keep its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FenceRule {
    /// Stops serving, unless the registry is out for everybody.
    #[default]
    SelfFence,
    /// Goes on.
    Never,
}

/// Whether silent connections are closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeartbeatRule {
    /// The server asks, and closes without an answer.
    #[default]
    Both,
    /// The server neither asks nor closes.
    Off,
}

/// How the reconnect window is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowRule {
    /// From connections on this node and the accept rate of the others.
    #[default]
    Computed,
    /// Always zero.
    Zero,
}
