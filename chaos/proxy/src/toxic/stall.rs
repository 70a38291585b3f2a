//! `x_stall`: the proxy stops reading and writing, says nothing and loses nothing: a half-open link.

/// Attributes of `x_stall`. Windows fill behind it; held bytes are counted in the line and in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// What happens to a stalled connection when the toxic goes.
    pub on_heal: OnHeal,
    /// Who learns of it.
    pub told: Told,
}

/// Who learns at once that a connection is stalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nobody.
    #[default]
    Nobody,
    /// The client: its end is reset, while the upstream's end stays open and hears nothing, as when a phone changes its network.
    /// Both directions are stalled whatever the toxic's stream says, and the heal resets the upstream's end: there is nobody
    /// left to resume with.
    Client,
}

/// What ends a stall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnHeal {
    /// Held bytes flow on.
    #[default]
    Resume,
    /// The connection is reset, held bytes are given up.
    Reset,
}
