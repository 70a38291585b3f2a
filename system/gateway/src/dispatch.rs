//! Brings what the node's streams say to the connections it is for. One task a stream kind.
use std::sync::Arc;

use chat_ports::streams::PeerEvent;
use chat_protocol::close;
use chat_protocol::node::{DeliverDown, MessagesDown, ReadsDown, SessionsDown};
use tokio::sync::mpsc;

use crate::hub::{Hub, SendAnswer, lock};
use crate::mailbox::Item;

/// Stream events that may wait for a dispatcher; beyond it the streams are held back.
pub(crate) const EVENTS_WAITING: usize = 64;

/// Answers to sends.
pub(crate) async fn messages(hub: Arc<Hub>, mut events: mpsc::Receiver<PeerEvent<MessagesDown>>) {
    let behind = hub.deps.limits.behind_bytes;
    while let Some(event) = events.recv().await {
        // A broken stream needs no action: a send without answer is repeated by its client under the same `cid`.
        let PeerEvent::Message(_, batch) = event else { continue };
        for sent in batch.sent {
            if Hub::is_rest(sent.conn) {
                hub.answer_rest(sent.conn, SendAnswer::Sent(sent));
            } else if let Some(handle) = hub.connection(sent.conn) {
                handle.put(Item::Sent(sent), behind);
            } else {
                hub.metrics.answers_unclaimed.add(1);
            }
        }
        for reject in batch.rejects {
            if Hub::is_rest(reject.conn) {
                hub.answer_rest(reject.conn, SendAnswer::Reject(reject));
            } else if let Some(handle) = hub.connection(reject.conn) {
                handle.put(Item::Reject(reject), behind);
            } else {
                hub.metrics.answers_unclaimed.add(1);
            }
        }
    }
}

/// Pushes and pages.
pub(crate) async fn deliver(hub: Arc<Hub>, mut events: mpsc::Receiver<PeerEvent<DeliverDown>>) {
    let behind = hub.deps.limits.behind_bytes;
    while let Some(event) = events.recv().await {
        let batch = match event {
            PeerEvent::Message(_, batch) => batch,
            // Whatever was on its way may be lost, and what a newly opened node pushed before it knew the stream is not
            // here either: the devices of its slots pull.
            PeerEvent::Opened(node) | PeerEvent::Closed(node) => {
                let slots =
                    hub.deliver.keys_of(&node).into_iter().fold(0, |slots, slot| slots | 1 << slot);
                hub.ask_round(|rounds| rounds.verify |= slots);
                continue;
            }
        };
        if batch.store_reset {
            hub.ask_round(|rounds| rounds.register = true);
        }
        if !hub.may_deliver() {
            hub.metrics.dropped_fenced.add(batch.pushes.len() as u64);
            hub.catch_up_later();
            continue;
        }
        for push in batch.pushes {
            match hub.connection(push.conn) {
                Some(handle) => handle.put(Item::Push(push), behind),
                None => hub.metrics.dropped_no_connection.add(1),
            }
        }
        for page in batch.pages {
            if let Some(handle) = hub.connection(page.conn) {
                handle.put(Item::Page(page), behind);
            }
        }
    }
}

/// Registrations, displaced connections, store checks.
pub(crate) async fn sessions(hub: Arc<Hub>, mut events: mpsc::Receiver<PeerEvent<SessionsDown>>) {
    let behind = hub.deps.limits.behind_bytes;
    while let Some(event) = events.recv().await {
        let batch = match event {
            PeerEvent::Message(_, batch) => batch,
            PeerEvent::Opened(_) => {
                hub.work_off_unregisters();
                continue;
            }
            PeerEvent::Closed(_) => {
                hub.doubt_unregisters();
                continue;
            }
        };
        for registered in batch.registered {
            if let Some(handle) = hub.connection(registered.conn) {
                handle
                    .put(Item::Registered(registered.ok.then_some(registered.conn_epoch)), behind);
            } else if registered.ok {
                // The connection ended while it was being registered: nobody else can give its route back.
                hub.unregister(
                    chat_protocol::DeviceId(registered.device),
                    registered.conn,
                    registered.conn_epoch,
                );
            }
        }
        for displaced in batch.displaced {
            if let Some(handle) = hub.connection(displaced.conn) {
                handle.close(close::DISPLACED);
            }
        }
        for seen in batch.seen {
            let mut check = lock(&hub.check);
            if check.id == seen.id {
                if seen.seen {
                    check.yes += 1;
                } else {
                    check.no += 1;
                }
                hub.checked.notify_one();
            }
        }
    }
}

/// Pages of history.
pub(crate) async fn reads(hub: Arc<Hub>, mut events: mpsc::Receiver<PeerEvent<ReadsDown>>) {
    while let Some(event) = events.recv().await {
        let PeerEvent::Message(_, batch) = event else { continue };
        for reply in batch.replies {
            hub.answer_read(reply);
        }
    }
}
