//! The delivery rule of one device, without sockets: what is written, what is dropped, what is pulled, what is acknowledged.
//!
//! Only `dseq = sent + 1` of the present queue epoch is written. Credit is `UNACKED_MAX` items; beyond it pushes are
//! dropped, because they are stored, and pulled once half of the window is free.
use std::collections::VecDeque;
use std::time::Duration;

use chat_protocol::limits::{PAGE_ITEMS, UNACKED_MAX};
use chat_protocol::node::{self, Resume};
use tokio::time::Instant;

use crate::deps::HoleRule;

/// Marks of the newest acks, kept to be repeated after a broken stream.
const RECENT_MARKS: usize = 16;

/// What becomes of a pushed item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is next: write it.
    Write,
    /// The device has it already.
    Old,
    /// Something before it is missing.
    Hole,
    /// It has the number of another queue epoch.
    Epoch,
    /// The device is behind.
    Credit,
    /// The device has not been welcomed yet.
    Joining,
}

/// What a page says before its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The first page: welcome the device.
    Welcome(Resume),
    /// The queue was renumbered: tell the device.
    Reset {
        /// Items were lost.
        lost: bool,
    },
    /// It goes on where the last one ended.
    Continue,
    /// The store did not answer the first pull: the connection cannot be served.
    Refused,
    /// Its items are of no use: another pull will follow if one is needed.
    Skip,
}

/// A pull to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The cursor is the device's own and is judged.
    pub(crate) resume: bool,
    /// Epoch and position, or none for a new device.
    pub(crate) cursor: Option<(u64, u64)>,
    /// Items at most.
    pub(crate) limit: u32,
}

/// A device acknowledged what it was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BeyondSent;

/// State of the delivery to one device.
#[derive(Debug)]
pub(crate) struct Delivery {
    rule: HoleRule,
    again: Duration,
    joined: bool,
    epoch: u64,
    sent: u64,
    acked: u64,
    /// Messages among what was sent and not acknowledged.
    owed: VecDeque<(u64, node::Mark)>,
    recent: VecDeque<node::Mark>,
    /// Newest epoch that was heard of, and its highest position: what is between it and `sent` must still come. It is kept from
    /// the first push on, because one that comes before the page that was read before it is in neither.
    heard: (u64, u64),
    /// The `caught_up` frame is due once this much was sent.
    top_at_join: u64,
    caught_up: bool,
    want: bool,
    judge: bool,
    asked: Option<Instant>,
    not_before: Option<Instant>,
    progress: Instant,
}

impl Delivery {
    /// Before the first page. A pull without answer is repeated after `again`.
    pub(crate) fn new(
        rule: HoleRule,
        again: Duration,
        cursor: Option<(u64, u64)>,
        now: Instant,
    ) -> Self {
        let (epoch, dseq) = cursor.unwrap_or((0, 0));
        Self {
            rule,
            again,
            joined: false,
            epoch,
            sent: dseq,
            acked: dseq,
            owed: VecDeque::new(),
            recent: VecDeque::new(),
            heard: (0, 0),
            top_at_join: 0,
            caught_up: false,
            want: true,
            judge: true,
            asked: None,
            not_before: None,
            progress: now,
        }
    }

    /// Queue epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Highest position written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Highest position acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Items written and not acknowledged.
    pub(crate) fn unacked(&self) -> u64 {
        self.sent.saturating_sub(self.acked)
    }

    /// Since when items wait for an ack that makes no progress; `None` when none waits.
    pub(crate) fn stuck_since(&self) -> Option<Instant> {
        (self.unacked() > 0).then_some(self.progress)
    }

    fn credit(&self) -> bool {
        self.unacked() < u64::from(UNACKED_MAX)
    }

    /// What becomes of a push. `room` is false when the socket holds too many unwritten bytes.
    pub(crate) fn pushed(&mut self, epoch: u64, dseq: u64, room: bool) -> Pushed {
        self.heard = self.heard.max((epoch, dseq));
        if !self.joined {
            return Pushed::Joining;
        }
        if epoch != self.epoch {
            if epoch > self.epoch {
                self.want = true;
                self.judge = true;
            }
            return Pushed::Epoch;
        }
        if dseq <= self.sent {
            return Pushed::Old;
        }
        if dseq > self.sent + 1 && self.rule == HoleRule::Pull {
            self.want = true;
            return Pushed::Hole;
        }
        if !room || !self.credit() {
            self.want = true;
            return Pushed::Credit;
        }
        Pushed::Write
    }

    /// Notes that an item was written; `mark` is the receipt that its ack will earn.
    pub(crate) fn wrote(&mut self, dseq: u64, mark: Option<node::Mark>, now: Instant) {
        if self.unacked() == 0 {
            self.progress = now;
        }
        self.sent = dseq;
        if let Some(mark) = mark {
            self.owed.push_back((dseq, mark));
        }
    }

    /// Judges the head of a page.
    pub(crate) fn page_opens(&mut self, page: &node::Page, now: Instant) -> Opening {
        let resume = page.resume();
        if self.asked.take().is_none() {
            // The answer to a pull that was given up for lost: its items are as good as any, its judgement is not.
            let same = self.joined && resume == Resume::Continued && page.epoch == self.epoch;
            return if same { Opening::Continue } else { Opening::Skip };
        }
        if resume == Resume::Unavailable {
            if !self.joined {
                return Opening::Refused;
            }
            self.want = true;
            self.not_before = Some(now + self.again);
            return Opening::Skip;
        }
        if !self.joined {
            self.joined = true;
            self.renumber(page, now);
            self.top_at_join = page.top;
            return Opening::Welcome(resume);
        }
        if resume == Resume::Continued || resume == Resume::Ok {
            if page.epoch != self.epoch {
                self.want = true;
                self.judge = true;
                return Opening::Skip;
            }
            self.judge = false;
            self.believe(page);
            return Opening::Continue;
        }
        self.renumber(page, now);
        self.top_at_join = page.top;
        Opening::Reset { lost: resume != Resume::Rebased }
    }

