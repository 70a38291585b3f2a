//! One device between and during its connections, without I/O: frames and time go in, frames and wishes come out.
mod pages;
mod telling;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use chat_protocol::ConvId;
use chat_protocol::close::{self, Reaction};
use chat_protocol::frame::{Ack, Beat, ClientFrame, Deliver, Hello, ServerFrame, Welcome};

use crate::app::{Attempt, Closed, EndedBy, Oddity, Opened, Outgoing};
use crate::backoff::{Backoff, Dice, End, nanos};
use crate::device::{Profile, Shared};
use crate::inbox::{Inbox, Position};
use crate::outbox::{Outbox, Outcome};
use crate::policy::Hints;
pub use pages::Fetch;
use pages::{PageBackoff, Sync};
use telling::{Encoder, shower, tell};

/// What the task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Goes on.
    Go,
    /// Closes the connection with this code, because of this.
    Close(u16, EndedBy),
}

#[derive(Debug)]
struct Conn {
    epoch: u64,
    opened_ns: u64,
    last_frame_ns: u64,
    beat_ns: u64,
    next_beat_ns: u64,
    /// When the last own beat left; its answer is matched by it.
    beat_sent_ns: u64,
    drain_due_ns: Option<u64>,
    retry_after_ns: Option<u64>,
}

/// The device's state.
pub struct Session {
    shared: Rc<Shared>,
    profile: Profile,
    /// Sends.
    pub outbox: Outbox,
    inbox: Inbox,
    backoff: Backoff,
    dice: Dice,
    conn: Option<Conn>,
    epoch_max: u64,
    marks: BTreeMap<ConvId, u64>,
    /// Server clock minus own clock, milliseconds.
    offset_ms: i128,
    fetches: VecDeque<Fetch>,
    sync: Sync,
    page_backoff: PageBackoff,
    /// The page of history under way.
    reading: Option<Fetch>,
    /// This device came without cursor, and has read nothing from history yet.
    first_sync_is_due: bool,
}

impl Session {
    /// A device that was never connected.
    pub fn new(shared: Rc<Shared>, profile: Profile) -> Self {
        let timers = &shared.timers;
        let policies = &shared.policies;
        Self {
            outbox: Outbox::new(timers),
            inbox: Inbox::new(nanos(timers.hole_wait), nanos(timers.ack_delay)),
            backoff: Backoff::new(policies.backoff, policies.hints, timers),
            dice: Dice::new(profile.seed),
            conn: None,
            epoch_max: 0,
            marks: BTreeMap::new(),
            offset_ms: 0,
            fetches: VecDeque::new(),
            sync: Sync::default(),
            page_backoff: PageBackoff::default(),
            reading: None,
            first_sync_is_due: false,
            shared,
            profile,
        }
    }

    /// The device.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The access token, absent until one is known.
    pub fn set_token(&mut self, token: Option<Rc<str>>) {
        self.profile.token = token;
    }

    /// What the device has received.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Whether a connection is up.
    pub fn connected(&self) -> bool {
        self.conn.is_some()
    }

    /// A draw of the device's own randomness.
    pub fn draw(&mut self) -> u64 {
        self.dice.draw()
    }

    /// Takes a message.
    pub fn push(&mut self, message: Outgoing, now: u64) {
        if let Err(why) = self.outbox.push(message, now) {
            self.shared.app.not_sent(self.profile.who, message.ticket, why, now);
        }
    }

    /// The attempt that the app's wish to be online starts.
    pub fn join(&mut self, now: u64) -> Attempt {
        self.backoff.join(now)
    }

    /// The attempt that follows a failed one or a lost connection.
    pub fn again(&mut self, now: u64, end: &End) -> Option<Attempt> {
        self.backoff.after(now, end, &mut self.dice)
    }

    /// The first frame of a connection; `None` without a token.
    pub fn hello(&self) -> Option<ClientFrame> {
        let Profile { device, class, token, .. } = &self.profile;
        let token = token.as_deref()?.to_owned();
        let resume = self.inbox.cursor();
        Some(ClientFrame::Hello(Hello {
            token,
            device: *device,
            class: *class,
            proto: chat_protocol::frame::PROTO,
            resume,
        }))
    }

