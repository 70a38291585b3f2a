//! Per-device queue for what is not yet acknowledged; drain on reconnect.
//!
//! Stores what messaging owes to devices, pushes what was stored to the gateway that has the device, and trims what devices
//! acknowledged, after their progress is in the log. It is not the store: queues and watermarks live behind a port.
//!
//! - [`deps`] what the service needs, and the policy it can be given.
//! - [`enqueue`] the `Enqueue` stream: one lane a slot.
//! - [`gateways`] the open `Deliver` streams.
//! - [`deliver`] the `Deliver` stream: acks and pulls.
//! - [`acks`] receipts first, then trims.
//! - [`resume`] how a device goes on from its cursor.
mod acks;
pub mod deliver;
pub mod deps;
pub mod enqueue;
mod gateways;
mod probe;
mod push_first;
mod resume;
mod service;
#[cfg(test)]
mod tests;

pub use deliver::DeliverService;
pub use deps::{DeliveryRule, Deps};
pub use enqueue::EnqueueService;
pub use service::{Handle, start};
