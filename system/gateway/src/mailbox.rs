//! What the node's streams have for one connection, taken by its task in one go.
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use chat_protocol::DeviceId;
use chat_protocol::limits::UNACKED_MAX;
use chat_protocol::node::{Page, Push, Reject, Sent};
use futures_util::task::AtomicWaker;

use crate::hub::lock;

/// Answers that may wait for one connection; a further one is dropped, and the device asks again after its time.
const ANSWERS_MAX: usize = 1_024;

/// One thing for a connection.
#[derive(Debug)]
pub(crate) enum Item {
    /// A stored item.
    Push(Push),
    /// Answer to a pull.
    Page(Page),
    /// Answer to a send.
    Sent(Sent),
    /// Answer to a send.
    Reject(Reject),
    /// Answer to a registration: the connection epoch, `None` when the registry did not answer.
    Registered(Option<u64>),
    /// The node is about to leave. (milliseconds until the device should reconnect, milliseconds until the close)
    Drain(u64, u64),
}

/// What was taken out of a mailbox besides its items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Pushes may have been lost on the way.
    pub(crate) verify: bool,
    /// Pushes that did not fit and were dropped here.
    pub(crate) overflowed: u64,
    /// The route was lost: register again.
    pub(crate) register: bool,
    /// Close with this code.
    pub(crate) close: Option<u16>,
}

#[derive(Default)]
struct Mail {
    items: Vec<Item>,
    pushes: u32,
    push_bytes: usize,
    answers: usize,
    marks: Marks,
    full: bool,
}

/// A connection as the rest of the node sees it.
pub(crate) struct Handle {
    /// Id of the connection, unique in this node incarnation.
    pub(crate) conn: u64,
    device: AtomicU64,
    mail: Mutex<Mail>,
    waker: AtomicWaker,
}

/// Device of a connection that has not said hello.
const NOBODY: u64 = u64::MAX;

impl Handle {
    pub(crate) fn new(conn: u64) -> Self {
        Self {
            conn,
            device: AtomicU64::new(NOBODY),
            mail: Mutex::default(),
            waker: AtomicWaker::new(),
        }
    }

    /// Whose connection it is; `None` before `hello`.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        let device = self.device.load(Ordering::Relaxed);
        (device != NOBODY).then_some(DeviceId(device))
    }

    /// Sets whose connection it is.
    pub(crate) fn set_device(&self, device: DeviceId) {
        self.device.store(device.0, Ordering::Relaxed);
    }

    /// Adds an item. A push beyond the credit of a device, or beyond `behind_bytes`, is discarded and will be pulled; an
    /// answer beyond the limit is discarded, and the device repeats its question.
    pub(crate) fn put(&self, item: Item, behind_bytes: usize) {
        {
            let mut mail = lock(&self.mail);
            match &item {
                Item::Push(push) => {
                    if mail.pushes < UNACKED_MAX
                        && mail.push_bytes + push.payload.len() <= behind_bytes
                    {
                        mail.pushes += 1;
                        mail.push_bytes += push.payload.len();
                        mail.items.push(item);
                    } else {
                        mail.marks.overflowed += 1;
                    }
                }
                _ if mail.answers >= ANSWERS_MAX => return,
                _ => {
                    mail.answers += 1;
                    mail.items.push(item);
                }
            }
            if std::mem::replace(&mut mail.full, true) {
                return;
            }
        }
        self.waker.wake();
    }

    /// Changes the marks.
    pub(crate) fn mark(&self, change: impl FnOnce(&mut Marks)) {
        {
            let mut mail = lock(&self.mail);
            change(&mut mail.marks);
            mail.full = true;
        }
        self.waker.wake();
    }

    /// Asks the connection to close.
    pub(crate) fn close(&self, code: u16) {
        self.mark(|marks| marks.close = marks.close.or(Some(code)));
    }

    /// Ready when there is something to take; registers the task otherwise.
    pub(crate) fn poll_full(&self, cx: &Context<'_>) -> Poll<()> {
        if lock(&self.mail).full {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if lock(&self.mail).full { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes everything: the items into `into`, which must be empty, in exchange for its allocation.
    pub(crate) fn take(&self, into: &mut Vec<Item>) -> Marks {
        let mut mail = lock(&self.mail);
        std::mem::swap(&mut mail.items, into);
        mail.pushes = 0;
        mail.push_bytes = 0;
        mail.answers = 0;
        mail.full = false;
        std::mem::take(&mut mail.marks)
    }
}
