//! JSON bodies of the REST edge that a client needs: tokens and pages of history.
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::frame::DeviceClass;
use crate::{Cid, ConvId, DeviceId, Mid, UserId};

/// `POST /v1/tokens`: registers a device and asks for its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Whose device it is.
    pub user: UserId,
    /// The device: its whole id, or its index among the user's devices.
    pub device: DeviceId,
    /// Kind of device.
    pub class: DeviceClass,
}

/// Answer of `POST /v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// Access token for `hello` and for `Authorization: Bearer`.
    pub token: String,
    /// The device it is good for.
    pub device: DeviceId,
    /// Kind of device.
    pub class: DeviceClass,
    /// Until when it is good, milliseconds since 1970.
    pub expires_ms: u64,
}

/// Answer of `GET /v1/conversations/{c}/messages`: `after` pages oldest first, `before` pages newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// The conversation.
    pub conv: ConvId,
    /// At most `limit` messages; fewer than asked for means that there is nothing beyond at the moment.
    pub messages: Vec<PageMessage>,
}

/// One message of a page of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageMessage {
    /// Order in the conversation.
    pub cseq: u64,
    /// Server id.
    pub mid: Mid,
    /// Idempotency key.
    pub cid: Cid,
    /// Sender.
    pub from: UserId,
    /// Device of the sender.
    pub from_device: DeviceId,
    /// Kind of body, as sent.
    pub kind: u32,
    /// Sealed body, as sent.
    #[serde(with = "crate::codec::body")]
    pub body: Bytes,
    /// Instant of the first attempt as the client stamped it, milliseconds since 1970.
    pub client_ms: u64,
    /// The log's clock, milliseconds since 1970.
    pub server_ms: u64,
}
