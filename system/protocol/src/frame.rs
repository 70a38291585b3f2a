//! What client and server say over a WebSocket: subprotocols `chatstorm.v1.msgpack` and `chatstorm.v1.json`.
//!
//! A frame is a map with one key, the frame's name, and the frame's fields as a map below it. Names are part of the
//! protocol. `docs/protocol.md` is the prose.
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Cid, ConvId, DeviceId, Mid, UserId};

/// Protocol version carried in `hello`.
pub const PROTO: u32 = 1;

/// Client to server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientFrame {
    /// Always first.
    Hello(Hello),
    /// One message.
    Send(Send),
    /// Everything up to `dseq` is stored and surfaced by the app.
    Ack(Ack),
    /// Application heartbeat.
    Ping(Beat),
    /// Answer to a heartbeat.
    Pong(Beat),
}

/// Server to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerFrame {
    /// Answer to `hello`.
    Welcome(Welcome),
    /// The message is durable and ordered. May come twice.
    Sent(Sent),
    /// The attempt was refused.
    Reject(Reject),
    /// One message of the device's relay queue.
    Deliver(Deliver),
    /// One receipt of the device's relay queue.
    Receipt(Receipt),
    /// The backlog is drained.
    CaughtUp(CaughtUp),
    /// The queue was renumbered.
    Reset(Reset),
    /// Application heartbeat.
    Ping(Beat),
    /// Answer to a heartbeat.
    Pong(Beat),
    /// The node is about to leave.
    Drain(Drain),
    /// Something is wrong; a close frame follows unless `code` says otherwise.
    Error(Error),
}

/// First frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Access token, from `POST /v1/tokens`.
    pub token: String,
    /// The device that connects; the token must name it.
    pub device: DeviceId,
    /// `mobile` or `desktop`.
    pub class: DeviceClass,
    /// [`PROTO`].
    pub proto: u32,
    /// Where the device stopped; it is also an ack. Absent on a new device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Cursor>,
}

/// Kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceClass {
    /// A phone.
    Mobile,
    /// A second screen.
    Desktop,
}

/// A position in a device's relay queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Queue epoch: numbering incarnation of the queue.
    pub epoch: u64,
    /// Last position the device has.
    pub dseq: u64,
}

/// How a connection goes on from where the device stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResumeOutcome {
    /// No cursor: sync from history, then go on at `next_dseq`.
    New,
    /// Goes on at `next_dseq` = cursor + 1.
    Ok,
    /// Nothing was lost but numbers changed: restart numbering, dedupe by `(conv, cseq)`.
    Rebased,
    /// Items were lost: sync from history.
    Gap,
}

/// Answer to `hello`; the client sets its counters from it unconditionally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Incarnation of the device's connection; rises with every connection.
    pub conn_epoch: u64,
    /// Name of the node that serves the connection.
    pub node: String,
    /// Outcome of the resume.
    pub resume: ResumeOutcome,
    /// Queue epoch.
    pub epoch: u64,
    /// Position of the next item.
    pub next_dseq: u64,
    /// Heartbeat period of the server, milliseconds.
    pub hb_ms: u64,
    /// How many items may be unacknowledged.
    pub max_unacked: u32,
    /// Window of the first reconnect delay, milliseconds.
    pub reconnect_window_ms: u64,
    /// The server's wall clock, milliseconds since 1970.
    pub server_ms: u64,
}

/// One message. A retry carries the same `cid`, `client_ms` and body, and a higher `attempt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// Idempotency key.
    pub cid: Cid,
    /// From 1.
    pub attempt: u32,
    /// Conversation; the sender must be one of its users.
    pub conv: ConvId,
    /// Kind of body, opaque to the server. 0 is a text message.
    pub kind: u32,
    /// Sealed body, at most [`crate::limits::BODY_MAX`] bytes.
    #[serde(with = "crate::codec::body")]
    pub body: Bytes,
    /// Instant of the first attempt on the server's clock, milliseconds since 1970.
    pub client_ms: u64,
}

