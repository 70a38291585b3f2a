//! Facts go to the run folder; what people want to see of them goes to the progress line.
use std::sync::{Mutex, PoisonError};

use storm_experiment::notes::Notes;
use storm_record::facts::{Fact, FaultMark, Mark};
use storm_record::store::{FactWriter, StoreError};

use crate::progress::Progress;

/// Writes facts while a run lasts.
pub(super) struct Scribe<'a> {
    inner: Mutex<Inner>,
    line: &'a Mutex<Progress>,
}

struct Inner {
    writer: FactWriter,
    /// The first error; nothing is written after it, and the run ends as an internal error.
    failed: Option<StoreError>,
}

impl<'a> Scribe<'a> {
    pub(super) fn new(writer: FactWriter, line: &'a Mutex<Progress>) -> Self {
        Self { inner: Mutex::new(Inner { writer, failed: None }), line }
    }

    /// Whether a fact could not be written.
    pub(super) fn failed(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).failed.is_some()
    }

    /// Hands everything to the operating system.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let mut inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        match inner.failed.take() {
            Some(error) => Err(error),
            None => inner.writer.flush(),
        }
    }

    fn say(&self, what: &str, fields: &[(&str, String)]) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).event(what, fields);
    }

    fn show(&self, fact: &Fact) {
        match fact {
            Fact::Window(began) => self.say("phase", &[("name", began.name.clone())]),
            Fact::Fault(note) => {
                let step = ("step", note.step.clone());
                match &note.mark {
                    FaultMark::Injected { kind, undo, .. } => {
                        self.say(
                            "fault-injected",
                            &[step, ("fault", kind.name().to_owned()), ("undo", undo.clone())],
                        );
                    }
                    FaultMark::Witnessed(_) => self.say("fault-witnessed", &[step]),
                    FaultMark::Missed(_) => self.say("fault-missed", &[step]),
                    FaultMark::Lapsed(_) => self.say("fault-lapsed", &[step]),
                    FaultMark::Healing => {}
                    FaultMark::Healed(_) => self.say("fault-healed", &[step]),
                    FaultMark::NotHealed(why) => {
                        self.say("fault-not-healed", &[step, ("why", why.clone())]);
                    }
                    FaultMark::Refused(why) => {
                        self.say("fault-refused", &[step, ("why", why.clone())]);
                    }
                }
            }
            Fact::Mark(Mark::Steady { held: false, .. }) => self.say("steady-not-established", &[]),
            Fact::Stopped(stopped) => self.say("stopped", &[("why", stopped.why.clone())]),
            Fact::ObserverLost(lost) => {
                self.say(
                    "observer-lost",
                    &[("observer", lost.observer.clone()), ("why", lost.why.clone())],
                );
            }
            _ => {}
        }
    }
}

impl Notes for Scribe<'_> {
    fn note(&self, fact: Fact) {
        self.show(&fact);
        // A killed harness keeps what happened; the bulk of each look is flushed with the next mark.
        let mark = matches!(
            fact,
            Fact::Window(_) | Fact::Fault(_) | Fact::Mark(_) | Fact::Memory(_) | Fact::Final(_)
        );
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failed.is_some() {
            return;
        }
        let written = inner
            .writer
            .append(&fact)
            .and_then(|()| if mark { inner.writer.flush() } else { Ok(()) });
        inner.failed = written.err();
    }
}
