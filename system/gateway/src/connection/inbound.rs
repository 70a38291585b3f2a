//! What a device says.
use bytes::Bytes;
use chat_protocol::codec::Codec;
use chat_protocol::frame::{Beat, ClientFrame, Effect, Reject, RejectCode, Send, ServerFrame};
use chat_protocol::limits::BODY_MAX;
use chat_protocol::{DeviceId, close, node};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::Connection;
use super::delivery::merge;
use super::ending::SOCKET_DEATH;
use super::join::Joined;
use crate::deps::AckPoint;
use crate::hub::millis;

impl Connection {
    pub(super) fn on_message(&mut self, message: Message, now: Instant) {
        let frame = match (self.codec, message) {
            (Codec::MessagePack, Message::Binary(bytes)) => self.codec.decode(&bytes),
            (Codec::Json, Message::Text(text)) => self.codec.decode(text.as_bytes()),
            (_, Message::Binary(_) | Message::Text(_)) => {
                return self.finish(
                    close::UNSUPPORTED,
                    "frames of this subprotocol are of the other type",
                    false,
                );
            }
            (_, Message::Close(frame)) => {
                let code = frame.map_or(close::NORMAL, |frame| frame.code.into());
                return self.finish(code, "", true);
            }
            // The WebSocket layer answers its own pings; the answer leaves with the next flush.
            (_, Message::Ping(_)) => {
                self.unflushed += 1;
                return;
            }
            (_, Message::Pong(_)) => return,
            (_, Message::Frame(_)) => return self.finish(SOCKET_DEATH, "the socket ended", false),
        };
        match frame {
            Ok(ClientFrame::Send(send)) => self.on_send(&send),
            Ok(ClientFrame::Ack(ack)) => self.on_ack(ack.dseq, now),
            Ok(ClientFrame::Pong(beat)) => {
                self.hub.metrics.pong_in.add(1);
                self.beats.pong();
                if self.barrier.is_some_and(|stamp| beat.t_ms >= stamp) {
                    self.barrier = None;
                }
            }
            Ok(ClientFrame::Ping(beat)) => {
                self.hub.metrics.ping_in.add(1);
                self.hub.metrics.pong_out.add(1);
                self.write(&ServerFrame::Pong(Beat { t_ms: beat.t_ms }));
            }
            Ok(ClientFrame::Hello(hello)) => {
                self.hub.metrics.hello_in.add(1);
                self.on_hello(&hello, now);
            }
            Err(_) => self.finish(close::PROTOCOL, "not a frame of this protocol", false),
        }
    }

    fn device(&self) -> Option<DeviceId> {
        match &self.joined {
            Joined::AwaitsHello { .. } => None,
            Joined::Registering { device, .. } => Some(*device),
            Joined::Live(live) => Some(live.device),
        }
    }

    fn on_send(&mut self, send: &Send) {
        self.hub.metrics.send_in.add(1);
        let Some(device) = self.device() else {
            return self.finish(close::PROTOCOL, "a send before hello", false);
        };
        if let Err(code) = self.offer(device, send) {
            self.hub.metrics.sends_refused.add(1);
            let retryable = code == RejectCode::Busy;
            let retry_after_ms = retryable.then(|| millis(self.hub.deps.timers.backoff_base));
            let (cid, attempt) = (send.cid, send.attempt);
            self.write_reject(Reject {
                cid,
                attempt,
                code,
                retryable,
                effect: Effect::None,
                retry_after_ms,
            });
        }
    }

    fn offer(&self, device: DeviceId, send: &Send) -> Result<(), RejectCode> {
        if send.body.len() > BODY_MAX {
            return Err(RejectCode::TooLarge);
        }
        if send.conv.peer(device.user()).is_none() {
            return Err(RejectCode::Forbidden);
        }
        if self.hub.offer_send(send.conv, node_send(device, self.handle.conn, send)) {
            Ok(())
        } else {
            Err(RejectCode::Busy)
        }
    }

    fn on_ack(&mut self, dseq: u64, now: Instant) {
        self.hub.metrics.ack_in.add(1);
        let Joined::Live(live) = &mut self.joined else {
            return self.finish(close::PROTOCOL, "an ack before welcome", false);
        };
        if self.barrier.is_some() {
            // Written before the device knew that its queue was renumbered: the number may mean something else now.
            return;
        }
        let acked = live.delivery.acked();
        match live.delivery.acked_up_to(dseq, now) {
            Ok(marks) if self.hub.deps.policies.ack == AckPoint::DeviceAck && dseq > acked => {
                let owed = self.owed_ack.get_or_insert_default();
                for mark in marks {
                    merge(owed, mark);
                }
            }
            Ok(_) => {}
            Err(_) => self.finish(close::PROTOCOL, "an ack beyond what was sent", false),
        }
    }
}

/// A send as intake gets it; both ids share one allocation.
pub(crate) fn node_send(device: DeviceId, conn: u64, send: &Send) -> node::Send {
    let mut ids = [0_u8; 32];
    ids[..16].copy_from_slice(&send.cid.to_bytes());
    ids[16..].copy_from_slice(&send.conv.to_bytes());
    let ids = Bytes::copy_from_slice(&ids);
    node::Send {
        cid: ids.slice(..16),
        conv: ids.slice(16..),
        device: device.0,
        conn,
        attempt: send.attempt,
        client_ms: send.client_ms,
        kind: send.kind,
        body: send.body.clone(),
    }
}