    /// The server took the device in. False: under an older epoch than a former connection, which must not be used.
    pub fn welcome(
        &mut self,
        welcome: &Welcome,
        attempt: &Attempt,
        open_ns: u64,
        now: u64,
    ) -> bool {
        let who = self.profile.who;
        if welcome.conn_epoch <= self.epoch_max {
            self.shared.app.odd(who, Oddity::OldEpoch, now);
            return false;
        }
        self.epoch_max = welcome.conn_epoch;
        self.offset_ms = i128::from(welcome.server_ms) - i128::from(now / 1_000_000);
        let offered = self.inbox.cursor();
        let lost = self.inbox.welcome(welcome.resume, welcome.epoch, welcome.next_dseq);
        let window_ns = welcome.reconnect_window_ms.saturating_mul(1_000_000);
        self.backoff.window(window_ns);
        let beat_ns = welcome.hb_ms.max(1).saturating_mul(1_000_000);
        // Beats are spread by a fifth, so that devices that came together do not stay together.
        let next_beat_ns = now + beat_ns - beat_ns / 5 + self.dice.up_to(beat_ns / 5 * 2);
        self.conn = Some(Conn {
            epoch: welcome.conn_epoch,
            opened_ns: now,
            last_frame_ns: now,
            beat_ns,
            next_beat_ns,
            beat_sent_ns: 0,
            drain_due_ns: None,
            retry_after_ns: None,
        });
        self.outbox.connected(now);
        self.shared.app.opened(
            who,
            &Opened {
                node: &welcome.node,
                conn_epoch: welcome.conn_epoch,
                offered,
                resume: welcome.resume,
                epoch: welcome.epoch,
                next_dseq: welcome.next_dseq,
                window_ns,
                due_ns: attempt.due_ns,
                open_ns,
            },
            now,
        );
        if lost {
            self.first_sync_is_due = false;
            self.start_sync_after_loss(now);
        } else if offered.is_none() {
            self.first_sync_is_due = true;
        }
        true
    }

    /// A frame of a live connection.
    pub fn frame(&mut self, frame: ServerFrame, now: u64, out: &mut Vec<ClientFrame>) -> Step {
        let who = self.profile.who;
        let Some(conn) = &mut self.conn else { return Step::Go };
        conn.last_frame_ns = now;
        let app = Rc::clone(&self.shared.app);
        match frame {
            ServerFrame::Deliver(deliver) => self.deliver(deliver, now),
            ServerFrame::Sent(sent) => {
                let outcome = self.outbox.sent(&sent, now);
                if let Outcome::Accepted(accepted) = outcome
                    && !accepted.again
                {
                    let mut show = shower(&self.shared, who, conn.epoch, now);
                    self.inbox.own(accepted.conv, accepted.cseq, now, &mut show);
                }
                tell(&self.shared, who, outcome, now);
            }
            ServerFrame::Reject(reject) => {
                tell(&self.shared, who, self.outbox.reject(&reject, now), now);
            }
            ServerFrame::Receipt(receipt) => {
                self.position(receipt.dseq, now);
                let mark = self.marks.entry(receipt.conv).or_insert(0);
                if receipt.delivered < *mark {
                    app.odd(who, Oddity::ReceiptRegressed, now);
                } else {
                    *mark = receipt.delivered;
                    app.receipt(who, receipt.conv, receipt.who, receipt.delivered, now);
                }
            }
            ServerFrame::Ping(beat) => out.push(ClientFrame::Pong(beat)),
            ServerFrame::Pong(beat) => {
                if beat.t_ms == conn.beat_sent_ns / 1_000_000 && conn.beat_sent_ns != 0 {
                    app.heartbeat(who, now.saturating_sub(conn.beat_sent_ns), now);
                    conn.beat_sent_ns = 0;
                } else {
                    app.odd(who, Oddity::UnexpectedFrame, now);
                }
            }
            ServerFrame::CaughtUp(_) => {
                app.caught_up(who, now);
                // Behind the queue, so that pages bring only what it lacks.
                if std::mem::take(&mut self.first_sync_is_due) {
                    self.start_first_sync(now);
                }
            }
            ServerFrame::Reset(reset) => {
                self.inbox.renumber(reset.epoch, reset.next_dseq);
                app.renumbered(who, reset.lost, now);
                if reset.lost {
                    self.start_sync_after_loss(now);
                }
            }
            ServerFrame::Drain(drain) => {
                let wait = drain.reconnect_in_ms.saturating_mul(1_000_000);
                app.drain(who, wait, now);
                // Who does not look at the time takes the frame for a goodbye.
                let wait = if self.shared.policies.hints == Hints::Obey { wait } else { 0 };
                conn.drain_due_ns.get_or_insert(now + wait);
            }
            // The close frame that follows carries the code.
            ServerFrame::Error(error) => {
                conn.retry_after_ns = error.retry_after_ms.map(|ms| ms.saturating_mul(1_000_000));
            }
            ServerFrame::Welcome(_) => {
                app.odd(who, Oddity::UnexpectedFrame, now);
                return Step::Close(close::PROTOCOL, EndedBy::Protocol);
            }
        }
        Step::Go
    }

    fn position(&mut self, dseq: u64, now: u64) {
        if let Position::Hole(skipped) = self.inbox.position(dseq, now) {
            self.shared.app.dseq_hole(self.profile.who, dseq - skipped, dseq, now);
        }
    }

