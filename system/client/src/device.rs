//! A device: one task on the caller's current-thread runtime, and the handle by which the app steers it.
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chat_protocol::close::{self, Reaction};
use chat_protocol::codec::Codec;
use chat_protocol::frame::{Cursor, DeviceClass};
use chat_protocol::limits::Timers;
use chat_protocol::{ConvId, DeviceId};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::TaskTracker;

use crate::app::{App, Attempt, Clock, EndedBy, Failure, Local, Outgoing};
use crate::backoff::End;
use crate::dial::Dial;
use crate::policy::{Hints, Policies};
use crate::rest::Rest;
use crate::seal::Sealer;
use crate::session::Session;
use crate::socket::{self, Live};

/// What all devices of a thread share.
pub struct Shared {
    /// The app above.
    pub app: Rc<dyn App>,
    /// Time.
    pub clock: Rc<dyn Clock>,
    /// Connections.
    pub dial: Rc<dyn Dial>,
    /// Timers of the system.
    pub timers: Timers,
    /// Choices.
    pub policies: Policies,
    /// Subprotocol.
    pub codec: Codec,
    pub(crate) sealer: Sealer,
    pub(crate) plaintext: RefCell<Vec<u8>>,
    tasks: TaskTracker,
}

impl Shared {
    /// Bundles the parts. Tasks of devices are spawned on `tasks`, whose owner joins them.
    pub fn new(
        app: Rc<dyn App>,
        clock: Rc<dyn Clock>,
        dial: Rc<dyn Dial>,
        timers: Timers,
        policies: Policies,
        tasks: TaskTracker,
    ) -> Self {
        let sealer = Sealer::new(&policies.seal);
        let (codec, plaintext) = (Codec::MessagePack, RefCell::default());
        Self { app, clock, dial, timers, policies, codec, sealer, plaintext, tasks }
    }
}

/// Who a device is.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The caller's own number.
    pub who: Local,
    /// The device.
    pub device: DeviceId,
    /// Kind of device.
    pub class: DeviceClass,
    /// Access token; the device gets one by itself when it has none.
    pub token: Option<Rc<str>>,
    /// Seed of everything it draws.
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Online,
    Away,
    Stopped,
}

pub(crate) struct Inner {
    pub(crate) session: RefCell<Session>,
    want: Cell<Want>,
    waker: RefCell<Option<Waker>>,
    ended: Cell<bool>,
    terminal: Cell<Option<u16>>,
}

impl Inner {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) fn listen(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub(crate) fn online(&self) -> bool {
        self.want.get() == Want::Online
    }

    pub(crate) fn stopped(&self) -> bool {
        self.want.get() == Want::Stopped
    }
}

/// Steers a device; not to be used from within [`App`] calls. Dropping it leaves the device as it is.
#[derive(Clone)]
pub struct DeviceHandle {
    inner: Rc<Inner>,
    shared: Rc<Shared>,
}

/// A device of the chat system.
pub struct Device;

impl Device {
    /// Starts the task of a device, which stays away until [`DeviceHandle::join`]. Must be called within a `LocalSet`.
    pub fn spawn(shared: &Rc<Shared>, profile: Profile) -> DeviceHandle {
        let inner = Rc::new(Inner {
            session: RefCell::new(Session::new(Rc::clone(shared), profile)),
            want: Cell::new(Want::Away),
            waker: RefCell::default(),
            ended: Cell::new(false),
            terminal: Cell::new(None),
        });
        let task = run(Rc::clone(&inner), Rc::clone(shared));
        drop(shared.tasks.spawn_local(task));
        DeviceHandle { inner, shared: Rc::clone(shared) }
    }
}

impl DeviceHandle {
    /// Sends a message; never blocks. What becomes of it is told to the app.
    pub fn send(&self, message: Outgoing) {
        let now = self.shared.clock.now_ns();
        if self.inner.ended.get() {
            let who = self.inner.session.borrow().profile().who;
            self.shared.app.not_sent(who, message.ticket, crate::app::NotSent::Stopped, now);
            return;
        }
        self.inner.session.borrow_mut().push(message, now);
        self.inner.wake();
    }

    /// Goes online, at once.
    pub fn join(&self) {
        self.steer(Want::Online);
    }

    /// Planned absence: waits for answers to what was sent, at most the answer timer, acknowledges and closes with 1000.
    pub fn leave(&self) {
        self.steer(Want::Away);
    }

    /// Ends the device: acknowledges and closes with 1000, tells of every message left.
    pub fn stop(&self) {
        self.steer(Want::Stopped);
    }

    fn steer(&self, want: Want) {
        if self.inner.want.get() != Want::Stopped {
            self.inner.want.set(want);
            self.inner.wake();
        }
    }

