//! One client connection: one task that owns the WebSocket, woken by frames, by its mailbox and by one rare timer.
//!
//! Frames are fed as they come up and flushed once before the task sleeps. No timer is set for a frame.
mod counted;
mod delivery;
mod ending;
mod heartbeat;
mod inbound;
mod items;
mod join;
mod outbound;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use chat_ports::streams::kinds::DeliverUpItem;
use chat_protocol::codec::Codec;
use chat_protocol::frame::{self, ServerFrame};
use chat_protocol::{DeviceId, close, node};
use futures_util::{Sink, Stream as _};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::deps::AckPoint;
use crate::hub::Hub;
use crate::mailbox::{Handle, Item};
pub(crate) use counted::Counted;
use delivery::{Delivery, merge};
use ending::{End, SOCKET_DEATH};
use heartbeat::{Beats, Due};
pub(crate) use inbound::node_send;
use join::Joined;

/// Frames fed before a flush, however many more wait.
const FRAMES_A_FLUSH: u32 = 64;
/// Marks kept while relay cannot be reached; beyond it the oldest is dropped, and the next ack of its conversation covers it.
const MARKS_KEPT: usize = 256;
/// Bytes of a connection are counted in steps of about this many, and when it ends.
const COUNTED_EVERY: u64 = 4_096;
/// An ack, an unsent pull or a registration that could not be handed over is offered again after this long.
const OFFER_AGAIN: Duration = Duration::from_millis(200);

/// The server's end of a connection.
pub(crate) type Socket = WebSocketStream<Counted>;

enum Wake {
    Mail,
    Frame(Result<Message, tungstenite::Error>),
    Gone,
    Timer,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(socket: Socket, codec: Codec, hub: Arc<Hub>) {
    let handle = hub.open();
    let mut connection = Connection::new(socket, codec, hub, handle);
    let end = loop {
        let wake = poll_fn(|cx| connection.poll_wake(cx)).await;
        connection.on_wake(wake);
        if let Some(end) = connection.end.take() {
            break end;
        }
    };
    connection.leave(&end);
    connection.say_goodbye(&end).await;
}

struct Connection {
    hub: Arc<Hub>,
    handle: Arc<Handle>,
    socket: Socket,
    codec: Codec,
    timer: Pin<Box<Sleep>>,
    armed: Instant,
    beats: Beats,
    joined: Joined,
    last_frame: Instant,
    /// Bytes fed to the socket, in the count of `Counted::written`.
    fed: u64,
    counted_in: u64,
    counted_out: u64,
    unflushed: u32,
    flush_pending: bool,
    /// The WebSocket holds no whole frame that nobody took.
    read_dry: bool,
    /// Receipts wait in the buffer until this instant for something that leaves anyway.
    held_until: Option<Instant>,
    mail: Vec<Item>,
    /// Acks are ignored until the answer to a heartbeat of this stamp, which was sent right after a `reset`.
    barrier: Option<u64>,
    /// An ack that could not be handed to relay, or is to be.
    owed_ack: Option<Vec<node::Mark>>,
    /// The device's cursor is not honoured here.
    skips_backlog: bool,
    close_at: Option<Instant>,
    end: Option<End>,
}

impl Connection {
    fn new(socket: Socket, codec: Codec, hub: Arc<Hub>, handle: Arc<Handle>) -> Self {
        let now = Instant::now();
        let armed = now + hub.deps.timers.hello;
        let written = socket.get_ref().written;
        let (counted_in, counted_out) = (socket.get_ref().read, written);
        let beats = Beats::new(&hub.deps, handle.conn, now);
        Self {
            joined: Joined::AwaitsHello { until: armed },
            timer: Box::pin(tokio::time::sleep_until(armed)),
            hub,
            handle,
            socket,
            codec,
            armed,
            beats,
            last_frame: now,
            fed: written,
            counted_in,
            counted_out,
            unflushed: 0,
            flush_pending: false,
            read_dry: false,
            held_until: None,
            mail: Vec::new(),
            barrier: None,
            owed_ack: None,
            skips_backlog: false,
            close_at: None,
            end: None,
        }
    }

