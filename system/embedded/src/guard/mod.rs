//! What stands between a node and a port: fault hook, count of waiting calls, time limit, counters. One wrapper does all four.
//!
//! Names in the observer, for `<port>` of [`PORTS`] and each operation of its trait:
//! counters `port.<port>.<op>.calls`, `port.<port>.<op>.errors`, `port.<port>.bytes` (payload only), `hook.<port>.hits`, and for
//! each node `calls.<port>.<node>.started`, `.answered`, `.failed`, `.took_us` (of all that ended), which tell what calls really
//! met, whoever conditions them; gauges `port.<port>.waiting` (limit 256, the fullest node counts) and `port.<port>.<op>.us`
//! (longest call; its limit is the call's time limit and [`guarded::WAKE_SLACK`], and what its caller's thread stood still is left
//! out).
//!
//! - `hooks` rules by port and node.
//! - `guarded` the wrapper itself.
//! - `standstill` time that is not the port's.
//! - `store`, `log`, `files` the traits it implements.
mod files;
pub mod guarded;
pub mod hooks;
mod log;
pub mod standstill;
mod store;
#[cfg(test)]
mod tests;

pub use guarded::Guarded;
pub use hooks::{Hooks, PORTS};