    /// Whether a connection is up.
    pub fn connected(&self) -> bool {
        self.inner.session.borrow().connected()
    }

    /// Whether the task has ended.
    pub fn ended(&self) -> bool {
        self.inner.ended.get()
    }

    /// The close code after which the device gave up for good.
    pub fn terminal(&self) -> Option<u16> {
        self.inner.terminal.get()
    }

    /// Messages waiting or unanswered.
    pub fn outbox(&self) -> usize {
        self.inner.session.borrow().outbox.len()
    }

    /// Whether pages of history are still wanted.
    pub fn syncing(&self) -> bool {
        self.inner.session.borrow().syncing()
    }

    /// Where the device stands in its queue.
    pub fn cursor(&self) -> Option<Cursor> {
        self.inner.session.borrow().inbox().cursor()
    }

    /// Conversations seen, each with its highest number surfaced.
    pub fn conversations(&self) -> Vec<(ConvId, u64)> {
        let session = self.inner.session.borrow();
        let inbox = session.inbox();
        inbox.conversations().map(|(conv, _)| (conv, inbox.top(conv))).collect()
    }

    /// Hands in the access token that the device uses from its next attempt on.
    pub fn set_token(&self, token: Rc<str>) {
        self.inner.session.borrow_mut().set_token(Some(token));
    }
}

async fn run(inner: Rc<Inner>, shared: Rc<Shared>) {
    let mut entry = None;
    while !inner.stopped() {
        if !inner.online() {
            changed(&inner, &shared).await;
            continue;
        }
        let now = shared.clock.now_ns();
        let mut next = Some(inner.session.borrow_mut().join(now));
        while let Some(attempt) = next {
            let wait = Duration::from_nanos(attempt.due_ns.saturating_sub(shared.clock.now_ns()));
            let due = Instant::now() + wait;
            if !wait.is_zero() && meanwhile(&inner, &shared, sleep_until(due)).await.is_none() {
                break;
            }
            let Some(end) = once(&inner, &shared, &attempt, &mut entry).await else { break };
            let now = shared.clock.now_ns();
            next = inner.session.borrow_mut().again(now, &end);
            if next.is_none() && inner.online() {
                // Terminal: nothing but the app's stop brings the device on.
                while inner.online() {
                    changed(&inner, &shared).await;
                }
            }
        }
    }
    let now = shared.clock.now_ns();
    inner.session.borrow_mut().stop(now);
    inner.ended.set(true);
}

/// One attempt and, if it succeeds, its connection. `None` when the device left on purpose.
async fn once(
    inner: &Rc<Inner>,
    shared: &Rc<Shared>,
    attempt: &Attempt,
    entry: &mut Option<usize>,
) -> Option<End> {
    let who = inner.session.borrow().profile().who;
    let start = shared.clock.now_ns();
    shared.app.attempt(who, attempt, start);
    let entries = shared.dial.entries().max(1);
    let at = *entry.get_or_insert_with(|| choose(inner.session.borrow_mut().draw(), entries));
    let limit = Instant::now() + shared.timers.connect;
    let connecting = Box::pin(connect(inner, shared, attempt, at));
    let live = match meanwhile(inner, shared, tokio::time::timeout_at(limit, connecting)).await? {
        Ok(Ok(live)) => live,
        failed => {
            let (failure, retry_after_ns) = failed
                .map_or((Failure::Timeout, None), |r| r.err().unwrap_or((Failure::Timeout, None)));
            // Another entry after a failure, drawn so that devices of a dead one spread.
            if entries > 1 {
                *entry = Some(
                    (at + 1 + choose(inner.session.borrow_mut().draw(), entries - 1)) % entries,
                );
            }
            let now = shared.clock.now_ns();
            shared.app.attempt_failed(who, failure, retry_after_ns, now);
            let reaction = match failure {
                Failure::Http(503) => Reaction::Shed,
                Failure::Closed(Some(code)) => close::reaction(Some(code)),
                Failure::Protocol => Reaction::Terminal,
                _ => Reaction::Backoff,
            };
            if matches!(failure, Failure::Http(401) | Failure::Closed(Some(close::UNAUTHORISED))) {
                inner.session.borrow_mut().set_token(None);
            }
            if reaction == Reaction::Terminal && shared.policies.hints == Hints::Obey {
                give_up(inner, shared, who, failure_code(failure));
            }
            return Some(End { reaction, session_ns: None, retry_after_ns, drain_due_ns: None });
        }
    };
    let (code, by) = socket::live(inner, shared, live, at).await;
    let now = shared.clock.now_ns();
    let end = inner.session.borrow_mut().closed(code, by, now)?;
    if by == EndedBy::Device && end.drain_due_ns.is_none() {
        // It left on purpose. Should the app want it back by now, it joins anew.
        return None;
    }
    if entries > 1 && code != Some(close::NORMAL) {
        // The next attempt goes elsewhere: the node behind this entry may be the reason.
        *entry = Some((at + 1 + choose(inner.session.borrow_mut().draw(), entries - 1)) % entries);
    }
    if end.drain_due_ns.is_some() {
        *entry = (entries > 1)
            .then(|| (at + 1 + choose(inner.session.borrow_mut().draw(), entries - 1)) % entries);
    }
    if code == Some(close::UNAUTHORISED) {
        inner.session.borrow_mut().set_token(None);
    }
    if end.reaction == Reaction::Terminal && shared.policies.hints == Hints::Obey {
        give_up(inner, shared, who, code.unwrap_or(close::PROTOCOL));
    }
    inner.online().then_some(end)
}

