//! The WebSocket of a device: opened, driven, closed.
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use chat_protocol::close;
use chat_protocol::codec::Codec;
use chat_protocol::frame::{ClientFrame, ServerFrame, Welcome};
use chat_protocol::limits::{FRAME_MAX, PAGE_WAIT};
use chat_protocol::rest::MessagePage;
use futures_util::future::LocalBoxFuture;
use futures_util::{Sink as _, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{HeaderValue, RETRY_AFTER};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::app::{EndedBy, Failure, Oddity};
use crate::device::{Alarm, Inner, Shared};
use crate::rest::Rest;
use crate::session::{Fetch, Step};

/// Frames read in one turn before others get theirs.
const FRAMES_A_TURN: usize = 64;
/// A close is answered within this long, or the socket is dropped.
const CLOSE_WAIT_NS: u64 = 1_000_000_000;
/// A page without an answer is given up after this: who gave up before the gateway does would ask for it a second time.
const PAGE_LIMIT: Duration = PAGE_WAIT.saturating_add(Duration::from_secs(1));

pub(crate) type Live = WebSocketStream<TcpStream>;

/// A connection that was taken in.
pub(crate) struct Opened {
    pub(crate) live: Live,
    pub(crate) welcome: Welcome,
    pub(crate) open_ns: u64,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(FRAME_MAX))
        .max_frame_size(Some(FRAME_MAX))
}

/// Upgrades a stream, says `hello` and waits for `welcome`.
pub(crate) async fn open(
    stream: TcpStream,
    shared: &Shared,
    hello: &ClientFrame,
) -> Result<Opened, (Failure, Option<u64>)> {
    let socket = |_| (Failure::Socket, None);
    stream.set_nodelay(true).map_err(socket)?;
    let mut request =
        "ws://chat/v1/ws".into_client_request().map_err(|_| (Failure::Protocol, None))?;
    let subprotocol = HeaderValue::from_static(shared.codec.subprotocol());
    request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
    let (mut live, _) = client_async_with_config(request, stream, Some(config())).await.map_err(
        |error| match error {
            Error::Http(response) => {
                let seconds = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
                (
                    Failure::Http(response.status().as_u16()),
                    seconds.map(|s| s.saturating_mul(1_000_000_000)),
                )
            }
            Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) => {
                (Failure::Socket, None)
            }
            _ => (Failure::Protocol, None),
        },
    )?;
    let open_ns = shared.clock.now_ns();
    let hello = message(shared.codec, hello).ok_or((Failure::Protocol, None))?;
    live.send(hello).await.map_err(|_| (Failure::Socket, None))?;
    let mut retry_after_ns = None;
    loop {
        let payload = match live.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Close(frame))) => {
                return Err((Failure::Closed(frame.map(|f| f.code.into())), retry_after_ns));
            }
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => return Err((Failure::Closed(None), retry_after_ns)),
        };
        match shared.codec.decode::<ServerFrame>(&payload) {
            Ok(ServerFrame::Welcome(welcome)) => return Ok(Opened { live, welcome, open_ns }),
            Ok(ServerFrame::Error(error)) => {
                retry_after_ns = error.retry_after_ms.map(|ms| ms.saturating_mul(1_000_000));
            }
            Ok(ServerFrame::Ping(beat)) => {
                let pong = message(shared.codec, &ClientFrame::Pong(beat))
                    .ok_or((Failure::Protocol, None))?;
                live.send(pong).await.map_err(|_| (Failure::Socket, None))?;
            }
            Ok(_) | Err(_) => return Err((Failure::Protocol, None)),
        }
    }
}

fn message(codec: Codec, frame: &ClientFrame) -> Option<Message> {
    let bytes = codec.encode(frame).ok()?;
    match codec {
        Codec::MessagePack => Some(Message::Binary(bytes)),
        Codec::Json => Some(Message::Text(bytes.try_into().ok()?)),
    }
}

struct Closing {
    code: u16,
    by: EndedBy,
    until_ns: u64,
    said: bool,
}

type Fetching = LocalBoxFuture<'static, (Fetch, Option<Rest>, Option<MessagePage>)>;

