//! Accept, make durable, fold into order, fan out, answer; receipts.
//!
//! The intake appends sends to the log and keeps no other state; the sequencer is a group member that folds its partitions and
//! feeds the relay slots; the receipts group does the same with progress marks. It is not the relay: it stores nothing for
//! devices itself, and it never sees a socket of a client.
//!
//! - [`deps`] what the service needs, and the policies it can be given.
//! - [`intake`] the `Messages` stream: validate, append, refuse.
//! - [`directory`] cached lists of devices.
//! - [`answers`] the gateways that wait for `sent`.
//! - [`sequencer`] the record handler of `chat.messages`.
//! - [`receipts`] the record handler of `chat.receipts`.
//! - [`desk`] hands what relay nodes answer to the partitions that offered it.
//! - [`pump`] feeds one partition of the log into the relay slots.
//! - [`slots`] what the slots are owed and have confirmed.
pub mod answers;
pub mod deps;
mod desk;
pub mod directory;
mod guess;
pub mod intake;
mod pump;
mod receipts;
mod sequencer;
mod service;
mod slots;
#[cfg(test)]
mod tests;

pub use deps::{AnswerPoint, Deps, Policies, StartRule};
pub use intake::MessagesService;
pub use service::{Handle, start};
