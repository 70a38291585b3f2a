//! Starts the role on a node.
use std::sync::Arc;

use chat_ports::streams::MESSAGE_MAX;
use chat_protocol::node::deliver_server::DeliverServer;
use chat_protocol::node::enqueue_server::EnqueueServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acks::{Acks, Book};
use crate::gateways::Gateways;
use crate::push_first::PushFirst;
use crate::{DeliverService, DeliveryRule, Deps, EnqueueService, probe};

/// The running role.
pub struct Handle {
    /// To be added to the node's server.
    pub enqueue: EnqueueServer<EnqueueService>,
    /// To be added to the node's server.
    pub deliver: DeliverServer<DeliverService>,
}

/// Starts the lanes, the acks and the probe as tasks of `tracker`; they end when `shutdown` fires.
pub fn start(deps: Deps, tracker: &TaskTracker, shutdown: &CancellationToken) -> Handle {
    let Deps { view, queue, registry, log, timers, observer, partitions, delivery } = deps;
    let gateways = Gateways::new(view.table.clone(), &observer);
    let push_first = match delivery {
        DeliveryRule::StoreFirst => None,
        DeliveryRule::PushFirst => {
            Some(Arc::new(PushFirst::new(&view, registry, Arc::clone(&queue), &observer)))
        }
    };
    tracker.spawn(shutdown.clone().run_until_cancelled_owned(gateways.clone().follow()));
    let first = push_first.as_ref();
    let book = Arc::new(Book::new(&observer));
    let enqueue = EnqueueService::start(&queue, &gateways, first, &observer, tracker, shutdown);
    let deliver =
        DeliverService::start(&queue, &gateways, &book, first, &observer, (tracker, shutdown));

    let acks = Acks::new(book, log, Arc::clone(&queue), partitions, &observer);
    tracker.spawn(shutdown.clone().run_until_cancelled_owned(acks.run()));
    let probe = probe::run(
        queue,
        timers.node_table,
        gateways,
        enqueue.clone(),
        observer.counter("relay.store_resets"),
    );
    tracker.spawn(shutdown.clone().run_until_cancelled_owned(probe));

    Handle {
        enqueue: EnqueueServer::new(enqueue).max_decoding_message_size(MESSAGE_MAX),
        deliver: DeliverServer::new(deliver).max_decoding_message_size(MESSAGE_MAX),
    }
}
