//! The ports on real backends. Quiet stories share one set of containers, fault stories break another; each
//! story has names of its own there.
mod blobs;
mod event_log;
pub(crate) mod faults;
mod history;
mod set;
mod store;
mod wipe;

pub(crate) use blobs::blobs;
pub(crate) use event_log::event_log;
pub(crate) use history::{history, tables};
pub(crate) use store::{registry, relay_queue};

/// A name that no other story uses.
fn fresh_name() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // Each `RandomState` has keys of its own, which is all the chance that a name needs.
    format!("t{:016x}", std::hash::RandomState::new().build_hasher().finish())
}
