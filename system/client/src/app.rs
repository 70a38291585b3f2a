//! What sits on top of the client: it writes bodies when they are sealed, and is told everything that happens.
//!
//! All calls come on the device's task, synchronously; they must be cheap and must not block. Times are nanoseconds of
//! the clock that was handed in.
use chat_protocol::frame::{Cursor, ResumeOutcome};
use chat_protocol::{Cid, ConvId, DeviceId, Mid};

/// The caller's own number for a device; handed back in every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Local(pub u32);

/// A message to send. Its body is asked for when the frame is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The caller's own number for the message; handed back in every call.
    pub ticket: u64,
    /// Idempotency key.
    pub cid: Cid,
    /// Conversation.
    pub conv: ConvId,
    /// Kind of body, opaque to the server.
    pub kind: u32,
}

/// Why a message was not sent; no byte of it left the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The outbox holds its limit.
    OutboxFull,
    /// Its deadline passed while it waited.
    Deadline,
    /// The body that the app wrote is too large.
    TooLarge,
    /// The device ended.
    Stopped,
}

/// The answer that made a message durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The caller's number.
    pub ticket: u64,
    /// Idempotency key.
    pub cid: Cid,
    /// Conversation.
    pub conv: ConvId,
    /// Server id.
    pub mid: Mid,
    /// Order in the conversation.
    pub cseq: u64,
    /// The server said that it had the `cid` before.
    pub dup: bool,
    /// Attempts written so far.
    pub attempts: u32,
    /// The message had been reported unknown before.
    pub late: bool,
    /// A further answer for a message already answered; its numbers must be the first ones.
    pub again: bool,
}

/// Where a surfaced message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the relay queue.
    Relay,
    /// From history, because a `cseq` hole did not close.
    Hole,
    /// From history, because the server announced a loss: `new`, `gap` or `reset lost`.
    Sync,
    /// From history, because the device had no cursor: what its queue should have held may be gone without anybody knowing.
    First,
}

/// A message that the app shows.
#[derive(Clone, Copy, Debug)]
pub struct Surfaced<'a> {
    /// Conversation.
    pub conv: ConvId,
    /// Order in the conversation.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Device of the sender.
    pub from: DeviceId,
    /// Kind of body.
    pub kind: u32,
    /// The opened body.
    pub plaintext: &'a [u8],
    /// Where it came from.
    pub origin: Origin,
    /// Incarnation of the connection it came over; of the present one for history.
    pub conn_epoch: u64,
}

/// One attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Exponent of the backoff: failures since the last stable session, or since the app's wish to be online.
    pub index: u32,
    /// When the wait began: the end of the previous connection or attempt, or the wish to connect.
    pub since_ns: u64,
    /// The wait that the policy drew.
    pub delay_ns: u64,
    /// Least and greatest wait that the policy could have drawn.
    pub bounds_ns: (u64, u64),
    /// What decided the wait.
    pub cause: Cause,
    /// Intended start: `since_ns + delay_ns`.
    pub due_ns: u64,
}

/// What decided how long a device waits before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The app wants to be online.
    Join,
    /// The window that the server dictated.
    Window,
    /// A `drain` frame.
    Drain,
    /// A hint not to come back before some time.
    RetryAfter,
    /// Backoff of the policy.
    Backoff,
}

/// A connection is up.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Incarnation of the connection.
    pub conn_epoch: u64,
    /// Where the device stopped.
    pub offered: Option<Cursor>,
    /// What the server made of it.
    pub resume: ResumeOutcome,
    /// Queue epoch.
    pub epoch: u64,
    /// Position of the next item.
    pub next_dseq: u64,
    /// Window of the next first reconnect, as dictated.
    pub window_ns: u64,
    /// Intended start of the attempt.
    pub due_ns: u64,
    /// When the WebSocket was open, `hello` not yet written.
    pub open_ns: u64,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The server, with a close frame.
    Server,
    /// The device: planned absence, drain, or stop.
    Device,
    /// The device: nothing was heard for the patience.
    Patience,
    /// The socket died.
    Socket,
    /// The device: the server broke the protocol.
    Protocol,
}

/// A connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Incarnation of the connection.
    pub conn_epoch: u64,
    /// Close code, if there was a close frame.
    pub code: Option<u16>,
    /// Who ended it.
    pub by: EndedBy,
    /// Since the last frame from the server.
    pub last_frame_age_ns: u64,
    /// Since `welcome`.
    pub session_ns: u64,
    /// A `drain` frame asked to reconnect after this time.
    pub drain_due_ns: Option<u64>,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection was refused or broke.
    Socket,
    /// No `welcome` in time.
    Timeout,
    /// The handshake was answered with this HTTP status.
    Http(u16),
    /// The connection was closed before `welcome`, with this code if there was one.
    Closed(Option<u16>),
    /// The server broke the protocol.
    Protocol,
    /// No token could be had.
    Token,
}

