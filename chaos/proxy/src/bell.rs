//! Wakers that remember what a task was woken for, so that a connection looks only at the direction that has something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Wakes one task, and knows that it did. It holds the waker of the task as it was, so the future that uses it must stay in that task.
#[derive(Debug)]
pub(crate) struct Bell {
    ringer: Arc<Ringer>,
    waker: Waker,
}

#[derive(Debug)]
struct Ringer {
    rang: AtomicBool,
    task: Waker,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Bell {
    /// A bell for this task, which counts as rung: nothing has been looked at yet.
    pub(crate) fn of(task: &Waker) -> Bell {
        let ringer = Arc::new(Ringer { rang: AtomicBool::new(true), task: task.clone() });
        let waker = Waker::from(Arc::clone(&ringer));
        Bell { ringer, waker }
    }

    /// Whether it rang since this was last asked. Asked before looking, so that a ring while looking is not missed.
    pub(crate) fn rang(&self) -> bool {
        self.ringer.rang.load(Ordering::Relaxed) && self.ringer.rang.swap(false, Ordering::Acquire)
    }

    /// Makes it count as rung, without waking.
    pub(crate) fn mark(&self) {
        self.ringer.rang.store(true, Ordering::Relaxed);
    }

    /// What to poll with, so that it rings.
    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_tells_once_that_it_rang() {
        let bell = Bell::of(Waker::noop());
        assert_eq!([bell.rang(), bell.rang()], [true, false]);
        bell.context().waker().wake_by_ref();
        assert_eq!([bell.rang(), bell.rang()], [true, false]);
        bell.mark();
        assert!(bell.rang());
    }
}
