//! How a connection ends: its code, its place in the node, its goodbye.
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use chat_ports::observe::Event;
use chat_protocol::close;
use futures_util::Stream as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, error::CapacityError};

use super::Connection;
use super::join::Joined;

/// How long a closed connection may take to say its close frame and to hear the peer's.
const LINGER: Duration = Duration::from_secs(1);
/// Code of a connection whose socket died without a close frame.
pub(super) const SOCKET_DEATH: u16 = 1006;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: u16,
    pub(super) text: &'static str,
    /// The client said goodbye itself.
    pub(super) by_client: bool,
}

impl Connection {
    /// Ends the connection; the first reason stays.
    pub(super) fn finish(&mut self, code: u16, text: &'static str, by_client: bool) {
        if self.end.is_none() {
            self.end = Some(End { code, text, by_client });
        }
    }

    pub(super) fn on_error(&mut self, error: &tungstenite::Error) {
        use tungstenite::Error as E;
        let (code, text) = match error {
            E::Capacity(CapacityError::MessageTooLong { .. }) => {
                (close::TOO_BIG, "the message is too large")
            }
            E::Capacity(_)
            | E::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                (SOCKET_DEATH, "the socket ended")
            }
            E::Protocol(_) | E::AttackAttempt => (close::PROTOCOL, "not the WebSocket protocol"),
            E::Utf8(_) => (close::INVALID, "text that is not UTF-8"),
            E::WriteBufferFull(_) => (close::SLOW, "too much is unread"),
            _ => (SOCKET_DEATH, "the socket ended"),
        };
        self.finish(code, text, false);
    }

    /// Takes the connection out of the node at once, before any goodbye.
    pub(super) fn leave(&mut self, end: &End) {
        self.count_bytes();
        self.hub.metrics.closed(end.code);
        if let Joined::Live(live) = &self.joined {
            self.hub.unregister(live.device, self.handle.conn, live.conn_epoch);
            self.hub.count_registered(false);
            if !end.by_client {
                let silent_ms = crate::hub::millis(self.last_frame.elapsed());
                self.hub.deps.observer.note(Event::ConnectionClosed(
                    live.device,
                    live.conn_epoch,
                    end.code,
                    silent_ms,
                ));
            }
        }
        self.hub.close(&self.handle);
    }

    /// Sends the close frame and hears the peer out for a moment, so that the code is not lost with unread input.
    pub(super) async fn say_goodbye(mut self, end: &End) {
        if end.code == SOCKET_DEATH {
            return;
        }
        let goodbye = async {
            // The answer to the peer's own close frame is queued already, and reading on sends it.
            if !end.by_client {
                let frame = CloseFrame { code: CloseCode::from(end.code), reason: end.text.into() };
                if self.socket.close(Some(frame)).await.is_err() {
                    return;
                }
            }
            while poll_fn(|cx| Pin::new(&mut self.socket).poll_next(cx))
                .await
                .is_some_and(|frame| frame.is_ok())
            {}
        };
        if tokio::time::timeout(LINGER, goodbye).await.is_err() {
            tracing::debug!(
                conn = self.handle.conn,
                code = end.code,
                "The peer did not answer the close frame."
            );
        }
    }
}

/// Words for a code with which the node closes.
pub(super) fn close_text(code: u16) -> &'static str {
    match code {
        close::DISPLACED => "a newer connection of the device took over",
        close::FENCED => "the node lost its lease",
        close::RESTART => "the node leaves",
        _ => "closed by the server",
    }
}
