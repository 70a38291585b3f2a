//! The WebSocket manager: user to device to node, leases with epochs, sweeper of stale routes.
//!
//! It holds nothing durable: routes are in the registry, and any node of the role gives the right answer. It does not know
//! who is online as a person, and it delivers nothing.
//!
//! - `service` the `Sessions` stream; start here.
//! - `routes` registering and unregistering, in batches.
//! - `sweeper` removes the routes of dead nodes.
//! - [`policy`] how strictly routes and leases are treated.
pub mod policy;
mod routes;
mod service;
mod sweeper;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use chat_ports::nodes::NodeView;
use chat_ports::observe::Observer;
use chat_ports::registry::SessionRegistry;
use chat_protocol::limits::Timers;
use chat_protocol::node::sessions_server::SessionsServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use policy::{LeaseRule, Policies, RouteCompare};
pub use service::Service;

/// Everything the role needs of the world.
#[derive(Clone)]
pub struct Deps {
    /// This node's key and lease; the keeper behind it is run by the caller.
    pub view: NodeView,
    /// The registry.
    pub registry: Arc<dyn SessionRegistry>,
    /// Timers of the system.
    pub timers: Timers,
    /// The system's observer, already of this node.
    pub observer: Observer,
    /// Policies.
    pub policies: Policies,
}

/// The running role.
pub struct Handle {
    /// To be added to the node's gRPC server.
    pub service: SessionsServer<Service>,
}

/// Starts the role: its sweeper and what its streams need run on `tracker` until `shutdown`.
pub fn start(deps: Deps, tracker: &TaskTracker, shutdown: &CancellationToken) -> Handle {
    let shared = Arc::new(service::Shared::new(deps));
    tracker.spawn(sweeper::run(Arc::clone(&shared), shutdown.clone()));
    let service = Service::new(shared, tracker.clone(), shutdown.clone());
    Handle {
        service: SessionsServer::new(service)
            .max_decoding_message_size(chat_ports::streams::MESSAGE_MAX),
    }
}
