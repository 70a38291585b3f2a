//! The queued history writer over the same fold, and paging.
//!
//! The writer is a group of its own over `chat.messages`: it computes the same numbers as the sequencer and may lag or stop
//! alone. It is not the store of conversations: that is behind a port.
//!
//! - [`deps`] what the service needs.
//! - [`reads`] the `Reads` stream: pages, with a wait for a row that is not readable yet.
//! - [`writer`] folds a partition and writes the accepted messages.
pub mod deps;
pub mod reads;
mod service;
#[cfg(test)]
mod tests;
mod writer;

pub use deps::Deps;
pub use reads::ReadsService;
pub use service::{Handle, start};
