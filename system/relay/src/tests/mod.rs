//! Stories of the whole role on one runtime: in-memory ports, real streams.
mod bench;
mod deliver;
mod enqueue;
mod push_first;