    /// The next thing to do. Everything that is ready comes before the flush, so that one write carries it all.
    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if self.handle.poll_full(cx).is_ready() {
            return Poll::Ready(Wake::Mail);
        }
        if self.unflushed < FRAMES_A_FLUSH
            && let Poll::Ready(frame) = self.poll_frame(cx)
        {
            return Poll::Ready(frame.map_or(Wake::Gone, Wake::Frame));
        }
        if self.unflushed > 0 || self.flush_pending {
            self.unflushed = 0;
            self.held_until = None;
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flush_pending = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Wake::Frame(Err(error))),
                Poll::Pending => self.flush_pending = true,
            }
            // The socket was not asked if a full batch came first.
            if let Poll::Ready(frame) = self.poll_frame(cx) {
                return Poll::Ready(frame.map_or(Wake::Gone, Wake::Frame));
            }
        }
        self.timer.as_mut().poll(cx).map(|()| Wake::Timer)
    }

    /// The next frame. A WebSocket that was read dry is asked again when its socket has something: asking clears its buffer.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<tungstenite::Result<Message>>> {
        if self.read_dry && self.socket.get_ref().poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.socket).poll_next(cx);
        self.read_dry = frame.is_pending();
        frame
    }

    fn on_wake(&mut self, wake: Wake) {
        let now = Instant::now();
        match wake {
            Wake::Mail => self.on_mail(now),
            Wake::Frame(Ok(message)) => {
                self.last_frame = now;
                self.on_message(message, now);
            }
            Wake::Frame(Err(error)) => self.on_error(&error),
            Wake::Gone => self.finish(SOCKET_DEATH, "the socket ended", false),
            Wake::Timer => self.on_timer(now),
        }
        if self.end.is_none() {
            self.settle(now);
        }
    }

    // --- To the socket ---

    /// Feeds a frame; it leaves with the next flush.
    fn write(&mut self, frame: &ServerFrame) {
        let Ok(bytes) = self.codec.encode(frame) else {
            self.finish(close::INTERNAL, "a frame cannot be encoded", false);
            return;
        };
        let header = match bytes.len() {
            0..=125 => 2,
            126..=65_535 => 4,
            _ => 10,
        };
        let fed = bytes.len() as u64 + header;
        let message = match self.codec {
            Codec::MessagePack => Message::Binary(bytes),
            Codec::Json => match bytes.try_into() {
                Ok(text) => Message::Text(text),
                Err(_) => return self.finish(close::INTERNAL, "a frame cannot be encoded", false),
            },
        };
        self.unflushed += 1;
        match Pin::new(&mut self.socket).start_send(message) {
            Ok(()) => self.fed += fed,
            // A full buffer has not taken the frame.
            Err(error) => self.on_error(&error),
        }
    }

    /// Feeds a frame that nobody waits for: it leaves with the next frame that somebody does, or after half of the time that
    /// receipts are coalesced for. A write of its own would cost more than the rest of the receipt's way.
    fn write_held(&mut self, frame: &ServerFrame, now: Instant) {
        let waiting = self.unflushed;
        self.write(frame);
        if waiting == 0 && self.end.is_none() && !self.flush_pending {
            self.unflushed = 0;
            let until = now + self.hub.deps.timers.receipt_coalesce / 2;
            let until = *self.held_until.get_or_insert(until);
            self.arm(until);
        }
    }

    fn ping(&mut self, t_ms: u64) {
        self.hub.metrics.ping_out.add(1);
        self.write(&ServerFrame::Ping(frame::Beat { t_ms }));
    }

    /// Sends the device away because load is shed or a store is unavailable.
    fn shed(&mut self, text: &'static str) {
        self.hub.metrics.error_out.add(1);
        let retry_after_ms = Some(crate::hub::millis(self.hub.deps.timers.window_min));
        self.write(&ServerFrame::Error(frame::Error {
            code: close::SHED,
            text: text.to_owned(),
            retry_after_ms,
        }));
        self.finish(close::SHED, text, false);
    }

    /// Bytes that were fed and that the socket has not taken.
    fn unwritten(&self) -> u64 {
        self.fed.saturating_sub(self.socket.get_ref().written)
    }

    // --- Between events ---

    /// What follows from the events just handled: pulls, acks to relay, limits.
    fn settle(&mut self, now: Instant) {
        let unwritten = self.unwritten();
        self.hub.metrics.outbound_bytes_max.seen(unwritten);
        let socket = self.socket.get_ref();
        if socket.read + socket.written - self.counted_in - self.counted_out >= COUNTED_EVERY {
            self.count_bytes();
        }
        if unwritten > self.hub.deps.limits.unwritten_bytes as u64 {
            self.finish(close::SLOW, "too much is unread", false);
            return;
        }
        let room = unwritten <= self.hub.deps.limits.behind_bytes as u64 / 2;
        let Joined::Live(live) = &mut self.joined else { return };
        if self.hub.deps.policies.ack == AckPoint::SocketWrite
            && live.delivery.sent() > live.relay_acked
        {
            let marks = live.delivery.marks_up_to(live.delivery.sent());
            let owed = self.owed_ack.get_or_insert_default();
            for mark in marks {
                merge(owed, mark);
            }
        }
        if let Some((wanted, repeated)) = live.delivery.take_wanted(room, now) {
            let (epoch, after) = wanted.cursor.unwrap_or_default();
            let pull = node::Pull {
                device: live.device.0,
                conn: self.handle.conn,
                resume: wanted.resume,
                has_cursor: wanted.cursor.is_some(),
                epoch,
                after,
                limit: wanted.limit,
            };
            self.hub.metrics.pulls.add(1);
            self.hub.metrics.pulls_repeated.add(u64::from(repeated));
            if self.hub.offer_deliver(live.device.user(), DeliverUpItem::Pull(pull)).is_err() {
                live.delivery.not_asked(now);
            }
        }
        let deadline = live.delivery.deadline();
        self.offer_ack(now);
        if let Some(deadline) = deadline {
            self.arm(deadline);
        }
    }

    /// Hands what is acknowledged to relay; what it cannot take is kept and offered again.
    fn offer_ack(&mut self, now: Instant) {
        let Some(marks) = self.owed_ack.take() else { return };
        let Joined::Live(live) = &mut self.joined else { return };
        let up_to = match self.hub.deps.policies.ack {
            AckPoint::DeviceAck => live.delivery.acked(),
            AckPoint::SocketWrite => live.delivery.sent(),
        };
        let ack = node::Ack { device: live.device.0, epoch: live.delivery.epoch(), up_to, marks };
        match self.hub.offer_deliver(live.device.user(), DeliverUpItem::Ack(ack)) {
            Ok(()) => live.relay_acked = up_to,
            Err(DeliverUpItem::Ack(mut refused)) => {
                self.hub.metrics.acks_delayed.add(1);
                let excess = refused.marks.len().saturating_sub(MARKS_KEPT);
                refused.marks.drain(..excess);
                self.owed_ack = Some(refused.marks);
                self.arm(now + OFFER_AGAIN);
            }
            Err(DeliverUpItem::Pull(_)) => {}
        }
    }

    /// Makes sure that the timer fires at `at` or before.
    fn arm(&mut self, at: Instant) {
        if at < self.armed {
            self.armed = at;
            self.timer.as_mut().reset(at);
        }
    }

    fn on_timer(&mut self, now: Instant) {
        let timers = &self.hub.deps.timers;
        // Looked at this often at least, so that nothing else has to set the timer for what lies further ahead.
        let mut next = now + (timers.ack_progress / 4).max(OFFER_AGAIN);
        match &self.joined {
            Joined::AwaitsHello { until } => {
                if now >= *until {
                    return self.finish(close::UNAUTHORISED, "no hello", false);
                }
                next = next.min(*until);
            }
            Joined::Registering { until, .. } => {
                if now >= *until {
                    return self.shed("the registry does not answer");
                }
                next = next.min(*until);
            }
            Joined::Live(live) => {
                if let Some(until) = live.welcome_until {
                    if now >= until {
                        return self.shed("relay does not answer");
                    }
                    next = next.min(until);
                }
                if live
                    .delivery
                    .stuck_since()
                    .is_some_and(|since| now >= since + timers.ack_progress)
                {
                    return self.finish(close::SLOW, "no ack progress", false);
                }
                if let Some(again) = live.register_at {
                    if now >= again {
                        self.register_again();
                    } else {
                        next = next.min(again);
                    }
                }
            }
        }
        if let Some(at) = self.held_until {
            if now >= at {
                self.flush_pending = true;
            } else {
                next = next.min(at);
            }
        }
        if let Some(at) = self.close_at {
            if now >= at {
                return self.finish(close::RESTART, "the node leaves", false);
            }
            next = next.min(at);
        }
        match self.beats.due(now) {
            Due::Nothing => {}
            Due::Ping => {
                let t_ms = self.hub.deps.clock.wall_ms();
                self.ping(t_ms);
            }
            Due::Close => return self.finish(close::HEARTBEAT, "no pong", false),
        }
        if let Some(at) = self.beats.next() {
            next = next.min(at);
        }
        self.count_bytes();
        self.armed = next;
        self.timer.as_mut().reset(next);
    }

    fn count_bytes(&mut self) {
        let socket = self.socket.get_ref();
        self.hub.metrics.bytes_in.add(socket.read - self.counted_in);
        self.hub.metrics.bytes_out.add(socket.written - self.counted_out);
        (self.counted_in, self.counted_out) = (socket.read, socket.written);
    }
}

/// Whose connection it is and how far its join went, for the other parts of this module.
struct Live {
    device: DeviceId,
    conn_epoch: u64,
    delivery: Delivery,
    /// Position that relay was told of.
    relay_acked: u64,
    /// The device must be welcomed before this.
    welcome_until: Option<Instant>,
    /// The route was lost and could not be registered again: try at this time.
    register_at: Option<Instant>,
}
