//! Conversations by `cseq`: append by key, range by key.
use async_trait::async_trait;
use bytes::Bytes;
use chat_protocol::{Cid, ConvId, DeviceId, Mid};

use crate::PortError;

/// One message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Conversation.
    pub conv: ConvId,
    /// Order in the conversation; with the conversation, the row's key.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Idempotency key.
    pub cid: Cid,
    /// Device that sent it.
    pub from: DeviceId,
    /// Kind of body.
    pub kind: u32,
    /// The client's stamp of the first attempt.
    pub client_ms: u64,
    /// The log's stamp.
    pub server_ms: u64,
    /// Sealed body.
    pub body: Bytes,
}

/// Which rows of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Conversation.
    pub conv: ConvId,
    /// Backward: rows below `from`, newest first. Forward: rows above it, oldest first.
    pub backward: bool,
    /// Where the page starts, exclusive.
    pub from: u64,
    /// At most so many rows.
    pub limit: u32,
}

/// Summary of a conversation, for the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ConvDigest {
    /// Rows.
    pub rows: u64,
    /// Highest `cseq`.
    pub top: u64,
    /// Sum of `message_hash` over the rows.
    pub digest: u64,
}

/// The history store.
#[async_trait]
pub trait History: Send + Sync {
    /// Writes rows; an equal row is written again without harm. Ok means durable.
    async fn upsert(&self, rows: Vec<Row>) -> Result<(), PortError>;

    /// Reads a page.
    async fn page(&self, request: PageRequest) -> Result<Vec<Row>, PortError>;

    /// Digests of conversations, read from the rows themselves.
    async fn digests(&self, convs: &[ConvId]) -> Result<Vec<ConvDigest>, PortError>;
}