    fn deliver(&mut self, deliver: Deliver, now: u64) {
        let who = self.profile.who;
        let epoch = self.conn.as_ref().map_or(0, |conn| conn.epoch);
        let (conv, cseq, dseq) = (deliver.conv, deliver.cseq, deliver.dseq);
        self.position(dseq, now);
        let mut show = shower(&self.shared, who, epoch, now);
        if !self.inbox.take(deliver.into(), dseq, now, &mut show) {
            self.shared.app.wire_duplicate(who, conv, cseq, now);
        }
    }

    /// Everything whose time has come, then what can be written. Call after each batch of frames, messages or waiting.
    pub fn turn(&mut self, now: u64, out: &mut Vec<ClientFrame>) -> Step {
        let who = self.profile.who;
        let shared = Rc::clone(&self.shared);
        let mut told = |outcome| tell(&shared, who, outcome, now);
        let mut writer = Encoder { shared: &shared, profile: &self.profile, out };
        let online = self.conn.is_some();
        self.outbox.tick(now, online, &mut writer, &mut told);
        let Some(conn) = &mut self.conn else { return Step::Go };
        if self.outbox.ready() {
            let server_ms =
                u64::try_from(i128::from(now / 1_000_000) + self.offset_ms).unwrap_or(0);
            self.outbox.write(now, server_ms, &mut writer, &mut told);
        }
        let mut show = shower(&shared, who, conn.epoch, now);
        let fetches = &mut self.fetches;
        self.inbox.tick(now, &mut show, &mut |conv, after| {
            fetches.push_back(Fetch::of_hole(conv, after, now, &shared.timers));
        });
        if now >= conn.next_beat_ns {
            conn.next_beat_ns = now + conn.beat_ns;
            conn.beat_sent_ns = now;
            out.push(ClientFrame::Ping(Beat { t_ms: now / 1_000_000 }));
        }
        // An acknowledgement rides along with whatever is written anyway: a packet of its own costs both ends more than it does.
        if let Some(dseq) = self.inbox.ack(now, !out.is_empty()) {
            out.push(ClientFrame::Ack(Ack { dseq }));
        }
        if now >= conn.last_frame_ns.saturating_add(nanos(shared.timers.patience)) {
            return Step::Close(close::AWAY, EndedBy::Patience);
        }
        if conn.drain_due_ns.is_some_and(|due| now >= due) {
            out.extend(self.inbox.ack(now, true).map(|dseq| ClientFrame::Ack(Ack { dseq })));
            return Step::Close(close::NORMAL, EndedBy::Device);
        }
        if self.pass_due_ns().is_some_and(|due| now >= due) {
            self.next_pass(now);
        }
        Step::Go
    }

    /// The last ack before a planned close.
    pub fn last_ack(&mut self, now: u64, out: &mut Vec<ClientFrame>) {
        out.extend(self.inbox.ack(now, true).map(|dseq| ClientFrame::Ack(Ack { dseq })));
    }

    /// When [`Self::turn`] has something to do again.
    pub fn due_ns(&self) -> u64 {
        let due = self.outbox.due_ns();
        let Some(conn) = &self.conn else { return due };
        let patience = conn.last_frame_ns.saturating_add(nanos(self.shared.timers.patience));
        let drain = conn.drain_due_ns.unwrap_or(u64::MAX);
        due.min(self.inbox.due_ns())
            .min(conn.next_beat_ns)
            .min(patience)
            .min(drain)
            .min(self.pages_due_ns())
    }

    /// The connection is gone. Returns what the backoff has to know.
    pub fn closed(&mut self, code: Option<u16>, by: EndedBy, now: u64) -> Option<End> {
        let conn = self.conn.take()?;
        self.outbox.disconnected();
        if let Some(fetch) = self.reading.take() {
            self.fetches.push_front(fetch);
        }
        let closed = Closed {
            conn_epoch: conn.epoch,
            code,
            by,
            last_frame_age_ns: now.saturating_sub(conn.last_frame_ns),
            session_ns: now.saturating_sub(conn.opened_ns),
            drain_due_ns: conn.drain_due_ns,
        };
        self.shared.app.closed(self.profile.who, &closed, now);
        // A device that gave up a connection by itself comes back as after a death of the socket.
        let reaction = match by {
            EndedBy::Server => close::reaction(code),
            EndedBy::Protocol => Reaction::Terminal,
            EndedBy::Patience | EndedBy::Socket => Reaction::Window,
            EndedBy::Device => Reaction::Nothing,
        };
        let session_ns = Some(closed.session_ns);
        Some(End {
            reaction,
            session_ns,
            retry_after_ns: conn.retry_after_ns,
            drain_due_ns: conn.drain_due_ns,
        })
    }

    /// Ends the device: every message left is told of.
    pub fn stop(&mut self, now: u64) {
        let (shared, who) = (Rc::clone(&self.shared), self.profile.who);
        self.outbox.stop(&mut |outcome| tell(&shared, who, outcome, now));
    }
}

#[cfg(test)]
mod tests;
