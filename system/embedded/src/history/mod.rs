//! History and tables over fjall: one writer with group commit, readers on snapshots.
//!
//! - `rows` how a row is laid out in bytes.
//! - `writer` the thread `chat-history`: gathers writes, commits them with one sync.
//! - `reader` the thread `chat-histread`: pages, digests, table reads.
//! - `handle` the two ports in front of both.
//! - [`admin`] the operator's switch.
pub mod admin;
pub mod handle;
mod reader;
mod rows;
mod writer;

pub use admin::HistoryAdmin;
pub use handle::EmbeddedHistory;
