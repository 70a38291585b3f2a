//! `x_stall`: the proxy stops reading and writing, says nothing and loses nothing: a half-open link.

/// Attributes of `x_stall`. Windows fill behind it; held bytes are counted in the line and in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// What happens to a stalled connection when the toxic goes.
    pub on_heal: OnHeal,
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
