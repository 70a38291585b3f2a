//! Registry and relay queues in one Redis server, 7.0 or newer.
//!
//! Every call is one script, so it happens as a whole or not at all, also in what a restarted server finds on its disk. [`RedisStore`]
//! is one node's client: one connection, made on the node's runtime, which ends with it.
//!
//! - `store` configuration and the three handles; start here.
//! - `link` the connection: when it is made and given up, and which failure means that nothing happened.
//! - `scripts` the scripts of the folder `lua` and how they are called.
//! - `keys` names of keys and the text of routes.
//! - `answer` what the server answered, checked.
//! - `registry`, `queue`, `admin` the handles.
//!
//! **Keys.** Everything begins with the configured prefix. What belongs to a device carries the tag `{r:n}` of its slot; leases,
//! incarnation and changes of routes are one each. A queue's epoch is the greater of its own and the store's incarnation, so that
//! raising the incarnation renumbers every queue at its next use.
//!
//! **Restart and wipe.** A new connection raises the incarnation before it serves a call if the server's `run_id` is another one
//! than the stored one: a restarted server may have lost its last second, and no position of that second may be given out again
//! under its old epoch. A store without an incarnation was wiped; its queues begin anew, with newer epochs and floors.
//!
//! **Limits.** 256 calls wait through one handle, a further one is refused. A call ends within [`RedisConfig::call`]. At the server's
//! memory limit what stores is refused, while trims, reads of known queues and leases go on.
mod admin;
mod answer;
mod keys;
mod link;
mod queue;
mod registry;
mod scripts;
mod store;
#[cfg(test)]
mod tests;

pub use admin::RedisAdmin;
pub use store::{RedisConfig, RedisStore};
