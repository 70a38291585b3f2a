//! Answers on receipt, for an intake that does not wait for the log: numbers as they would be if nothing went wrong.
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chat_ports::clock::SharedClock;
use chat_ports::streams::StreamSender;
use chat_ports::streams::kinds::MessagesDownItem;
use chat_protocol::ConvId;
use chat_protocol::digest::mix;
use chat_protocol::node::{MessagesDown, Sent};

/// Conversations counted; beyond it all counts start again.
const CONVS_MAX: usize = 1_000_000;

/// Counts sends by conversation.
pub(crate) struct Guesses {
    clock: SharedClock,
    last: Mutex<HashMap<ConvId, u64>>,
}

impl Guesses {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { clock, last: Mutex::default() }
    }

    /// Answers `sent` for a send that nobody has stored yet.
    pub(crate) fn answer(
        &self,
        conv: ConvId,
        cid: &Bytes,
        device: u64,
        conn: u64,
        answers: &StreamSender<MessagesDown>,
    ) {
        let cseq = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.len() >= CONVS_MAX {
                last.clear();
            }
            let cseq = last.entry(conv).or_insert(0);
            *cseq += 1;
            *cseq
        };
        let server_ms = self.clock.wall_ms();
        let mut mid = [0; 16];
        mid[..8].copy_from_slice(&mix(&[conv.hash64(), cseq]).to_be_bytes());
        mid[8..].copy_from_slice(&mix(&[conv.hash64(), cseq, server_ms]).to_be_bytes());
        let sent = Sent {
            device,
            conn,
            cid: cid.clone(),
            mid: Bytes::copy_from_slice(&mid),
            cseq,
            server_ms,
            dup: false,
        };
        if answers.offer(MessagesDownItem::Sent(sent)).is_err() {
            tracing::debug!("A gateway does not take its answers.");
        }
    }
}
