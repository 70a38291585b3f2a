//! The janitor: a thread that applies the undos of guards which went without healing.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::runtime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, sleep_until};

use crate::bed::Reach;
use crate::journal::LineState;
use crate::undo::Undo;

/// Guards that may be open at a time; a further fault is refused.
pub const GUARDS_MAX: usize = 64;

/// Longest time the janitor spends on one undo.
pub const UNDO_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a janitor that is dropped without being finished may still work.
const DROP_WAIT_MAX: Duration = Duration::from_secs(2);

const THREAD_NAME: &str = "storm-janitor";

/// An undo whose owner is gone.
#[derive(Debug)]
struct Orphan {
    id: u64,
    undo: Undo,
}

/// The right to hand over one undo, taken before the act so that the hand-over cannot fail.
#[derive(Debug)]
pub(crate) struct Ticket(mpsc::OwnedPermit<Orphan>);

impl Ticket {
    /// Hands the undo over; does not block.
    pub(crate) fn hand_over(self, id: u64, undo: Undo) {
        self.0.send(Orphan { id, undo });
    }
}

/// What the janitor did in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sweepings {
    /// Entries whose undo was applied.
    pub(crate) undone: Vec<u64>,
    /// Entries whose undo failed, and why.
    pub(crate) failed: Vec<(u64, String)>,
}

/// Owns the thread.
#[derive(Debug)]
pub(crate) struct Janitor {
    tickets: mpsc::Sender<Orphan>,
    /// Until when it may work; set once the run ends.
    until: watch::Sender<Option<Instant>>,
    thread: Option<JoinHandle<Sweepings>>,
}

impl Janitor {
    pub(crate) fn start(reach: Arc<Reach>) -> io::Result<Janitor> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (tickets, inbox) = mpsc::channel(GUARDS_MAX);
        let (until, limit) = watch::channel(None);
        let thread = Builder::new()
            .name(String::from(THREAD_NAME))
            .spawn(move || runtime.block_on(sweep(reach, inbox, limit)))?;
        Ok(Janitor { tickets, until, thread: Some(thread) })
    }

    /// A ticket, or `None` while [`GUARDS_MAX`] guards are open.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        match self.tickets.clone().try_reserve_owned() {
            Ok(permit) => Some(Ticket(permit)),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => None,
        }
    }

    /// Lets it finish what was handed over, until `limit` has passed, and joins it. Blocks.
    pub(crate) fn finish(&mut self, limit: Duration) -> Sweepings {
        let Some(thread) = self.thread.take() else { return Sweepings::default() };
        self.until.send_replace(Some(Instant::now() + limit));
        // A panic of the thread has been reported by the panic hook; its open entries are found in the journal.
        thread.join().unwrap_or_default()
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.finish(DROP_WAIT_MAX);
    }
}

async fn sweep(
    reach: Arc<Reach>,
    mut inbox: mpsc::Receiver<Orphan>,
    mut limit: watch::Receiver<Option<Instant>>,
) -> Sweepings {
    let mut sweepings = Sweepings::default();
    loop {
        let orphan = tokio::select! {
            biased;
            orphan = inbox.recv() => orphan,
            _ = limit.wait_for(Option::is_some) => {
                // Tickets still out belong to guards that live; what those hand over later stays open in the journal.
                inbox.close();
                inbox.try_recv().ok()
            }
        };
        let Some(Orphan { id, undo }) = orphan else { return sweepings };
        match undo_within(&undo, &reach, id, &mut limit).await {
            Ok(()) => sweepings.undone.push(id),
            Err(reason) => {
                tracing::error!(id, %reason, "A fault could not be taken away.");
                sweepings.failed.push((id, reason));
            }
        }
    }
}

/// Applies one undo within [`UNDO_WAIT_MAX`] and, once the run ends, within what that leaves.
async fn undo_within(
    undo: &Undo,
    reach: &Reach,
    id: u64,
    limit: &mut watch::Receiver<Option<Instant>>,
) -> Result<(), String> {
    let mut by = Instant::now() + UNDO_WAIT_MAX;
    let mut work = pin!(undo.apply(reach));
    loop {
        let end = *limit.borrow_and_update();
        by = end.map_or(by, |end| by.min(end));
        tokio::select! {
            done = &mut work => {
                done.map_err(|error| error.to_string())?;
                return reach.journal.close(id, LineState::Undone).map_err(|error| error.to_string());
            }
            () = sleep_until(by) => return Err(String::from("not done in time")),
            changed = limit.changed() => changed.map_err(|_| String::from("the janitor was given up"))?,
        }
    }
}
