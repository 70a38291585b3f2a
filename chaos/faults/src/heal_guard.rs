//! The heal guard: owns an injected fault, witnesses it, takes it away, and never forgets it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_protocol::limits::Timers;
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::bed::{BedError, Reach};
use crate::fault::{Blast, Description, DeviceBlast, Step, Targets};
use crate::janitor::Ticket;
use crate::journal::LineState;
use crate::undo::Undo;
use crate::witness::{Evidence, LAPSE, Reading, Tally, Witness};

/// How long a heal and its witness may take unless the experiment says otherwise.
pub const HEAL_WAIT: Duration = Duration::from_secs(30);

const POLL_PAUSE: Duration = Duration::from_millis(100);

/// How one injected fault is seen, by counters only.
#[async_trait]
pub(crate) trait Effect: Send {
    /// Counters that show the fault.
    async fn bites(&mut self, reach: &Reach) -> Result<Vec<Reading>, BedError>;

    /// Counters that show its absence; asked after the undo.
    async fn gone(&mut self, reach: &Reach) -> Result<Vec<Evidence>, BedError>;

    /// Lets an act that lasts come to its end before the undo; the caller limits the wait.
    async fn settle(&mut self) {}

    /// How long after its injection the first bite may take.
    fn patience(&self, timers: &Timers) -> Duration;

    /// A last bite older than this has lapsed.
    fn lapse(&self, _timers: &Timers) -> Duration {
        LAPSE
    }
}

/// The duty to apply one undo, taken before the act. Dropped, it goes to the janitor.
pub(crate) struct Armed {
    reach: Arc<Reach>,
    step: Step,
    what: Description,
    undo: Undo,
    id: u64,
    /// Gone once the fault is healed.
    ticket: Option<Ticket>,
    since: Instant,
}

impl Armed {
    pub(crate) fn new(
        reach: Arc<Reach>,
        step: &Step,
        what: Description,
        undo: Undo,
        id: u64,
        ticket: Ticket,
    ) -> Armed {
        Armed {
            reach,
            step: step.clone(),
            what,
            undo,
            id,
            ticket: Some(ticket),
            since: Instant::now(),
        }
    }

    /// The act is done.
    pub(crate) fn acted(self, effect: impl Effect + 'static) -> HealGuard {
        let timers = &self.reach.timers;
        let tally = Tally::new(effect.lapse(timers), self.step.at_least.clone());
        let patience = effect.patience(timers);
        let injected_at = Instant::now();
        HealGuard { armed: self, effect: Box::new(effect), tally, patience, injected_at }
    }

    /// The same duty, with the devices that were found on the nodes of the blast radius.
    pub(crate) fn hitting(mut self, devices: Vec<u64>) -> Armed {
        if self.what.blast.devices == DeviceBlast::OfNodes {
            self.what.blast.devices = DeviceBlast::These(devices);
        }
        self
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            tracing::warn!(
                step = self.step.id,
                fault = self.what.fault,
                "A fault goes to the janitor."
            );
            ticket.hand_over(self.id, self.undo.clone());
        }
    }
}

/// Evidence that a fault is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// The counters.
    pub evidence: Vec<Evidence>,
    /// When the undo had been applied; the witness came after it.
    pub undone_at: Instant,
}

/// Why a fault counts as not healed. The janitor tries the undo once more.
#[derive(Debug, Error)]
pub enum HealError {
    /// The undo failed or was not done in time.
    #[error("the undo of `{step}` failed: {reason}")]
    Undo {
        /// Step of the fault.
        step: String,
        /// Why.
        reason: String,
    },
    /// The undo was applied, and the counters do not show the absence.
    #[error("the undo of `{step}` was applied, but the fault is not seen to be gone")]
    NotWitnessed {
        /// Step of the fault.
        step: String,
        /// The counters.
        evidence: Vec<Evidence>,
    },
    /// It is healed, but the closing line could not be written.
    #[error("the healing could not be written to the journal")]
    Journal(#[source] std::io::Error),
}

/// Owns one injected fault. Dropped unhealed, it hands the undo to the janitor, and never blocks.
#[must_use = "dropping the guard takes the fault away"]
pub struct HealGuard {
    armed: Armed,
    effect: Box<dyn Effect>,
    tally: Tally,
    patience: Duration,
    injected_at: Instant,
}

impl HealGuard {
    /// Number of its entry in the undo journal.
    pub fn id(&self) -> u64 {
        self.armed.id
    }

