//! Facts that would be lost by reduction, kept one by one.
use std::sync::Arc;

use chat_protocol::{ConvId, Mid};
use serde::{Deserialize, Serialize};

use super::number::{Device, Number};

/// Where a message stands: its order in the conversation and its server id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Order.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
}

/// Something that speaks against an invariant, or takes back what did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// A body that opens to no message of this run.
    Phantom {
        /// Who surfaced it.
        device: Device,
        /// Conversation.
        conv: ConvId,
        /// Where it stood.
        at: Reference,
        /// When.
        at_ns: u64,
    },
    /// A body that differs from the recomputed one.
    Corrupt {
        /// Which message it claims to be.
        n: Number,
        /// Who surfaced it.
        device: Device,
        /// When.
        at_ns: u64,
    },
    /// A message on a device that is no planned recipient.
    Stranger {
        /// Which.
        n: Number,
        /// Who surfaced it.
        device: Device,
        /// When.
        at_ns: u64,
    },
    /// A second surfacing on one device.
    Duplicate {
        /// Which.
        n: Number,
        /// Who.
        device: Device,
        /// Where it stood this time.
        at: Reference,
        /// When.
        at_ns: u64,
    },
    /// A message that was definitely refused and surfaced all the same.
    RefusedSurfaced {
        /// Which.
        n: Number,
        /// On which device, where known.
        device: Option<Device>,
        /// When.
        at_ns: u64,
    },
    /// A retry that got another answer than the first.
    AnswerChanged {
        /// Which.
        n: Number,
        /// First answer.
        first: Reference,
        /// Later answer.
        later: Reference,
        /// When.
        at_ns: u64,
    },
    /// Two observers disagree where a message stands.
    Disagreement {
        /// Which.
        n: Number,
        /// The device that brought the second opinion.
        device: Device,
        /// First opinion.
        first: Reference,
        /// Second opinion.
        later: Reference,
        /// When.
        at_ns: u64,
    },
    /// A live delivery whose `cseq` is not above the highest one.
    Disorder {
        /// Which.
        n: Number,
        /// Who.
        device: Device,
        /// Conversation.
        conv: ConvId,
        /// Its order.
        cseq: u64,
        /// The highest before.
        highest: u64,
        /// When.
        at_ns: u64,
    },
    /// A later send of one device stands before an earlier one.
    Overtaken {
        /// The later-ordered message.
        n: Number,
        /// Its sender.
        device: Device,
        /// Conversation.
        conv: ConvId,
        /// Client order and `cseq` of the message.
        this: (u64, u64),
        /// Client order and `cseq` of the one it conflicts with.
        other: (u64, u64),
        /// When.
        at_ns: u64,
    },
    /// A position of the relay queue that was neither delivered nor named as skipped.
    DseqHole {
        /// Who.
        device: Device,
        /// Connection epoch.
        conn_epoch: u64,
        /// Expected position.
        expected: u64,
        /// Position that came.
        got: u64,
        /// When.
        at_ns: u64,
    },
    /// A message of somebody else that had to be fetched from history although the relay announced no loss.
    Backfill {
        /// Which.
        n: Number,
        /// Who.
        device: Device,
        /// Conversation.
        conv: ConvId,
        /// Its order.
        cseq: u64,
        /// When.
        at_ns: u64,
    },
    /// The relay brought, within the same connection or a later one, what had been fetched from history before: it was late, not
    /// lost, and takes back the [`Row::Backfill`] of the same device, conversation and order.
    Brought {
        /// Who.
        device: Device,
        /// Conversation.
        conv: ConvId,
        /// Its order.
        cseq: u64,
        /// When.
        at_ns: u64,
    },
    /// Something surfaced under an older connection epoch.
    OldEpoch {
        /// Who.
        device: Device,
        /// Epoch of the connection it came by.
        epoch: u64,
        /// Highest epoch of the device.
        highest: u64,
        /// When.
        at_ns: u64,
    },
    /// A refusal without code, or a retryable one without hint.
    RefusedBare {
        /// Which.
        n: Number,
        /// When.
        at_ns: u64,
    },
}

/// What a device was told about its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResumeOutcome {
    /// No cursor known.
    New,
    /// Goes on.
    Ok,
    /// Nothing lost, numbers changed.
    Rebased,
    /// Content was lost.
    Gap,
}

/// A connection that reached `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Who.
    pub device: Device,
    /// Node named in `welcome`.
    pub node: Arc<str>,
    /// Connection epoch.
    pub conn_epoch: u64,
    /// Cursor offered (queue epoch, `dseq`).
    pub offered: Option<(u64, u64)>,
    /// What became of it.
    pub resume: ResumeOutcome,
    /// Reconnect window the server dictated, nanoseconds.
    pub window_ns: u64,
    /// When.
    pub at_ns: u64,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClosedBy {
    /// The device left as planned.
    Left,
    /// The device obeyed a `drain` frame.
    Drained,
    /// The device gave up a silent link.
    Patience,
    /// The server sent a close frame.
    Server,
    /// The socket died without a close frame.
    Socket,
    /// The run ended.
    End,
}

/// A connection that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Who.
    pub device: Device,
    /// Connection epoch, 0 when it never reached `welcome`.
    pub conn_epoch: u64,
    /// Close code, when there was a close frame.
    pub code: Option<u16>,
    /// Who ended it.
    pub by: ClosedBy,
    /// When the last frame came from the server; the opening instant when none did.
    pub last_frame_ns: u64,
    /// How long the session had lasted since `welcome`.
    pub session_ns: u64,
    /// Whether the reaction to it is to stay away.
    pub terminal: bool,
    /// When.
    pub at_ns: u64,
}

/// The rule by which a client drew the delay of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DelayRule {
    /// The plan said when: first connect, planned return.
    Planned,
    /// Uniform in the window that the server dictated, nanoseconds.
    Window(u64),
    /// Full jitter at the attempt's index.
    Backoff,
    /// What a hint said, nanoseconds from the hint.
    Hint(u64),
}

/// One connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Who.
    pub device: Device,
    /// Attempts since the backoff was last reset; 0 for the first.
    pub index: u32,
    /// When the connection or attempt before it ended and the delay was drawn; the planned instant for a planned one.
    pub decided_ns: u64,
    /// Delay drawn.
    pub delay_ns: u64,
    /// When the attempt really started.
    pub started_ns: u64,
    /// Rule that the server's words called for, as the harness understood them, whatever the client made of it.
    pub rule: DelayRule,
}
