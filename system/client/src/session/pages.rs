//! Pages of history: what a hole lacks, and all conversations after the device's queue was lost.
use std::collections::{BTreeMap, BTreeSet};

use chat_protocol::ConvId;
use chat_protocol::limits::{HISTORY_PAGE_MAX, Timers};
use chat_protocol::rest::MessagePage;

use super::Session;
use super::telling::shower;
use crate::app::{Oddity, Origin};
use crate::backoff::nanos;
use crate::inbox::Item;

/// After a page that could not be read a device reads none for this share of the time that a hole holds back what follows.
const FETCH_RETRY_SHARE: u32 = 2;
/// Twice as long after each further one, up to two to this power times, of which a random half is left out: a history that cannot
/// answer everybody would otherwise be asked ever more by those whom it refused.
const FETCH_RETRY_DOUBLINGS: u32 = 3;
/// A page is given up after so many times that time, a minute by the default timers; the numbers behind it then count as seen.
const FETCH_PATIENCE: u32 = 30;
/// A device whose queue was lost begins to read within so many times that time: everybody's queue is lost at once.
const SYNC_WINDOW: u32 = 5;
/// A sync ends after so many passes at the latest.
const PASSES_MAX: u32 = 30;

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
}

impl Fetch {
    /// Rows of a page.
    pub const LIMIT: u32 = HISTORY_PAGE_MAX;

    /// What is missing above `after`, because something later came.
    pub(super) fn of_hole(conv: ConvId, after: u64, now: u64, timers: &Timers) -> Self {
        Self {
            conv,
            after,
            min_cseq: Some(after + 1),
            origin: Origin::Hole,
            give_up_ns: now + patience_ns(timers),
        }
    }
}

/// Until when a device leaves history alone, and how many pages in a row it could not read.
#[derive(Debug, Default)]
pub(super) struct PageBackoff {
    until_ns: u64,
    failures: u32,
}

/// Reading all conversations after the queue was lost.
#[derive(Debug)]
pub(super) struct Sync {
    origin: Origin,
    running: bool,
    passes: u32,
    /// Conversations of which the pass brought something.
    news: BTreeSet<ConvId>,
    next_ns: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self { origin: Origin::Sync, running: false, passes: 0, news: BTreeSet::new(), next_ns: 0 }
    }
}

impl Session {
    /// Whether pages of history are wanted.
    pub fn syncing(&self) -> bool {
        self.sync.running || self.reading.is_some() || !self.fetches.is_empty()
    }

    /// When the next page or pass is due.
    pub(super) fn pages_due_ns(&self) -> u64 {
        // What follows waits for the page under way: a time that has come would wake the device again and again meanwhile.
        if self.reading.is_some() {
            return u64::MAX;
        }
        let fetch = if self.fetches.is_empty() { u64::MAX } else { self.page_backoff.until_ns };
        fetch.min(self.pass_due_ns().unwrap_or(u64::MAX))
    }

    /// When the next pass of a sync may begin.
    pub(super) fn pass_due_ns(&self) -> Option<u64> {
        let idle = self.reading.is_none() && self.fetches.is_empty();
        (self.sync.running && idle).then_some(self.sync.next_ns)
    }

    /// The next page of history to read, if its time has come and none is under way; [`Self::fetched`] ends it.
    pub fn next_fetch(&mut self, now: u64) -> Option<Fetch> {
        self.conn.as_ref()?;
        if self.reading.is_some() || now < self.page_backoff.until_ns {
            return None;
        }
        self.reading = self.fetches.pop_front();
        self.reading.clone()
    }

