//! Stories of what only this store does.
//!
//! - `link` the connection, told to a server that answers as a story wants it to.
//! - `wipe` what an operator gets of a wipe, told to the same.
//! - `store` restart, wipe, expiry and the operator's view, told to the server of the conformance suite.
mod link;
mod store;
mod wipe;