    /// Step that it belongs to.
    pub fn step(&self) -> &str {
        &self.armed.step.id
    }

    /// Tag of the fault.
    pub fn fault(&self) -> &'static str {
        self.armed.what.fault
    }

    /// Whom it hit.
    pub fn targets(&self) -> &Targets {
        &self.armed.what.targets
    }

    /// What it touched; devices on hit nodes are named.
    pub fn blast(&self) -> &Blast {
        &self.armed.what.blast
    }

    /// When the act began.
    pub fn began_at(&self) -> Instant {
        self.armed.since
    }

    /// When the act was done.
    pub fn injected_at(&self) -> Instant {
        self.injected_at
    }

    /// How long after the injection the first bite may take, by the timers of the system.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Evidence that the fault bites: returns as soon as there is some, else at `by`. To be asked at once, with
    /// `injected_at() + patience()`, and then each second, with the present instant.
    pub async fn witness(&mut self, by: Instant) -> Witness {
        loop {
            let look = timeout_at(
                by.max(Instant::now() + POLL_PAUSE),
                self.effect.bites(&self.armed.reach),
            )
            .await;
            let now = Instant::now();
            match look {
                Ok(Ok(readings)) => self.tally.take(now, readings),
                Ok(Err(error)) => {
                    tracing::debug!(%error, step = self.step(), "A look at a fault failed.");
                }
                Err(_) => tracing::debug!(step = self.step(), "A look at a fault took too long."),
            }
            if self.tally.fresh(now) || by <= now {
                return self.tally.witness(now);
            }
            sleep_until(by.min(now + POLL_PAUSE)).await;
        }
    }

    /// Takes the fault away and waits for evidence that it is gone, until `by`; [`HEAL_WAIT`] is the usual time. An act that lasts, such
    /// as a rolling restart, is let come to its end first.
    pub async fn heal(mut self, by: Instant) -> Result<Healed, HealError> {
        // An act that has not ended by then is broken off, and the undo gets a time of its own: healing is never skipped.
        let settled = timeout_at(by, self.effect.settle()).await.is_ok();
        let by = if settled { by } else { Instant::now() + HEAL_WAIT };
        self.undo(by).await?;
        let undone_at = Instant::now();
        let mut evidence = Vec::new();
        loop {
            match timeout_at(
                by.max(Instant::now() + POLL_PAUSE),
                self.effect.gone(&self.armed.reach),
            )
            .await
            {
                Ok(Ok(now)) => evidence = now,
                Ok(Err(error)) => {
                    tracing::debug!(%error, step = self.step(), "A look at a heal failed.");
                }
                Err(_) => tracing::debug!(step = self.step(), "A look at a heal took too long."),
            }
            if evidence.iter().any(|counter| 0 < counter.required)
                && evidence.iter().all(Evidence::holds)
            {
                break;
            }
            if by <= Instant::now() {
                return Err(HealError::NotWitnessed { step: String::from(self.step()), evidence });
            }
            sleep_until(by.min(Instant::now() + POLL_PAUSE)).await;
        }
        self.armed.ticket = None;
        self.armed
            .reach
            .journal
            .close(self.armed.id, LineState::Healed)
            .map_err(HealError::Journal)?;
        Ok(Healed { evidence, undone_at })
    }

    /// Applies the undo, again and again until it succeeds or the time is over.
    async fn undo(&self, by: Instant) -> Result<(), HealError> {
        let failed = |reason: String| HealError::Undo { step: String::from(self.step()), reason };
        let mut last = None;
        loop {
            match timeout_at(by, self.armed.undo.apply(&self.armed.reach)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => last = Some(error.to_string()),
                Err(_) => {}
            }
            if by <= Instant::now() {
                return Err(failed(last.unwrap_or_else(|| String::from("not done in time"))));
            }
            sleep_until(by.min(Instant::now() + POLL_PAUSE)).await;
        }
    }
}
