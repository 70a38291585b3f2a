//! The way from a port handle to its backend, and a oneshot back.
//!
//! A backend that waits for a disk has a thread, and calls reach it through a bounded channel. One that is a state machine in memory
//! serves a call in the caller's own thread, under a lock: a hand-over to another thread and back costs more than the call.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use chat_ports::PortError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Calls that may wait through one port handle; a further one is refused.
pub const WAITING_MAX: usize = 256;
/// Calls queued before a backend's thread over all handles; a further one is refused.
const QUEUED_MAX: usize = 4_096;
/// Calls a backend takes from its queue in one turn.
pub(crate) const TURN_CALLS: usize = 256;

/// How a call gets to its backend.
enum Way<C> {
    /// To its thread.
    Queue(mpsc::Sender<C>),
    /// It is served at once; false when the backend has stopped.
    Here(Arc<dyn Fn(C) -> bool + Send + Sync>),
}

impl<C> Clone for Way<C> {
    fn clone(&self) -> Self {
        match self {
            Self::Queue(calls) => Self::Queue(calls.clone()),
            Self::Here(serve) => Self::Here(Arc::clone(serve)),
        }
    }
}

/// One handle's way to a backend.
pub(crate) struct Desk<C> {
    way: Way<C>,
    waiting: Arc<AtomicUsize>,
}

impl<C> Clone for Desk<C> {
    fn clone(&self) -> Self {
        Self { way: self.way.clone(), waiting: Arc::clone(&self.waiting) }
    }
}

impl<C> Desk<C> {
    /// A desk and the queue its backend serves.
    pub(crate) fn open() -> (Self, mpsc::Receiver<C>) {
        let (calls, queue) = mpsc::channel(QUEUED_MAX);
        (Self { way: Way::Queue(calls), waiting: Arc::default() }, queue)
    }

    /// A desk of a backend that serves its calls in the callers' threads; `serve` answers false once it has stopped.
    pub(crate) fn here(serve: impl Fn(C) -> bool + Send + Sync + 'static) -> Self {
        Self { way: Way::Here(Arc::new(serve)), waiting: Arc::default() }
    }

    /// Another handle of the same backend, with a count of waiting calls of its own.
    pub(crate) fn handle(&self) -> Self {
        Self { way: self.way.clone(), waiting: Arc::default() }
    }

    /// Hands a call over and waits for its answer. A caller that goes away leaves the call to the backend.
    pub(crate) async fn ask<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<T>) -> C,
    ) -> Result<T, PortError> {
        let _place = Place::take(&self.waiting)?;
        let (reply, answer) = oneshot::channel();
        match &self.way {
            Way::Queue(calls) => calls.try_send(call(reply)).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => too_many(),
                mpsc::error::TrySendError::Closed(_) => stopped(),
            })?,
            Way::Here(serve) => {
                if !serve(call(reply)) {
                    return Err(stopped());
                }
            }
        }
        answer
            .await
            .map_err(|_| PortError::Unknown("the backend stopped before it answered".to_owned()))
    }
}

fn stopped() -> PortError {
    PortError::Refused("the backend has stopped".to_owned())
}

/// The refusal at [`WAITING_MAX`].
pub(crate) fn too_many() -> PortError {
    PortError::Refused("too many calls waiting".to_owned())
}

/// A place among the waiting calls; given back on drop.
pub(crate) struct Place<'a> {
    waiting: &'a AtomicUsize,
    /// How many wait, this one included.
    pub(crate) taken: usize,
}

impl<'a> Place<'a> {
    pub(crate) fn take(waiting: &'a AtomicUsize) -> Result<Self, PortError> {
        let taken = waiting.fetch_add(1, Relaxed) + 1;
        // The guard exists before the check, so that a refusal gives its place back too.
        let place = Self { waiting, taken };
        if taken > WAITING_MAX { Err(too_many()) } else { Ok(place) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Relaxed);
    }
}

/// Answers a call. A caller that went away meanwhile is no error: it decided not to know.
pub(crate) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::trace!("A caller went away before its answer.");
    }
}

/// Serves calls in batches until the stop.
pub(crate) async fn serve<C>(
    mut queue: mpsc::Receiver<C>,
    stop: CancellationToken,
    mut turn: impl FnMut(&mut Vec<C>),
) {
    let mut calls = Vec::with_capacity(TURN_CALLS);
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        let got = tokio::select! {
            biased;
            () = &mut stopped => return,
            got = queue.recv_many(&mut calls, TURN_CALLS) => got,
        };
        if got == 0 {
            return;
        }
        turn(&mut calls);
        calls.clear();
    }
}

/// A backend's thread. Ends, joined, on [`Self::stop`] or drop.
pub(crate) struct BackendThread {
    name: &'static str,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl BackendThread {
    /// Starts a named thread with a runtime of its own, which runs until `work` ends; `work` must end on its token.
    pub(crate) fn spawn<Work, Done>(name: &'static str, work: Work) -> io::Result<Self>
    where
        Work: FnOnce(CancellationToken) -> Done + Send + 'static,
        Done: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .thread_name(name)
            .max_blocking_threads(8)
            .build()?;
        let stop = CancellationToken::new();
        let token = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(work(token)))?;
        Ok(Self { name, stop, thread: Some(thread) })
    }

    /// Tells the thread to end and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(thread = self.name, "A backend's thread panicked.");
        }
    }
}

impl Drop for BackendThread {
    fn drop(&mut self) {
        self.stop();
    }
}
