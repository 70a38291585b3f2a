//! The control of one proxy, for any thread: change its rules, cut its connections, read its counters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::counters::{ConnectionSnapshot, ProxyCounters, locked};
use crate::proxy::Shared;
use crate::rules::{RuleError, Rules};
use crate::toxic::{Targets, Toxic};

/// How long a change may take to reach the listener and every connection.
pub const APPLY_WAIT_MAX: Duration = Duration::from_secs(6);

const APPLY_POLL_PAUSE: Duration = Duration::from_millis(1);

/// Why a control could not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ControlError {
    /// No proxy has this name.
    #[error("there is no proxy `{name}`")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The rules break a limit.
    #[error("rules of proxy `{name}` were refused")]
    Rules {
        /// Name of the proxy.
        name: String,
        /// Which limit.
        source: RuleError,
    },
    /// The proxy has been shut down.
    #[error("proxy `{name}` has been shut down")]
    Stopped {
        /// Name of the proxy.
        name: String,
    },
    /// A change did not reach the listener and every connection within [`APPLY_WAIT_MAX`].
    #[error("rules {generation} of proxy `{name}` are not in force: {reason}")]
    NotApplied {
        /// Name of the proxy.
        name: String,
        /// Generation that was waited for.
        generation: u64,
        /// What is missing, e.g. what the system said to the listener.
        reason: String,
    },
}

/// Steers one proxy from any thread. Cloning is cheap; a clone does not keep the proxy running.
///
/// Changes are published before the call returns and obeyed from the next chunk on; [`ProxyControl::applied`] waits for the proof.
#[derive(Clone, Debug)]
pub struct ProxyControl {
    pub(crate) shared: Arc<Shared>,
}

impl ProxyControl {
    /// Name of the proxy.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Address it listens on, while enabled.
    pub fn listen_addr(&self) -> SocketAddr {
        self.shared.listen
    }

    /// Address it dials.
    pub fn upstream_addr(&self) -> SocketAddr {
        self.shared.upstream
    }

    /// The rules in force and their generation.
    pub fn rules(&self) -> (u64, Rules) {
        let published = self.shared.rules.borrow();
        (published.generation, published.rules.clone())
    }

    /// Replaces the rules as a whole; returns the new generation.
    pub fn set_rules(&self, rules: Rules) -> Result<u64, ControlError> {
        self.edit_rules(|current| *current = rules)
    }

    /// Changes the rules in one step that no other change can come between; returns the new generation.
    pub fn edit_rules(&self, edit: impl FnOnce(&mut Rules)) -> Result<u64, ControlError> {
        self.shared.publish(edit)
    }

    /// Adds a toxic, in place of one of the same name; returns the new generation.
    pub fn put_toxic(&self, toxic: Toxic) -> Result<u64, ControlError> {
        self.edit_rules(|rules| rules.put_toxic(toxic))
    }

    /// Removes a toxic if it is there; returns the new generation.
    pub fn remove_toxic(&self, name: &str) -> Result<u64, ControlError> {
        self.edit_rules(|rules| {
            rules.remove_toxic(name);
        })
    }

    /// Cuts the open connections among the targets with a reset, once; connections made afterwards are left alone. Returns how many it
    /// picked; they are gone when the returned generation is [applied](ProxyControl::applied).
    pub fn cut(&self, targets: &Targets) -> Result<(usize, u64), ControlError> {
        let mut picked = 0;
        for state in self.shared.register.states() {
            if targets.contains(state.ordinal, state.device.get().copied()) {
                state.cut.store(true, Relaxed);
                picked += 1;
            }
        }
        let generation = self.edit_rules(|_| ())?;
        Ok((picked, generation))
    }

    /// Waits until the listener and every open connection obey this generation or a later one. Needs a runtime with time.
    pub async fn applied(&self, generation: u64) -> Result<(), ControlError> {
        self.wait(generation, |_, _| true).await
    }

    /// Disables the proxy and waits until its listener is closed and its connections are cut. Returns the generation.
    pub async fn down(&self) -> Result<u64, ControlError> {
        let generation = self.edit_rules(|rules| rules.enabled = false)?;
        self.wait(generation, |listening, open| !listening && open == 0).await?;
        Ok(generation)
    }

    /// Enables the proxy and waits until it listens again. Returns the generation.
    pub async fn up(&self) -> Result<u64, ControlError> {
        let generation = self.edit_rules(|rules| rules.enabled = true)?;
        self.wait(generation, |listening, _| listening).await?;
        Ok(generation)
    }

    /// What the proxy has done so far. Walks the open connections.
    pub fn counters(&self) -> ProxyCounters {
        let shared = &self.shared;
        let listener = &shared.listener;
        let totals = shared.register.totals();
        ProxyCounters {
            generation: shared.rules.borrow().generation,
            generation_applied: totals.generation_applied.min(listener.generation.load(Relaxed)),
            listening: listener.open.load(Relaxed),
            reopened: listener.reopened.load(Relaxed),
            refused_at_limit: listener.refused_at_limit.load(Relaxed),
            accept_errors: listener.accept_errors.load(Relaxed),
            ..totals
        }
    }

    /// The open connections, by ordinal.
    pub fn connections(&self) -> Vec<ConnectionSnapshot> {
        self.shared.register.states().iter().map(|state| state.snapshot()).collect()
    }

    async fn wait(
        &self,
        generation: u64,
        holds: impl Fn(bool, usize) -> bool,
    ) -> Result<(), ControlError> {
        let until = Instant::now() + APPLY_WAIT_MAX;
        let listener = &self.shared.listener;
        loop {
            let (open, oldest) = self.shared.register.standing();
            let applied = oldest.min(listener.generation.load(Relaxed));
            if generation <= applied && holds(listener.open.load(Relaxed), open) {
                return Ok(());
            }
            let name = String::from(self.name());
            if self.shared.rules.borrow().stopped {
                return Err(ControlError::Stopped { name });
            }
            let bind_error = locked(&listener.error).clone();
            if until <= Instant::now() || bind_error.is_some() {
                let reason = bind_error
                    .unwrap_or_else(|| format!("applied up to {applied}, {open} connections open"));
                return Err(ControlError::NotApplied { name, generation, reason });
            }
            sleep(APPLY_POLL_PAUSE).await;
        }
    }
}
