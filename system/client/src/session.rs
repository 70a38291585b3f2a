//! One device between and during its connections, without I/O: frames and time go in, frames and wishes come out.
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use chat_protocol::ConvId;
use chat_protocol::close::{self, Reaction};
use chat_protocol::frame::{Ack, Beat, ClientFrame, Deliver, Hello, Send, ServerFrame, Welcome};
use chat_protocol::limits::{HISTORY_PAGE_MAX, Timers};
use chat_protocol::rest::MessagePage;

use crate::app::{Attempt, Closed, EndedBy, Local, Oddity, Opened, Origin, Outgoing, Surfaced};
use crate::backoff::{Backoff, Dice, End, nanos};
use crate::device::{Profile, Shared};
use crate::inbox::{Inbox, Item, Position};
use crate::outbox::{Outbox, Outcome, Writer};
use crate::policy::Hints;

/// A page that could not be read is asked for again after this share of the time that a hole holds back what follows.
const FETCH_RETRY_SHARE: u32 = 2;
/// A page is given up after so many times that time, a minute by the default timers; the numbers behind it then count as seen.
const FETCH_PATIENCE: u32 = 30;
/// A sync ends when this many passes in a row brought nothing new: history trails the relay.
const QUIET_PASSES: u32 = 2;
/// A sync ends after so many passes at the latest.
const PASSES_MAX: u32 = 30;

/// What the task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Goes on.
    Go,
    /// Closes the connection with this code, because of this.
    Close(u16, EndedBy),
}

/// A page of history that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Conversation.
    pub conv: ConvId,
    /// Messages above this number.
    pub after: u64,
    /// The number that must be readable.
    pub min_cseq: Option<u64>,
    /// What it is for.
    pub origin: Origin,
    give_up_ns: u64,
    not_before_ns: u64,
}

impl Fetch {
    /// Rows of a page.
    pub const LIMIT: u32 = HISTORY_PAGE_MAX;
}

#[derive(Debug, Default)]
struct Sync {
    running: bool,
    passes: u32,
    quiet: u32,
    news: bool,
    next_ns: u64,
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

