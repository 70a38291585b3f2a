//! The words both sides of the chat system speak. Sans-IO: nothing here opens a socket or reads a clock.
//!
//! It deliberately knows no service, no store and no harness.
//!
//! - [`ids`] users, devices, conversations, `cid`, `mid` and the epochs.
//! - [`frame`] what client and server say over a WebSocket; start here.
//! - [`codec`] `MessagePack` and JSON forms of a frame.
//! - [`close`] close codes and what a client does on each.
//! - [`token`] self-contained signed access tokens.
//! - [`fold`] the pure function that orders a partition of the event log.
//! - [`digest`] the additive digest by which histories are compared.
//! - [`limits`] sizes, timers and limits of `chatstorm.v1`.
//! - [`rest`] JSON bodies of the REST edge.
//! - [`node`] node-to-node messages (feature `node-rpc`).
pub mod close;
pub mod codec;
pub mod digest;
pub mod fold;
pub mod frame;
pub mod ids;
pub mod limits;
#[cfg(feature = "node-rpc")]
pub mod node;
pub mod rest;
pub mod token;

pub use ids::{Cid, ConvId, DeviceId, Mid, UserId};
