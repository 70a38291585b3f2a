//! The fault catalogue: one thing made wrong, with a start and an end, and evidence of both.
//!
//! A fault is a value of [`spec::FaultSpec`]. [`Fault::describe`] says whom it would hit and touches nothing; [`Fault::inject`] writes
//! the undo to the journal, makes it wrong and hands back a [`HealGuard`], which witnesses the fault by counters that moved, takes it
//! away and witnesses that it is gone. A guard that is dropped unhealed hands its undo to the janitor of its [`Bed`].
//!
//! It decides neither when a fault comes nor what its outcome means; that is the business of the runner and the judge. It reaches the
//! system through `chat-control` and the client links through `storm-proxy`, and no further.
//!
//! - [`fault`]: start here. The trait, what it describes, why it refuses.
//! - [`bed`]: what faults may touch.
//! - [`heal_guard`]: the value that owns an injected fault.
//! - [`witness`]: evidence, and when it holds.
//! - [`roster`]: everything that can be hit, and the seeded choice among it.
//! - [`undo`], [`journal`], [`janitor`]: how a fault is taken away, where that is written down, who does it if its owner is gone.
//! - [`spec`]: the data model in files.
//! - [`kill`], [`drain`], [`pause`], [`rolling`]: nodes.
//! - [`black_hole`], [`reset`], [`cut_all`], [`slow_link`]: client links.
//! - [`broker_kill`], [`broker_slow`], [`consumer_pause`]: the event log.
//! - [`port_slow`], [`port_stall`], [`port_reset`], [`partition`]: calls to a backend.
//! - [`registry_wipe`], [`history_down`]: backends themselves.

pub mod bed;
pub mod black_hole;
pub mod broker_kill;
pub mod broker_slow;
mod brokers;
pub mod consumer_pause;
pub mod cut_all;
pub mod drain;
pub mod fault;
pub mod heal_guard;
pub mod history_down;
pub mod janitor;
pub mod journal;
pub mod kill;
#[cfg(test)]
mod linked;
mod links;
mod nodes;
pub mod partition;
pub mod pause;
#[cfg(test)]
mod planted;
pub mod port_reset;
pub mod port_slow;
pub mod port_stall;
mod ports;
pub mod registry_wipe;
pub mod reset;
pub mod rolling;
pub mod roster;
pub mod slow_link;
pub mod spec;
pub mod undo;
pub mod witness;

pub use bed::{Bed, BedError, BedParts, DevicePlace, Devices, Remainder};
pub use fault::{Blast, Description, DeviceBlast, Fault, InjectError, Refusal, Step, Targets};
pub use heal_guard::{HEAL_WAIT, HealError, HealGuard, Healed};
pub use journal::{Journal, Line, LineState};
pub use roster::{NodePlace, Roster};
pub use spec::FaultSpec;
pub use undo::Undo;
pub use witness::{Evidence, Witness, counts_devices};
