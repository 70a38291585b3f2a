//! What can go wrong between the testbed and Toxiproxy.
use std::time::Duration;

use chat_ports::PortError;

/// Why a link is not as it was asked to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::containers) enum LinkError {
    /// No answer in time; what was asked may have happened.
    #[error("Toxiproxy did not {act} within {limit:?}")]
    Silent {
        /// What was asked.
        act: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It said no.
    #[error("Toxiproxy refused to {act}: {status}: {said}")]
    Refused {
        /// What was asked.
        act: String,
        /// Its HTTP status.
        status: u16,
        /// Its words.
        said: String,
    },
    /// The connection broke; what was asked may have happened.
    #[error("the connection to Toxiproxy broke at `{act}`: {why}")]
    Broken {
        /// What was asked.
        act: String,
        /// How it ended.
        why: String,
    },
    /// An answer that cannot be read.
    #[error("Toxiproxy's answer to `{act}` cannot be read: {why}")]
    Odd {
        /// What was asked.
        act: String,
        /// What is wrong with it.
        why: String,
    },
    /// The library panicked; it was made anew.
    #[error("the Toxiproxy library panicked at `{act}`: {why}")]
    Panicked {
        /// What was asked.
        act: &'static str,
        /// Words of the panic.
        why: String,
    },
    /// The library said no.
    #[error("the Toxiproxy library failed at `{act}`: {why}")]
    Library {
        /// What was asked.
        act: &'static str,
        /// Its words.
        why: String,
    },
    /// The queue of the library's thread is full: nothing was done.
    #[error("{0} commands for Toxiproxy wait already")]
    Full(usize),
    /// The library's thread is gone: nothing was done.
    #[error("the thread of the Toxiproxy library has ended")]
    Ended,
    /// A change was acknowledged, and is not there.
    #[error("listener `{listener}` has {field} {found}, and not {wanted}")]
    ReadBack {
        /// Which listener.
        listener: String,
        /// Which field.
        field: String,
        /// What it was asked to be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// A rule was taken away, and calls do not get through.
    #[error("nothing answers through listener `{listener}`: {why}")]
    NoAnswer {
        /// Which listener.
        listener: String,
        /// What the probe saw.
        why: String,
    },
    /// All steps of healing failed.
    #[error("listener `{listener}` is not healed, though it was closed and opened again: {why}")]
    NotHealed {
        /// Which listener.
        listener: String,
        /// The last failure.
        why: String,
    },
    /// A rule that Toxiproxy cannot keep.
    #[error("{0}")]
    Rule(String),
}

impl From<LinkError> for PortError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Full(_) | LinkError::Ended | LinkError::Rule(_) => {
                Self::Refused(error.to_string())
            }
            other => Self::Unknown(other.to_string()),
        }
    }
}
