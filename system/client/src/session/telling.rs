//! What leaves the session: sealed bodies, shown messages, the fate of sends.
use bytes::Bytes;
use chat_protocol::frame::{ClientFrame, Send};

use crate::app::{Local, Oddity, Outgoing, Surfaced};
use crate::device::{Profile, Shared};
use crate::inbox::Item;
use crate::outbox::{Outcome, Writer};

/// Seals and writes the outbox's messages.
pub(super) struct Encoder<'a> {
    pub(super) shared: &'a Shared,
    pub(super) profile: &'a Profile,
    pub(super) out: &'a mut Vec<ClientFrame>,
}

impl Writer for Encoder<'_> {
    fn body(&mut self, message: &Outgoing, now: u64) -> Bytes {
        let compose =
            |body: &mut Vec<u8>| self.shared.app.compose(self.profile.who, message, now, body);
        self.shared.sealer.seal(message.conv, message.cid, self.profile.device, compose).into()
    }

    fn write(&mut self, message: &Outgoing, send: Send, now: u64) {
        let attempt = send.attempt;
        self.out.push(ClientFrame::Send(send));
        self.shared.app.written(self.profile.who, message, attempt, now);
    }
}

/// Opens and shows messages.
pub(super) fn shower(
    shared: &Shared,
    who: Local,
    conn_epoch: u64,
    now: u64,
) -> impl FnMut(Item) + '_ {
    move |item| {
        let mut text = shared.plaintext.borrow_mut();
        let opened = shared.sealer.open(item.conv, item.from, &item.body, &mut text);
        let Item { conv, cseq, mid, from, kind, origin, .. } = item;
        let surfaced =
            Surfaced { conv, cseq, mid, from, kind, plaintext: &text, origin, conn_epoch };
        match opened {
            Ok(()) => shared.app.surfaced(who, &surfaced, now),
            Err(_) => shared.app.unreadable(who, &surfaced, now),
        }
    }
}

/// Tells the app what became of a message.
pub(super) fn tell(shared: &Shared, who: Local, outcome: Outcome, now: u64) {
    let app = &shared.app;
    match outcome {
        Outcome::Accepted(accepted) => app.accepted(who, &accepted, now),
        Outcome::Rejected(ticket, code) => app.rejected(who, ticket, code, now),
        Outcome::Refused(ticket, code, hinted) => app.refused(who, ticket, code, hinted, now),
        Outcome::Unknown(ticket) => app.unknown(who, ticket, now),
        Outcome::NotSent(ticket, why) => app.not_sent(who, ticket, why, now),
        Outcome::Stray => app.odd(who, Oddity::UnknownAnswer, now),
    }
}