struct Drive<'a> {
    inner: &'a Rc<Inner>,
    shared: &'a Rc<Shared>,
    socket: Live,
    entry: usize,
    unflushed: bool,
    /// The WebSocket holds no whole frame that nobody took.
    read_dry: bool,
    closing: Option<Closing>,
    leave_by_ns: Option<u64>,
    rest: Option<Rest>,
    fetching: Option<Fetching>,
}

thread_local! {
    /// Frames of one turn; every device of the thread uses it in its turn.
    static OUT: RefCell<Vec<ClientFrame>> = const { RefCell::new(Vec::new()) };
}

/// Drives a connection to its end: (close code of the server, who ended it).
pub(crate) async fn live(
    inner: &Rc<Inner>,
    shared: &Rc<Shared>,
    socket: Live,
    entry: usize,
) -> (Option<u16>, EndedBy) {
    let mut drive = Drive {
        inner,
        shared,
        socket,
        entry,
        unflushed: false,
        read_dry: false,
        closing: None,
        leave_by_ns: None,
        rest: None,
        fetching: None,
    };
    let mut alarm = Alarm::new();
    poll_fn(|cx| {
        inner.listen(cx.waker());
        loop {
            let (ended, due, now) = OUT.with_borrow_mut(|out| {
                out.clear();
                drive.turn(cx, out)
            });
            if let Some(end) = ended {
                return Poll::Ready(end);
            }
            if alarm.poll_at(cx, now, due).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

type End = (Option<u16>, EndedBy);

impl Drive<'_> {
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<ClientFrame>,
    ) -> (Option<End>, u64, u64) {
        let mut ended = self.read(cx, out);
        let now = self.shared.clock.now_ns();
        if self.closing.is_none() {
            let step = self.inner.session.borrow_mut().turn(now, out);
            self.step(step, now);
            self.leave(now, out);
        }
        if ended.is_none() {
            ended = self.write(cx, out);
        }
        self.fetch(cx, now);
        if let Some(closing) = &self.closing
            && (now >= closing.until_ns || ended.is_some())
        {
            // By patience nobody answers any more, and a silent peer is left at once.
            let code = (closing.by == EndedBy::Device).then_some(closing.code);
            ended = Some((code, closing.by));
        }
        let due = self.inner.session.borrow().due_ns();
        let due = if self.closing.is_some() { u64::MAX } else { due };
        let due = due.min(self.closing.as_ref().map_or(u64::MAX, |c| c.until_ns));
        (
            ended,
            due.min(self.leave_by_ns.filter(|_| self.closing.is_none()).unwrap_or(u64::MAX)),
            now,
        )
    }

    fn read(&mut self, cx: &mut Context<'_>, out: &mut Vec<ClientFrame>) -> Option<End> {
        for _ in 0..FRAMES_A_TURN {
            // Asking the WebSocket clears its buffer, so one that was read dry is asked when its socket has something.
            if self.read_dry && self.socket.get_ref().poll_read_ready(cx).is_pending() {
                return None;
            }
            let next = self.socket.poll_next_unpin(cx);
            self.read_dry = next.is_pending();
            let Poll::Ready(next) = next else { return None };
            let bytes = match next {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Text(text))) => text.into(),
                Some(Ok(Message::Close(frame))) => {
                    self.unflushed = true;
                    let code = frame.map(|f| u16::from(f.code));
                    // The answer to the close goes out with the next flush, which is the last.
                    drop(self.socket.poll_flush_unpin(cx));
                    return Some((code, EndedBy::Server));
                }
                Some(Ok(_)) => {
                    self.unflushed = true;
                    continue;
                }
                Some(Err(Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_))) => {
                    return Some((None, EndedBy::Socket));
                }
                Some(Err(_)) | None => return Some((None, EndedBy::Socket)),
            };
            let now = self.shared.clock.now_ns();
            let mut session = self.inner.session.borrow_mut();
            let step = if let Ok(frame) = self.shared.codec.decode::<ServerFrame>(&bytes) {
                session.frame(frame, now, out)
            } else {
                self.shared.app.odd(session.profile().who, Oddity::Undecodable, now);
                Step::Close(close::PROTOCOL, EndedBy::Protocol)
            };
            drop(session);
            self.step(step, now);
        }
        cx.waker().wake_by_ref();
        None
    }

    fn step(&mut self, step: Step, now: u64) {
        if let Step::Close(code, by) = step
            && self.closing.is_none()
        {
            let wait = if by == EndedBy::Patience { 0 } else { CLOSE_WAIT_NS };
            self.closing = Some(Closing { code, by, until_ns: now + wait, said: false });
            self.unflushed = true;
        }
    }

    /// The app wants to leave: what was sent is answered first, within the answer timer.
    fn leave(&mut self, now: u64, out: &mut Vec<ClientFrame>) {
        if self.inner.online() {
            self.leave_by_ns = None;
            return;
        }
        let wait = crate::backoff::nanos(self.shared.timers.send_ack);
        let by = *self.leave_by_ns.get_or_insert(now + wait);
        let mut session = self.inner.session.borrow_mut();
        if self.inner.stopped() || session.outbox.is_empty() || now >= by {
            session.last_ack(now, out);
            drop(session);
            self.step(Step::Close(close::NORMAL, EndedBy::Device), now);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, out: &mut Vec<ClientFrame>) -> Option<End> {
        let mut socket = Pin::new(&mut self.socket);
        for frame in out.drain(..) {
            if self.closing.as_ref().is_some_and(|closing| closing.said) {
                break;
            }
            let Some(message) = message(self.shared.codec, &frame) else { continue };
            match socket.as_mut().start_send(message) {
                Ok(()) => self.unflushed = true,
                // A full buffer is a peer that does not read: the watchdog or the server ends it.
                Err(Error::WriteBufferFull(_)) => {}
                Err(_) => return Some((None, EndedBy::Socket)),
            }
        }
        if let Some(closing) = self.closing.as_mut().filter(|closing| !closing.said) {
            closing.said = true;
            let frame = CloseFrame { code: CloseCode::from(closing.code), reason: "".into() };
            if socket.as_mut().start_send(Message::Close(Some(frame))).is_err() {
                return Some((None, EndedBy::Socket));
            }
        }
        if self.unflushed {
            match socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Some((None, EndedBy::Socket)),
                Poll::Pending => {}
            }
        }
        None
    }

    /// One page of history at a time.
    fn fetch(&mut self, cx: &mut Context<'_>, now: u64) {
        loop {
            if self.fetching.is_none() {
                let mut session = self.inner.session.borrow_mut();
                let Some(fetch) = session.next_fetch(now) else { return };
                let (device, token) = (session.profile().device, session.profile().token.clone());
                let (shared, entry, rest) = (Rc::clone(self.shared), self.entry, self.rest.take());
                self.fetching = Some(Box::pin(async move {
                    let reading = page(
                        &shared,
                        device,
                        entry,
                        rest,
                        token.as_deref().unwrap_or_default(),
                        &fetch,
                    );
                    let (rest, page) =
                        tokio::time::timeout(PAGE_LIMIT, reading).await.ok().flatten().unzip();
                    (fetch, rest, page)
                }));
            }
            let Some(fetching) = &mut self.fetching else { return };
            let Poll::Ready((fetch, rest, page)) = fetching.as_mut().poll(cx) else { return };
            self.fetching = None;
            self.rest = rest;
            self.inner.session.borrow_mut().fetched(fetch, page, now);
        }
    }
}

async fn page(
    shared: &Shared,
    device: chat_protocol::DeviceId,
    entry: usize,
    rest: Option<Rest>,
    token: &str,
    fetch: &Fetch,
) -> Option<(Rest, MessagePage)> {
    let mut rest = match rest {
        Some(rest) => rest,
        None => Rest::start(shared.dial.dial(device, entry).await.ok()?).await.ok()?,
    };
    let page =
        rest.page(token, fetch.conv, fetch.after, Fetch::LIMIT, fetch.min_cseq).await.ok()?;
    Some((rest, page))
}