    /// Whether pages of history are wanted.
    pub fn syncing(&self) -> bool {
        self.sync.running || !self.fetches.is_empty()
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
            self.start_sync(now);
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
            ServerFrame::CaughtUp(_) => app.caught_up(who, now),
            ServerFrame::Reset(reset) => {
                self.inbox.renumber(reset.epoch, reset.next_dseq);
                app.renumbered(who, reset.lost, now);
                if reset.lost {
                    self.start_sync(now);
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
        let (fetches, give_up_ns) = (&mut self.fetches, now + fetch_patience_ns(&shared.timers));
        self.inbox.tick(now, &mut show, &mut |conv, after| {
            fetches.push_back(Fetch {
                conv,
                after,
                min_cseq: Some(after + 1),
                origin: Origin::Hole,
                give_up_ns,
                not_before_ns: 0,
            });
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
        if self.sync.running && self.fetches.is_empty() && now >= self.sync.next_ns {
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
        let sync =
            if self.sync.running && self.fetches.is_empty() { self.sync.next_ns } else { u64::MAX };
        let fetch = self.fetches.front().map_or(u64::MAX, |fetch| fetch.not_before_ns);
        let patience = conn.last_frame_ns.saturating_add(nanos(self.shared.timers.patience));
        let drain = conn.drain_due_ns.unwrap_or(u64::MAX);
        due.min(self.inbox.due_ns())
            .min(conn.next_beat_ns)
            .min(patience)
            .min(drain)
            .min(sync)
            .min(fetch)
    }

    /// The connection is gone. Returns what the backoff has to know.
    pub fn closed(&mut self, code: Option<u16>, by: EndedBy, now: u64) -> Option<End> {
        let conn = self.conn.take()?;
        self.outbox.disconnected();
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

    /// The next page of history to read, if its time has come.
    pub fn next_fetch(&mut self, now: u64) -> Option<Fetch> {
        self.conn.as_ref()?;
        self.fetches.pop_front_if(|fetch| now >= fetch.not_before_ns)
    }

    /// A page was read, or not.
    pub fn fetched(&mut self, mut fetch: Fetch, page: Option<MessagePage>, now: u64) {
        let who = self.profile.who;
        let Some(page) = page else {
            self.shared.app.odd(who, Oddity::HistoryFailed, now);
            if now < fetch.give_up_ns {
                fetch.not_before_ns = now + self.fetch_retry_ns();
                self.fetches.push_back(fetch);
            } else {
                self.inbox.settle(fetch.conv, self.inbox.top(fetch.conv));
            }
            return;
        };
        let epoch = self.conn.as_ref().map_or(self.epoch_max, |conn| conn.epoch);
        let (rows, own) = (page.messages.len(), self.profile.device);
        let mut show = shower(&self.shared, who, epoch, now);
        for message in page.messages {
            fetch.after = fetch.after.max(message.cseq);
            if message.from_device == own {
                self.inbox.own(fetch.conv, message.cseq, now, &mut show);
            } else {
                let item = Item::of_page(fetch.conv, message, fetch.origin);
                self.sync.news |= self.inbox.take(item, u64::MAX, now, &mut show);
            }
        }
        if rows >= Fetch::LIMIT as usize
            && (fetch.origin == Origin::Sync || fetch.after < self.inbox.top(fetch.conv))
        {
            fetch.min_cseq = None;
            fetch.give_up_ns = now + fetch_patience_ns(&self.shared.timers);
            self.fetches.push_front(fetch);
        }
    }

    fn fetch_retry_ns(&self) -> u64 {
        nanos(self.shared.timers.hole_wait / FETCH_RETRY_SHARE)
    }

    fn start_sync(&mut self, now: u64) {
        self.fetches.retain(|fetch| fetch.origin != Origin::Sync);
        self.sync = Sync { running: true, next_ns: now, ..Sync::default() };
    }

    fn next_pass(&mut self, now: u64) {
        let retry_ns = self.fetch_retry_ns();
        let sync = &mut self.sync;
        sync.quiet = if sync.news || sync.passes == 0 { 0 } else { sync.quiet + 1 };
        if sync.quiet >= QUIET_PASSES || sync.passes >= PASSES_MAX {
            sync.running = false;
            self.shared.app.synced(self.profile.who, now);
            return;
        }
        sync.news = false;
        sync.passes += 1;
        sync.next_ns = now + retry_ns;
        let give_up_ns = now + fetch_patience_ns(&self.shared.timers);
        let mut convs: BTreeMap<ConvId, u64> = self.inbox.conversations().collect();
        for conv in self.shared.app.conversations(self.profile.who) {
            convs.entry(conv).or_insert(0);
        }
        self.fetches.extend(convs.into_iter().map(|(conv, after)| Fetch {
            conv,
            after,
            min_cseq: None,
            origin: Origin::Sync,
            give_up_ns,
            not_before_ns: 0,
        }));
    }

    /// Ends the device: every message left is told of.
    pub fn stop(&mut self, now: u64) {
        let (shared, who) = (Rc::clone(&self.shared), self.profile.who);
        self.outbox.stop(&mut |outcome| tell(&shared, who, outcome, now));
    }
}

fn fetch_patience_ns(timers: &Timers) -> u64 {
    nanos(timers.hole_wait * FETCH_PATIENCE)
}

struct Encoder<'a> {
    shared: &'a Shared,
    profile: &'a Profile,
    out: &'a mut Vec<ClientFrame>,
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
fn shower(shared: &Shared, who: Local, conn_epoch: u64, now: u64) -> impl FnMut(Item) + '_ {
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

fn tell(shared: &Shared, who: Local, outcome: Outcome, now: u64) {
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

#[cfg(test)]
mod tests;
