//! How to wait before a reconnect, whether to obey hints, whether to seal.
use std::time::Duration;

/// How the wait before an attempt is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Backoff {
    /// Full jitter: uniform between zero and the capped exponential.
    #[default]
    FullJitter,
    /// Always this long.
    Fixed(Duration),
}

/// Whether times and codes named by the server are obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hints {
    /// Yes.
    #[default]
    Obey,
    /// The client's own backoff decides alone: windows, `retry_after`, drain times and terminal codes are not looked at. A
    /// `drain` frame makes it leave at once.
    Ignore,
}

/// Whether bodies are sealed end to end.
#[derive(Clone, Default)]
pub enum Seal {
    /// Bodies travel as they are.
    #[default]
    Off,
    /// XChaCha20-Poly1305 under a key of the conversation, derived from this secret of the system's users.
    Envelope([u8; 32]),
}

/// All choices of a client.
#[derive(Clone, Default)]
pub struct Policies {
    /// Waits.
    pub backoff: Backoff,
    /// Hints.
    pub hints: Hints,
    /// Sealing.
    pub seal: Seal,
}