    /// A page was read, or not.
    pub fn fetched(&mut self, mut fetch: Fetch, page: Option<MessagePage>, now: u64) {
        self.reading = None;
        let who = self.profile.who;
        let Some(page) = page else {
            self.shared.app.odd(who, Oddity::HistoryFailed, now);
            let most = self.retry_ns() << self.page_backoff.failures.min(FETCH_RETRY_DOUBLINGS);
            self.page_backoff.failures += 1;
            self.page_backoff.until_ns = now + most / 2 + self.dice.up_to(most / 2);
            if now < fetch.give_up_ns {
                self.fetches.push_back(fetch);
            } else {
                self.inbox.settle(fetch.conv, self.inbox.top(fetch.conv));
            }
            return;
        };
        self.page_backoff = PageBackoff::default();
        let epoch = self.conn.as_ref().map_or(self.epoch_max, |conn| conn.epoch);
        let (rows, own) = (page.messages.len(), self.profile.device);
        let mut show = shower(&self.shared, who, epoch, now);
        for message in page.messages {
            fetch.after = fetch.after.max(message.cseq);
            if message.from_device == own {
                self.inbox.own(fetch.conv, message.cseq, now, &mut show);
            } else {
                let item = Item::of_page(fetch.conv, message, fetch.origin);
                let new = self.inbox.take(item, u64::MAX, now, &mut show);
                if new && fetch.origin != Origin::Hole {
                    self.sync.news.insert(fetch.conv);
                }
            }
        }
        if rows >= Fetch::LIMIT as usize
            && (fetch.origin != Origin::Hole || fetch.after < self.inbox.top(fetch.conv))
        {
            fetch.min_cseq = None;
            fetch.give_up_ns = now + patience_ns(&self.shared.timers);
            self.fetches.push_front(fetch);
        }
    }

    fn retry_ns(&self) -> u64 {
        nanos(self.shared.timers.hole_wait / FETCH_RETRY_SHARE)
    }

    /// Reads every conversation from an instant on, and those that brought something again, until nothing is new: what came may have
    /// more behind it that was not readable yet.
    fn start_sync(&mut self, origin: Origin, from: u64) {
        self.fetches.retain(|fetch| fetch.origin == Origin::Hole);
        self.sync = Sync { origin, running: true, next_ns: from, ..Sync::default() };
    }

    /// The first sync of a device.
    pub(super) fn start_first_sync(&mut self, now: u64) {
        self.start_sync(Origin::First, now);
    }

    /// A sync after a loss, which probably all devices have: not all at once, and not before the sequencers have gone back, since what
    /// they do not bring again is in history from then on.
    pub(super) fn start_sync_after_loss(&mut self, now: u64) {
        let window_ns = nanos(self.shared.timers.hole_wait * SYNC_WINDOW);
        let from = now + self.retry_ns() + self.dice.up_to(window_ns);
        self.start_sync(Origin::Sync, from);
    }

    pub(super) fn next_pass(&mut self, now: u64) {
        let retry_ns = self.retry_ns();
        let sync = &mut self.sync;
        let quiet = sync.passes > 0 && sync.news.is_empty();
        if quiet || sync.passes >= PASSES_MAX {
            sync.running = false;
            self.shared.app.synced(self.profile.who, now);
            return;
        }
        let (first, news) = (sync.passes == 0, std::mem::take(&mut sync.news));
        let origin = sync.origin;
        sync.passes += 1;
        sync.next_ns = now + retry_ns;
        let give_up_ns = now + patience_ns(&self.shared.timers);
        let mut convs: BTreeMap<ConvId, u64> = self.inbox.conversations().collect();
        for conv in self.shared.app.conversations(self.profile.who) {
            convs.entry(conv).or_insert(0);
        }
        if !first {
            convs.retain(|conv, _| news.contains(conv));
        }
        if convs.is_empty() {
            self.sync.running = false;
            self.shared.app.synced(self.profile.who, now);
            return;
        }
        self.fetches.extend(convs.into_iter().map(|(conv, after)| Fetch {
            conv,
            after,
            min_cseq: None,
            origin,
            give_up_ns,
        }));
    }
}

fn patience_ns(timers: &Timers) -> u64 {
    nanos(timers.hole_wait * FETCH_PATIENCE)
}
