//! What the node has for a device: pushes, pages, answers.
use std::time::Duration;

use chat_protocol::frame::{self, CaughtUp, Drain, Reject, RejectCode, ServerFrame};
use chat_protocol::{Cid, Mid, close, node};
use tokio::time::Instant;

use super::delivery::{Opening, Pushed, merge};
use super::ending::close_text;
use super::join::Joined;
use super::{Connection, items};
use crate::mailbox::{Item, Marks};

impl Connection {
    pub(super) fn on_mail(&mut self, now: Instant) {
        let mut mail = std::mem::take(&mut self.mail);
        let marks = self.handle.take(&mut mail);
        for item in mail.drain(..) {
            if self.end.is_some() {
                break;
            }
            match item {
                Item::Push(push) => self.on_push(push, now),
                Item::Page(page) => self.on_page(page, now),
                Item::Sent(sent) => self.on_sent(&sent),
                Item::Reject(reject) => self.on_reject(&reject),
                Item::Registered(conn_epoch) => self.on_registered(conn_epoch, now),
                Item::Drain(reconnect_in_ms, deadline_ms) => {
                    let frame = ServerFrame::Drain(Drain { reconnect_in_ms, deadline_ms });
                    self.hub.metrics.drain_out.add(1);
                    self.write(&frame);
                    self.close_at = Some(now + Duration::from_millis(deadline_ms));
                    self.arm(now + Duration::from_millis(deadline_ms));
                }
            }
        }
        // The allocation of a busy connection is kept, the one of a burst is not.
        if mail.capacity() <= 64 {
            self.mail = mail;
        }
        self.on_marks(marks);
    }

    pub(super) fn on_marks(&mut self, marks: Marks) {
        if marks == Marks::default() {
            return;
        }
        self.hub.metrics.dropped_overflow.add(marks.overflowed);
        if let Some(code) = marks.close {
            self.finish(code, close_text(code), false);
            return;
        }
        if marks.register {
            self.register_again();
        }
        if let Joined::Live(live) = &mut self.joined {
            if marks.overflowed > 0 {
                live.delivery.behind();
            }
            if marks.verify {
                live.delivery.verify();
                // Acks on a broken stream may be lost too; repeating them does no harm.
                let recent = live.delivery.recent_marks();
                let owed = self.owed_ack.get_or_insert_default();
                for mark in recent {
                    merge(owed, mark);
                }
            }
        }
    }

    pub(super) fn on_push(&mut self, push: node::Push, now: Instant) {
        let room = self.unwritten() <= self.hub.deps.limits.behind_bytes as u64;
        let Joined::Live(live) = &mut self.joined else {
            self.hub.metrics.dropped_joining.add(1);
            return;
        };
        let metrics = &self.hub.metrics;
        match live.delivery.pushed(push.epoch, push.dseq, room) {
            Pushed::Write => self.deliver(push.dseq, push.payload, now),
            Pushed::Old => metrics.dropped_old.add(1),
            Pushed::Hole => metrics.dropped_hole.add(1),
            Pushed::Epoch => metrics.dropped_epoch.add(1),
            Pushed::Credit => metrics.dropped_credit.add(1),
            Pushed::Joining => metrics.dropped_joining.add(1),
        }
    }

    pub(super) fn on_page(&mut self, mut page: node::Page, now: Instant) {
        let Joined::Live(live) = &mut self.joined else { return };
        match live.delivery.page_opens(&page, now) {
            Opening::Welcome(resume) => self.welcome(&mut page, resume),
            Opening::Reset { lost } => {
                let reset = frame::Reset {
                    epoch: page.epoch,
                    next_dseq: page.after.saturating_add(1),
                    lost,
                };
                self.hub.metrics.reset_out.add(1);
                self.hub.deps.observer.sometimes(if lost {
                    "resume-gap"
                } else {
                    "resume-rebased"
                });
                self.write(&ServerFrame::Reset(reset));
                self.owed_ack = None;
                let t_ms = self.hub.deps.clock.wall_ms();
                self.barrier = Some(t_ms);
                self.ping(t_ms);
            }
            Opening::Continue => {}
            Opening::Skip => return,
            Opening::Refused => {
                self.shed("the store does not answer");
                return;
            }
        }
        for item in page.items {
            let room = self.unwritten() <= self.hub.deps.limits.behind_bytes as u64;
            let Joined::Live(live) = &mut self.joined else { return };
            match live.delivery.paged(item.dseq, room) {
                Pushed::Write => self.deliver(item.dseq, item.payload, now),
                Pushed::Old => {}
                _ => break,
            }
            if self.end.is_some() {
                return;
            }
        }
        let Joined::Live(live) = &mut self.joined else { return };
        live.delivery.page_ends(page.top);
        if let Some(dseq) = live.delivery.take_caught_up() {
            self.hub.metrics.caught_up_out.add(1);
            self.write(&ServerFrame::CaughtUp(CaughtUp { dseq }));
        }
    }

    pub(super) fn deliver(&mut self, dseq: u64, payload: bytes::Bytes, now: Instant) {
        let Joined::Live(live) = &mut self.joined else { return };
        let Some((frame, mark)) = items::open(dseq, payload, live.device.user()) else {
            // It cannot be shown and cannot be skipped without breaking the numbering.
            self.hub.metrics.undecodable_items.add(1);
            self.finish(close::INTERNAL, "an item of the queue cannot be read", false);
            return;
        };
        live.delivery.wrote(dseq, mark, now);
        if matches!(frame, ServerFrame::Receipt(_)) {
            self.hub.metrics.receipt_out.add(1);
            self.write_held(&frame, now);
        } else {
            self.hub.metrics.deliver_out.add(1);
            self.write(&frame);
        }
    }

    pub(super) fn on_sent(&mut self, sent: &node::Sent) {
        let (Some(cid), Some(mid)) = (Cid::from_bytes(&sent.cid), Mid::from_bytes(&sent.mid))
        else {
            return;
        };
        let frame =
            frame::Sent { cid, mid, cseq: sent.cseq, server_ms: sent.server_ms, dup: sent.dup };
        self.hub.metrics.sent_out.add(1);
        self.write(&ServerFrame::Sent(frame));
    }

    pub(super) fn on_reject(&mut self, reject: &node::Reject) {
        let Some(cid) = Cid::from_bytes(&reject.cid) else { return };
        let hint = u64::from(reject.retry_after_ms);
        self.write_reject(Reject {
            cid,
            attempt: reject.attempt,
            code: RejectCode::from_wire(reject.code),
            retryable: reject.retryable,
            effect: if reject.effect_unknown {
                frame::Effect::Unknown
            } else {
                frame::Effect::None
            },
            retry_after_ms: (hint > 0).then_some(hint),
        });
    }

    pub(super) fn write_reject(&mut self, reject: Reject) {
        self.hub.metrics.reject_out.add(1);
        self.write(&ServerFrame::Reject(reject));
    }
}