fn give_up(inner: &Inner, shared: &Shared, who: Local, code: u16) {
    inner.terminal.set(Some(code));
    shared.app.terminal(who, code, shared.clock.now_ns());
}

fn failure_code(failure: Failure) -> u16 {
    match failure {
        Failure::Closed(Some(code)) => code,
        _ => close::PROTOCOL,
    }
}

fn choose(draw: u64, of: usize) -> usize {
    usize::try_from(draw % of as u64).expect("smaller than a number of entries")
}

async fn connect(
    inner: &Rc<Inner>,
    shared: &Rc<Shared>,
    attempt: &Attempt,
    entry: usize,
) -> Result<Live, (Failure, Option<u64>)> {
    let (device, class, token) = {
        let session = inner.session.borrow();
        let profile = session.profile();
        (profile.device, profile.class, profile.token.clone())
    };
    if token.is_none() {
        let stream = shared.dial.dial(device, entry).await.map_err(|_| (Failure::Socket, None))?;
        let mut rest = Rest::start(stream).await.map_err(|_| (Failure::Token, None))?;
        let token = rest.token(device, class).await.map_err(|_| (Failure::Token, None))?;
        inner.session.borrow_mut().set_token(Some(token.into()));
    }
    let hello = inner.session.borrow().hello().ok_or((Failure::Token, None))?;
    let stream = shared.dial.dial(device, entry).await.map_err(|_| (Failure::Socket, None))?;
    let opened = socket::open(stream, shared, &hello).await?;
    let now = shared.clock.now_ns();
    if inner.session.borrow_mut().welcome(&opened.welcome, attempt, opened.open_ns, now) {
        Ok(opened.live)
    } else {
        Err((Failure::Closed(None), None))
    }
}

/// Waits until the app wants something else, or a message's deadline was dealt with.
async fn changed(inner: &Rc<Inner>, shared: &Rc<Shared>) {
    let want = inner.want.get();
    let change =
        poll_fn(|_| if inner.want.get() == want { Poll::Pending } else { Poll::Ready(()) });
    let mut change = pin!(change);
    ticking(inner, shared, |cx| change.as_mut().poll(cx)).await;
}

/// Runs a future while the app wants the device online; deadlines of waiting messages pass meanwhile.
async fn meanwhile<F: Future>(
    inner: &Rc<Inner>,
    shared: &Rc<Shared>,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    ticking(inner, shared, |cx| {
        if inner.online() { future.as_mut().poll(cx).map(Some) } else { Poll::Ready(None) }
    })
    .await
}

async fn ticking<T>(
    inner: &Rc<Inner>,
    shared: &Rc<Shared>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> T {
    let mut alarm = Alarm::new();
    poll_fn(|cx| {
        inner.listen(cx.waker());
        loop {
            if let Poll::Ready(value) = poll(cx) {
                return Poll::Ready(value);
            }
            let now = shared.clock.now_ns();
            let mut session = inner.session.borrow_mut();
            if session.due_ns() <= now {
                session.turn(now, &mut Vec::new());
            }
            let due = session.due_ns();
            drop(session);
            if alarm.poll_at(cx, now, due).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// A timer that is armed again only when something earlier is due; waking early is harmless.
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    armed_ns: u64,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { sleep: None, armed_ns: u64::MAX }
    }

    /// Ready when the alarm rang, which disarms it.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, now: u64, due: u64) -> Poll<()> {
        if due < self.armed_ns {
            self.armed_ns = due;
            let at = Instant::now() + Duration::from_nanos(due.saturating_sub(now));
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(at),
                none => *none = Some(Box::pin(sleep_until(at))),
            }
        } else if self.armed_ns == u64::MAX {
            return Poll::Pending;
        }
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        if sleep.as_mut().poll(cx).is_ready() {
            self.armed_ns = u64::MAX;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