/// The message is durable and ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Of the send.
    pub cid: Cid,
    /// Server id.
    pub mid: Mid,
    /// Order in the conversation, from 1, gapless.
    pub cseq: u64,
    /// The log's clock, milliseconds since 1970.
    pub server_ms: u64,
    /// The `cid` had been accepted before; the answer is the first one's.
    pub dup: bool,
}

/// Why an attempt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejectCode {
    /// Nobody can take the send at the moment.
    Busy,
    /// The log did not answer, or cannot accept.
    Unavailable,
    /// `client_ms` is too old or too far ahead.
    Stale,
    /// The body is too large.
    TooLarge,
    /// The sender is not in the conversation.
    Forbidden,
    /// The conversation names a user that does not exist.
    UnknownUser,
    /// The `cid` stands for another message already.
    CidTaken,
}

impl RejectCode {
    /// All codes, in their wire order.
    pub const ALL: [Self; 7] = [
        Self::Busy,
        Self::Unavailable,
        Self::Stale,
        Self::TooLarge,
        Self::Forbidden,
        Self::UnknownUser,
        Self::CidTaken,
    ];

    /// The word on the wire and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Stale => "stale",
            Self::TooLarge => "too-large",
            Self::Forbidden => "forbidden",
            Self::UnknownUser => "unknown-user",
            Self::CidTaken => "cid-taken",
        }
    }

    /// Number between nodes.
    pub fn to_wire(self) -> u32 {
        match self {
            Self::Busy => 0,
            Self::Unavailable => 1,
            Self::Stale => 2,
            Self::TooLarge => 3,
            Self::Forbidden => 4,
            Self::UnknownUser => 5,
            Self::CidTaken => 6,
        }
    }

    /// Reads the number between nodes; an unknown one acts as `unavailable`.
    pub fn from_wire(code: u32) -> Self {
        usize::try_from(code)
            .ok()
            .and_then(|i| Self::ALL.get(i).copied())
            .unwrap_or(Self::Unavailable)
    }
}

/// What a refused attempt may have left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// A promise: this attempt never surfaces.
    None,
    /// It may surface.
    Unknown,
}

/// The attempt was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Of the send.
    pub cid: Cid,
    /// Of the attempt that is answered.
    pub attempt: u32,
    /// Why.
    pub code: RejectCode,
    /// Whether trying again can help.
    pub retryable: bool,
    /// What may have been left behind.
    pub effect: Effect,
    /// Not before this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// One message of the device's relay queue. Comes to every device of the recipient and to the sender's other devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// Position in the device's queue, contiguous in a queue epoch.
    pub dseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Conversation.
    pub conv: ConvId,
    /// Order in the conversation.
    pub cseq: u64,
    /// Sender.
    pub from: UserId,
    /// Device of the sender.
    pub from_device: DeviceId,
    /// Kind of body, as sent.
    pub kind: u32,
    /// Sealed body, as sent.
    #[serde(with = "crate::codec::body")]
    pub body: Bytes,
}

/// Cumulative mark: `who` has every message of `conv` up to `delivered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Position in the device's queue.
    pub dseq: u64,
    /// Conversation.
    pub conv: ConvId,
    /// Whose progress it is.
    pub who: UserId,
    /// Up to this `cseq`.
    pub delivered: u64,
}

/// Cumulative acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Up to this position.
    pub dseq: u64,
}

/// The backlog that existed at the connect is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// Up to this position.
    pub dseq: u64,
}

/// The queue was renumbered while the connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// New queue epoch.
    pub epoch: u64,
    /// Position of the next item.
    pub next_dseq: u64,
    /// Items were lost: sync from history.
    pub lost: bool,
}

/// Heartbeat and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The asker's clock, milliseconds; the answer repeats it.
    pub t_ms: u64,
}

/// The node is about to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Reconnect after this long.
    pub reconnect_in_ms: u64,
    /// The connection ends after this long at the latest.
    pub deadline_ms: u64,
}

/// Something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// A close code.
    pub code: u16,
    /// For people.
    pub text: String,
    /// Not before this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
