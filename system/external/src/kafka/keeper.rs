//! The thread that closes clients. Closing one blocks: a consumer says farewell to its group, a producer ends its threads.
use std::io;
use std::ops::Deref;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// How long closing one client takes at most, and with it the longest call of the library: a request that nobody answers is
/// repeated twice after 5 s each, a commit may wait a session for its broker before that, and then a farewell is not answered
/// for 5 s. With brokers that answer it is a tenth of a second.
pub const CLOSING: Duration = Duration::from_secs(25);
/// Clients and queues that may wait for being closed; a further one is closed where it was dropped.
const WAITING_MAX: usize = 1_024;
/// How often a log is tended.
const TEND: Duration = Duration::from_millis(100);

/// What happens in a log without a call.
pub(super) trait Tend: Send + Sync {
    /// Does what is due. May block for a moment, not for an answer of a broker.
    fn tend(&self);
}

enum Job {
    Close(Box<dyn Send>),
    /// Not before then.
    CloseAt(Instant, Box<dyn Send>),
    Tend(Weak<dyn Tend>),
}

/// Name of the thread that closes what was dropped; while it lives, something is not closed yet. Within the 15 bytes that a thread's
/// name has.
pub const CLOSER: &str = "kafka-keep";

/// The way to the thread [`CLOSER`], which lives until every keeper and everything kept is gone and closed.
#[derive(Clone)]
pub(super) struct Keeper {
    jobs: SyncSender<Job>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, queue) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name(CLOSER.to_owned()).spawn(move || keep(&queue))?;
        Ok(Self { jobs })
    }

    /// Tends a log every 100 ms from now on, until it is gone.
    pub(super) fn tend(&self, log: Weak<dyn Tend>) {
        if self.jobs.try_send(Job::Tend(log)).is_err() {
            tracing::warn!("A Kafka log is not tended: its keeper is overwhelmed.");
        }
    }

    /// Wraps something whose end blocks.
    pub(super) fn kept<T: Send + 'static>(&self, value: T) -> Arc<Kept<T>> {
        Arc::new(Kept { value: Some(value), keeper: self.clone() })
    }

    /// Lets go of something at that time.
    pub(super) fn close_at(&self, at: Instant, thing: Box<dyn Send>) {
        self.send(Job::CloseAt(at, thing));
    }

    fn send(&self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                tracing::warn!("A Kafka client is closed where it was dropped.");
                drop(job);
            }
        }
    }
}

fn keep(queue: &Receiver<Job>) {
    let mut log: Option<Weak<dyn Tend>> = None;
    let mut later: Vec<(Instant, Box<dyn Send>)> = Vec::new();
    let mut due = Instant::now() + TEND;
    loop {
        match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Job::Close(thing)) => drop(thing),
            Ok(Job::CloseAt(at, thing)) => later.push((at, thing)),
            Ok(Job::Tend(other)) => log = Some(other),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if due <= Instant::now() {
            if let Some(log) = log.as_ref().and_then(Weak::upgrade) {
                log.tend();
            }
            due = Instant::now() + TEND;
            later.retain(|(at, _)| due - TEND < *at);
        }
    }
}

/// Something that is dropped by the keeper's thread, whoever lets go of it last.
pub(super) struct Kept<T: Send + 'static> {
    value: Option<T>,
    keeper: Keeper,
}

impl<T: Send + 'static> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("the value is there until the drop")
    }
}

impl<T: Send + 'static> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.keeper.send(Job::Close(Box::new(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    struct Told(Sender<ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(std::thread::current().id()).unwrap();
        }
    }

    #[test]
    fn what_is_kept_ends_on_the_keepers_thread() {
        let (told, heard) = channel();
        let keeper = Keeper::start().unwrap();
        let kept = keeper.kept(Told(told));
        drop(keeper);
        drop(kept);
        assert_ne!(heard.recv().unwrap(), std::thread::current().id());
    }
}
