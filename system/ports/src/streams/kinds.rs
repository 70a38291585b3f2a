//! The five streams: who opens which to whom, and what is batched on it.
use chat_protocol::node::{
    self, Opener, deliver_client::DeliverClient, enqueue_client::EnqueueClient,
    messages_client::MessagesClient, reads_client::ReadsClient, sessions_client::SessionsClient,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{Batch, MESSAGE_MAX, Open};
use crate::registry::Role;

/// Batches of one kind of item.
macro_rules! single {
    ($message:ident, $item:ident, $field:ident) => {
        impl Batch for node::$message {
            type Item = node::$item;

            fn add(&mut self, item: Self::Item) {
                self.$field.push(item);
            }

            fn opened_by(&mut self, opener: Opener) {
                self.opener = Some(opener);
            }
        }
    };
}

/// Batches that never open a stream: the serving end's.
macro_rules! answers {
    ($message:ident, $(#[$doc:meta])* $items:ident { $($item:ident => $field:ident),+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $items {
            $(#[doc = concat!("One `", stringify!($item), "`.")] $item(node::$item)),+
        }

        impl Batch for node::$message {
            type Item = $items;

            fn add(&mut self, item: Self::Item) {
                match item {
                    $($items::$item(item) => self.$field.push(item)),+
                }
            }

            fn opened_by(&mut self, _: Opener) {}
        }
    };
}

/// A stream that a node opens to a role.
macro_rules! stream {
    ($(#[$doc:meta])* $name:ident, $role:ident, $client:ident, $up:ident, $down:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        #[tonic::async_trait]
        impl Open for $name {
            type Up = node::$up;
            type Down = node::$down;

            const ROLE: Role = Role::$role;

            async fn open(channel: Channel, up: ReceiverStream<Self::Up>) -> Result<Streaming<Self::Down>, Status> {
                let mut client = $client::new(channel).max_decoding_message_size(MESSAGE_MAX);
                Ok(client.open(up).await?.into_inner())
            }
        }
    };
}

stream!(
    /// The `Messages` stream, gateway to messaging.
    MessagesStream, Messaging, MessagesClient, MessagesUp, MessagesDown
);
stream!(
    /// The `Enqueue` stream, messaging to relay.
    EnqueueStream, Relay, EnqueueClient, EnqueueUp, EnqueueDown
);
stream!(
    /// The `Deliver` stream, gateway to relay.
    DeliverStream, Relay, DeliverClient, DeliverUp, DeliverDown
);
stream!(
    /// The `Sessions` stream, gateway to sessions.
    SessionsStream, Sessions, SessionsClient, SessionsUp, SessionsDown
);
stream!(
    /// The `Reads` stream, gateway to history.
    ReadsStream, History, ReadsClient, ReadsUp, ReadsDown
);

single!(MessagesUp, Send, sends);
single!(EnqueueUp, EnqueueBatch, batches);
single!(ReadsUp, Call, calls);

/// What a gateway sends to relay.
#[derive(Debug)]
pub enum DeliverUpItem {
    /// The device has everything up to a position.
    Ack(node::Ack),
    /// A page is wanted.
    Pull(node::Pull),
}

impl Batch for node::DeliverUp {
    type Item = DeliverUpItem;

    fn add(&mut self, item: Self::Item) {
        match item {
            DeliverUpItem::Ack(ack) => self.acks.push(ack),
            DeliverUpItem::Pull(pull) => self.pulls.push(pull),
        }
    }

    fn opened_by(&mut self, opener: Opener) {
        self.opener = Some(opener);
    }
}

/// What a gateway sends to sessions.
#[derive(Debug)]
pub enum SessionsUpItem {
    /// A device connected.
    Register(node::Register),
    /// A device is gone.
    Unregister(node::Unregister),
    /// Is the store alive?
    Check(node::StoreCheck),
}

impl Batch for node::SessionsUp {
    type Item = SessionsUpItem;

    fn add(&mut self, item: Self::Item) {
        match item {
            SessionsUpItem::Register(item) => self.registers.push(item),
            SessionsUpItem::Unregister(item) => self.unregisters.push(item),
            SessionsUpItem::Check(item) => self.checks.push(item),
        }
    }

    fn opened_by(&mut self, opener: Opener) {
        self.opener = Some(opener);
    }
}

answers!(MessagesDown, /// What messaging answers a gateway.
    MessagesDownItem { Sent => sent, Reject => rejects });
answers!(EnqueueDown, /// What relay answers messaging.
    EnqueueDownItem { EnqueueResult => results });
answers!(SessionsDown, /// What sessions answers a gateway.
    SessionsDownItem { Registered => registered, Displaced => displaced, StoreSeen => seen });
answers!(ReadsDown, /// What history answers a gateway.
    ReadsDownItem { Reply => replies });

/// What relay sends to a gateway.
#[derive(Debug)]
pub enum DeliverDownItem {
    /// A stored item for a routed device.
    Push(node::Push),
    /// An answer to a pull.
    Page(node::Page),
    /// Routes were lost.
    StoreReset,
}

impl Batch for node::DeliverDown {
    type Item = DeliverDownItem;

    fn add(&mut self, item: Self::Item) {
        match item {
            DeliverDownItem::Push(push) => self.pushes.push(push),
            DeliverDownItem::Page(page) => self.pages.push(page),
            DeliverDownItem::StoreReset => self.store_reset = true,
        }
    }

    fn opened_by(&mut self, _: Opener) {}
}
