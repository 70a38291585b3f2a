//! Blobs on an object store that speaks S3.
//!
//! One request a call: nothing is asked conditionally, for servers differ in that, and nothing is repeated by the client library.
//! Addresses are path-style over plain HTTP: the store is a container of the run, behind a loopback port or a network of its own.
//!
//! - `config` where the store is and how long it may take.
//! - `blobs` the port.
//! - `bucket` makes the bucket, which the client library cannot.
//! - `http` how requests travel.
//! - `signing` the sums behind a signature.
//! - `failure` which error means that nothing happened.
mod blobs;
mod bucket;
mod config;
mod failure;
mod http;
mod signing;

pub use blobs::{NAMES_MAX, OBJECT_MAX, S3Blobs, WAITING_MAX};
pub use config::S3Config;
