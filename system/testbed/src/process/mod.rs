//! A chat node in a process of its own: what `chatstorm node` runs, and what a container of the image `chatstorm/node` holds.
//!
//! The node runs on one thread, exactly as a node of the embedded substrate does. A second thread serves the *door*, through which
//! the harness reads what the panel shows and sets what stands in the node: port hooks, paused consumers.
//!
//! - [`NodeSpec`] what a node is told; start here. [`run`] from there to its end.
//! - `door` the node's side of the door; `wire` what is said through it.
mod door;
mod run;
mod spec;
pub(crate) mod wire;

pub use run::{ProcessError, Stop, run};
pub use spec::{BackendPlaces, GatewayPlace, NodeSpec, S3Place, SpecError};
