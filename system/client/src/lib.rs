//! Door 1: the app on the phone: connect, heartbeat, outbox, ack, retry, resume and end-to-end sealing.
//!
//! A [`Device`] is one task on the caller's current-thread runtime that owns one WebSocket. What it decides is done by
//! state machines without clock or socket; the task only moves bytes. It knows the protocol and nothing of who tests it.
//! There is no local store: what an app would keep on disk lives in the task, and the [`App`] is told of everything.
//!
//! - [`app`] what sits on top of the client: writes bodies, is told what happens; start here.
//! - [`device`] the task and its handle.
//! - [`dial`] how a connection to an entry address is made.
//! - [`policy`] how to wait before a reconnect, whether to obey hints, whether to seal.
//! - [`backoff`] when to connect again.
//! - [`outbox`] sends: order, retries, deadlines.
//! - [`inbox`] deliveries: dedupe, order, holes, acknowledgement.
//! - [`session`] one device between its connections, without I/O.
//! - [`seal`] end-to-end envelopes.
//! - [`rest`] the REST calls: tokens and pages of history.
pub mod app;
pub mod backoff;
pub mod device;
pub mod dial;
pub mod inbox;
pub mod outbox;
pub mod policy;
pub mod rest;
pub mod seal;
pub mod session;
mod socket;

pub use app::{App, Local, Outgoing};
pub use device::{Device, DeviceHandle, Profile, Shared};
pub use dial::Dial;
pub use policy::{Backoff, Hints, Policies, Seal};