    fn renumber(&mut self, page: &node::Page, now: Instant) {
        self.judge = false;
        self.epoch = page.epoch;
        self.sent = page.after;
        self.acked = page.after;
        self.believe(page);
        self.owed.clear();
        self.progress = now;
    }

    /// Takes a page for the state of the queue. If a newer epoch was heard of, the queue was renumbered after the page was
    /// read: then the cursor is judged once more, and that answer is believed.
    fn believe(&mut self, page: &node::Page) {
        if self.heard.0 > page.epoch {
            self.want = true;
            self.judge = true;
            self.heard = (page.epoch, page.top);
        } else {
            self.heard = self.heard.max((page.epoch, page.top));
        }
    }

    /// Skips everything up to `top`, as if the device had it.
    pub(crate) fn skip_to(&mut self, top: u64) {
        self.sent = top;
        self.acked = top;
    }

    /// What becomes of an item of a page.
    pub(crate) fn paged(&mut self, dseq: u64, room: bool) -> Pushed {
        if dseq <= self.sent {
            return Pushed::Old;
        }
        if dseq > self.sent + 1 {
            // The queue lost what is between: let the store judge the cursor, which tells the device.
            self.want = true;
            self.judge = true;
            return Pushed::Hole;
        }
        if !room || !self.credit() {
            return Pushed::Credit;
        }
        Pushed::Write
    }

    /// After the items of a page: whether another one is needed.
    pub(crate) fn page_ends(&mut self, top: u64) {
        self.heard = self.heard.max((self.epoch, top));
        if !self.judge {
            self.want = self.sent < self.heard.1;
        }
    }

    /// The position to report in `caught_up`, once.
    pub(crate) fn take_caught_up(&mut self) -> Option<u64> {
        if self.joined && !self.caught_up && self.sent >= self.top_at_join && self.asked.is_none() {
            self.caught_up = true;
            return Some(self.sent);
        }
        None
    }

    /// What was pushed may have been lost on the way.
    pub(crate) fn verify(&mut self) {
        self.want = true;
        self.asked = None;
        self.not_before = None;
    }

    /// Pulls what a full mailbox or socket dropped, whatever the rule on holes.
    pub(crate) fn behind(&mut self) {
        self.want = true;
    }

    /// The pull that is due, if one is; it counts as asked. `repeated` tells that an answer was given up for lost.
    pub(crate) fn take_wanted(&mut self, room: bool, now: Instant) -> Option<(Wanted, bool)> {
        let late = self.asked.is_some_and(|asked| now >= asked + self.again);
        if late {
            self.asked = None;
            self.want = true;
        }
        if !self.want || self.asked.is_some() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let window = u64::from(UNACKED_MAX);
        let free = window.saturating_sub(self.unacked());
        if !self.judge && (free < window / 2 || !room) {
            return None;
        }
        self.want = false;
        self.not_before = None;
        self.asked = Some(now);
        let limit = if self.judge {
            PAGE_ITEMS
        } else {
            PAGE_ITEMS.min(u32::try_from(free).unwrap_or(PAGE_ITEMS))
        };
        let position = if self.judge { self.acked } else { self.sent };
        let cursor = (self.joined || self.epoch > 0).then_some((self.epoch, position));
        Some((Wanted { resume: self.judge, cursor, limit }, late))
    }

    /// The pull could not be sent: it is due again after a pause.
    pub(crate) fn not_asked(&mut self, now: Instant) {
        self.asked = None;
        self.want = true;
        self.not_before = Some(now + self.again);
    }

    /// When the state must be looked at again, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.asked, self.not_before) {
            (Some(asked), _) => Some(asked + self.again),
            (None, Some(at)) if self.want => Some(at),
            _ => None,
        }
    }

    /// Takes an ack in; answers the marks that it earns.
    pub(crate) fn acked_up_to(
        &mut self,
        dseq: u64,
        now: Instant,
    ) -> Result<Vec<node::Mark>, BeyondSent> {
        if dseq > self.sent {
            return Err(BeyondSent);
        }
        if dseq <= self.acked {
            return Ok(Vec::new());
        }
        self.acked = dseq;
        self.progress = now;
        Ok(self.marks_up_to(dseq))
    }

    /// Takes out the marks of everything up to a position, the highest of each conversation.
    pub(crate) fn marks_up_to(&mut self, dseq: u64) -> Vec<node::Mark> {
        let mut marks: Vec<node::Mark> = Vec::new();
        while self.owed.front().is_some_and(|(at, _)| *at <= dseq) {
            let Some((_, mark)) = self.owed.pop_front() else { break };
            merge(&mut marks, mark);
        }
        for mark in &marks {
            self.recent.retain(|known| known.conv != mark.conv);
            if self.recent.len() >= RECENT_MARKS {
                self.recent.pop_front();
            }
            self.recent.push_back(mark.clone());
        }
        marks
    }

    /// Marks of the newest acks, which may have been lost with a stream; marks merge by maximum, so repeating does no harm.
    pub(crate) fn recent_marks(&self) -> Vec<node::Mark> {
        self.recent.iter().cloned().collect()
    }
}

/// Adds a mark to marks of one device, which are at most one a conversation.
pub(crate) fn merge(marks: &mut Vec<node::Mark>, mark: node::Mark) {
    match marks.iter_mut().find(|known| known.conv == mark.conv) {
        Some(known) => known.delivered = known.delivered.max(mark.delivered),
        None => marks.push(mark),
    }
}

#[cfg(test)]
mod tests;
