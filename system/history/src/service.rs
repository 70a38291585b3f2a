//! Starts the role on a node.
use std::sync::Arc;

use chat_ports::consumer::{HISTORY_WRITER, Member};
use chat_ports::log::Topic;
use chat_ports::streams::MESSAGE_MAX;
use chat_protocol::node::reads_server::ReadsServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Deps, ReadsService, writer};

/// The running role.
pub struct Handle {
    /// To be added to the node's server.
    pub service: ReadsServer<ReadsService>,
}

/// Starts the writer and the reads as tasks of `tracker`; they end when `shutdown` fires, and the group is left.
pub fn start(deps: Deps, tracker: &TaskTracker, shutdown: &CancellationToken) -> Handle {
    let service = ReadsService::start(Arc::clone(&deps.history), &deps.observer, tracker, shutdown);
    let member = Member {
        log: Arc::clone(&deps.log),
        group: HISTORY_WRITER,
        topic: Topic::Messages,
        name: format!("{}@{}", deps.view.key.name, deps.view.key.epoch),
        heartbeat: deps.timers.log_heartbeat,
        observer: deps.observer.clone(),
    };
    let deps = Arc::new(deps);
    let run = move |owned| writer::keep(Arc::clone(&deps), owned);
    tracker.spawn(member.run(tracker.clone(), shutdown.clone(), run));
    Handle { service: ReadsServer::new(service).max_decoding_message_size(MESSAGE_MAX) }
}
