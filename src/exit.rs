//! Exit codes, which are an interface, and the one error type of the edge.
//!
//! Codes never change meaning; new ones may be added.
use std::error::Error;
use std::fmt::{self, Write as _};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// 0.
    Pass,
    /// 1.
    Internal,
    /// 2.
    Usage,
    /// 3.
    NoStart,
    /// 10.
    GateMissed,
    /// 11.
    InvariantBroken,
    /// 12.
    Inconclusive,
    /// 13.
    Stopped,
}

impl Exit {
    /// All codes, ascending.
    pub const ALL: [Self; 8] = [
        Self::Pass,
        Self::Internal,
        Self::Usage,
        Self::NoStart,
        Self::GateMissed,
        Self::InvariantBroken,
        Self::Inconclusive,
        Self::Stopped,
    ];

    /// The number the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NoStart => 3,
            Self::GateMissed => 10,
            Self::InvariantBroken => 11,
            Self::Inconclusive => 12,
            Self::Stopped => 13,
        }
    }

    /// The code with that number; an unknown number is an internal error.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Internal)
    }

    /// What it means, for `explain`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Pass => {
                "pass: every invariant held, every gate was met, and the run was able to show it"
            }
            Self::Internal => "internal error: chatstorm itself broke; no verdict",
            Self::Usage => "usage: an argument or a file is invalid; nothing was started",
            Self::NoStart => {
                "the system could not start, or this machine cannot carry the run; the message names the cure"
            }
            Self::GateMissed => {
                "a gate of the scenario or experiment was missed; no invariant broke"
            }
            Self::InvariantBroken => {
                "an invariant broke: the system did something it promises never to do"
            }
            Self::Inconclusive => {
                "inconclusive: nothing failed, and the run cannot claim that nothing would have"
            }
            Self::Stopped => {
                "stopped before the end by a signal or a stop condition (the generator is lost, the disk or the descriptors run \
                 out, the record cannot be written, a file `stop` in the run folder, or `target/chatstorm/STOP`); nothing that \
                 had finished failed"
            }
        }
    }

    /// The code of several runs together. A broken invariant outranks a missed gate, then stopped, then inconclusive;
    /// what prevented a verdict outranks all of them.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Pass => 0,
            Self::Inconclusive => 1,
            Self::Stopped => 2,
            Self::GateMissed => 3,
            Self::InvariantBroken => 4,
            Self::NoStart => 5,
            Self::Usage => 6,
            Self::Internal => 7,
        };
        if rank(self) < rank(other) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What went wrong, in the form people read: exit code, message, causes, hint.
#[derive(Debug)]
pub struct Edge {
    /// How the process ends.
    pub exit: Exit,
    message: String,
    drawn: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

impl Edge {
    /// Message and hint, for a list that has lines of its own.
    #[cfg(feature = "containers")]
    pub(crate) fn into_words(self) -> (String, String) {
        (self.message, self.hint.unwrap_or_default())
    }

    /// An error with its code. The message is a lower-case fragment without a period.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), drawn: false, source: None, hint: None }
    }

    /// An invalid argument or file: 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The system could not start: 3.
    pub fn no_start(message: impl Into<String>) -> Self {
        Self::new(Exit::NoStart, message)
    }

    /// chatstorm itself broke: 1.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }

    /// A usage error that already is a drawn diagnostic with file, line and caret.
    pub fn diagnostic(drawn: String) -> Self {
        Self { drawn: true, ..Self::new(Exit::Usage, drawn) }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.drawn {
            f.write_str(self.message.trim_end())?;
        } else {
            write!(f, "error: {}", self.message)?;
        }
        let mut cause: Option<&(dyn Error + 'static)> = self.source.as_deref().map(|e| e as _);
        while let Some(error) = cause {
            write!(f, "\n  caused by: {error}")?;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n\nhint: {hint}")?;
        }
        f.write_char('\n')
    }
}

impl Error for Edge {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_invariant_outranks_every_other_verdict() {
        for other in [Exit::Pass, Exit::GateMissed, Exit::Inconclusive, Exit::Stopped] {
            assert_eq!(Exit::InvariantBroken.merge(other), Exit::InvariantBroken);
            assert_eq!(other.merge(Exit::InvariantBroken), Exit::InvariantBroken);
        }
        assert_eq!(Exit::Stopped.merge(Exit::Inconclusive), Exit::Stopped);
        assert_eq!(Exit::Pass.merge(Exit::Inconclusive), Exit::Inconclusive);
    }

    #[test]
    fn every_code_is_found_by_its_number() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), exit);
        }
    }

    #[test]
    fn error_shows_its_causes_and_its_hint() {
        let edge = Edge::no_start("port 7101 is taken")
            .caused_by("address in use")
            .hint("stop what listens there");
        assert_eq!(
            edge.to_string(),
            "error: port 7101 is taken\n  caused by: address in use\n\nhint: stop what listens there\n"
        );
    }
}