/// Something that should not happen and is not otherwise told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A frame in the wrong place.
    UnexpectedFrame,
    /// Bytes that are no frame.
    Undecodable,
    /// An answer to a message that is not in the outbox.
    UnknownAnswer,
    /// A `welcome` under an older connection epoch; the connection is dropped.
    OldEpoch,
    /// A mark of a receipt that is lower than a former one; it is not shown.
    ReceiptRegressed,
    /// A page of history could not be read; it is tried again.
    HistoryFailed,
}

/// The app above the client.
pub trait App {
    /// Writes the body of a message. Called once a message, at the moment `at_ns` when its frame is encoded first.
    fn compose(&self, who: Local, message: &Outgoing, at_ns: u64, body: &mut Vec<u8>);

    /// Conversations that the app knows of beside those the device has seen; asked for before a history sync.
    fn conversations(&self, who: Local) -> Vec<ConvId> {
        let _ = who;
        Vec::new()
    }

    /// A frame of the message was encoded for the socket; `attempt` counts from 1.
    fn written(&self, who: Local, message: &Outgoing, attempt: u32, at_ns: u64);
    /// The message is durable and ordered.
    fn accepted(&self, who: Local, accepted: &Accepted, at_ns: u64);
    /// The message was refused for good: no attempt of it can surface.
    fn rejected(&self, who: Local, ticket: u64, code: chat_protocol::frame::RejectCode, at_ns: u64);
    /// The message may or may not surface.
    fn unknown(&self, who: Local, ticket: u64, at_ns: u64);
    /// No byte of the message left.
    fn not_sent(&self, who: Local, ticket: u64, why: NotSent, at_ns: u64);
    /// One attempt was refused (the message goes on); `hinted`: the server named a time.
    fn refused(
        &self,
        who: Local,
        ticket: u64,
        code: chat_protocol::frame::RejectCode,
        hinted: bool,
        at_ns: u64,
    );

    /// A message is shown.
    fn surfaced(&self, who: Local, surfaced: &Surfaced<'_>, at_ns: u64);
    /// A message that does not open; it is not shown and counts as seen.
    fn unreadable(&self, who: Local, surfaced: &Surfaced<'_>, at_ns: u64);
    /// A delivery that the device already had.
    fn wire_duplicate(&self, who: Local, conv: ConvId, cseq: u64, at_ns: u64);
    /// Positions of the queue were skipped: `expected` was next, `got` came.
    fn dseq_hole(&self, who: Local, expected: u64, got: u64, at_ns: u64);
    /// Every message of `conv` up to `delivered` reached the other user's devices, so far as `user` acknowledged.
    fn receipt(
        &self,
        who: Local,
        conv: ConvId,
        user: chat_protocol::UserId,
        delivered: u64,
        at_ns: u64,
    );

    /// An attempt to connect starts.
    fn attempt(&self, who: Local, attempt: &Attempt, at_ns: u64);
    /// The attempt failed; `retry_after_ns` is a hint that came with it.
    fn attempt_failed(&self, who: Local, failure: Failure, retry_after_ns: Option<u64>, at_ns: u64);
    /// A connection is up.
    fn opened(&self, who: Local, opened: &Opened<'_>, at_ns: u64);
    /// The backlog is drained.
    fn caught_up(&self, who: Local, at_ns: u64);
    /// The queue was renumbered on a live connection.
    fn renumbered(&self, who: Local, lost: bool, at_ns: u64);
    /// A `drain` frame came.
    fn drain(&self, who: Local, reconnect_in_ns: u64, at_ns: u64);
    /// A connection ended.
    fn closed(&self, who: Local, closed: &Closed, at_ns: u64);
    /// The device gives up for good after this close code.
    fn terminal(&self, who: Local, code: u16, at_ns: u64);
    /// A heartbeat was answered.
    fn heartbeat(&self, who: Local, rtt_ns: u64, at_ns: u64);
    /// A history sync that the server made necessary is complete.
    fn synced(&self, who: Local, at_ns: u64);
    /// Something odd.
    fn odd(&self, who: Local, oddity: Oddity, at_ns: u64);
}

/// Monotonic time shared by everything that is measured together.
pub trait Clock {
    /// Nanoseconds since the clock's own start.
    fn now_ns(&self) -> u64;
}
