//! From `hello` to `welcome`: token, route, first page.
use chat_protocol::frame::{Hello, PROTO, ResumeOutcome, ServerFrame, Welcome};
use chat_protocol::limits::UNACKED_MAX;
use chat_protocol::node::{self, Resume};
use chat_protocol::{DeviceId, close};
use tokio::time::Instant;

use super::delivery::Delivery;
use super::{Connection, Live, OFFER_AGAIN};
use crate::deps::CursorScope;
use crate::hub::millis;

/// How far a connection has come.
pub(super) enum Joined {
    /// Nothing was said yet.
    AwaitsHello {
        /// No longer than this.
        until: Instant,
    },
    /// The registry is asked.
    Registering {
        /// Who connects.
        device: DeviceId,
        /// Where the device stopped.
        cursor: Option<(u64, u64)>,
        /// No longer than this.
        until: Instant,
    },
    /// Registered; the first page is asked for, or the device is welcomed.
    Live(Box<Live>),
}

impl Connection {
    pub(super) fn on_hello(&mut self, hello: &Hello, now: Instant) {
        let Joined::AwaitsHello { .. } = self.joined else {
            return self.finish(close::PROTOCOL, "a second hello", false);
        };
        if hello.proto != PROTO {
            return self.finish(close::VERSION, "another protocol version", false);
        }
        let now_s = self.hub.deps.clock.wall_ms() / 1_000;
        if self.hub.deps.token_key.check(&hello.token, now_s) != Ok(hello.device) {
            return self.finish(
                close::UNAUTHORISED,
                "the token is not good for this device",
                false,
            );
        }
        if !self.hub.accepting() {
            return self.finish(close::RESTART, "the node leaves", false);
        }
        let lease = *self.hub.deps.view.lease.borrow();
        let fences = self.hub.deps.policies.fence == crate::deps::FenceRule::SelfFence;
        if self.hub.outage()
            || (fences && lease.renewed.elapsed() > self.hub.deps.timers.self_fence)
        {
            return self.shed("the registry does not answer");
        }
        let device = hello.device;
        // Somewhat less than a client waits, so that it hears the reason.
        let until = now + self.hub.deps.timers.connect * 4 / 5;
        let cursor = hello
            .resume
            .filter(|cursor| cursor.epoch > 0)
            .map(|cursor| (cursor.epoch, cursor.dseq));
        self.joined = Joined::Registering { device, cursor, until };
        self.arm(until);
        if !self.hub.offer_register(device, self.handle.conn) {
            self.shed("no sessions node is reachable");
        }
    }

    /// The registry answered.
    pub(super) fn on_registered(&mut self, conn_epoch: Option<u64>, now: Instant) {
        match &mut self.joined {
            Joined::AwaitsHello { .. } => {}
            Joined::Registering { device, cursor, until } => {
                let Some(conn_epoch) = conn_epoch else {
                    return self.shed("the registry does not answer");
                };
                let (device, until, mut cursor) = (*device, *until, *cursor);
                let known = self.hub.serve_device(device);
                let skip = self.hub.deps.policies.cursor == CursorScope::Node
                    && !known
                    && cursor.is_some();
                if skip {
                    cursor = None;
                }
                self.handle.set_device(device);
                if let Some(previous) = self.hub.claim_device(device, self.handle.conn) {
                    previous.close(close::DISPLACED);
                }
                self.hub.count_registered(true);
                let again = self.hub.deps.timers.store_call * 4;
                let live = Live {
                    device,
                    conn_epoch,
                    delivery: Delivery::new(self.hub.deps.policies.hole, again, cursor, now),
                    relay_acked: 0,
                    welcome_until: Some(until),
                    register_at: None,
                };
                self.skips_backlog = skip;
                self.joined = Joined::Live(Box::new(live));
            }
            Joined::Live(live) => {
                if let Some(conn_epoch) = conn_epoch {
                    live.conn_epoch = conn_epoch;
                    live.register_at = None;
                    // Nothing was pushed while the route was missing.
                    live.delivery.behind();
                } else {
                    live.register_at = Some(now + OFFER_AGAIN);
                    self.arm(now + OFFER_AGAIN);
                }
            }
        }
    }

    /// Asks for the route again, after the registry lost it.
    pub(super) fn register_again(&mut self) {
        let now = Instant::now();
        let Joined::Live(live) = &mut self.joined else { return };
        // Repeated until an answer comes.
        let patience = if self.hub.offer_register(live.device, self.handle.conn) {
            self.hub.deps.timers.store_call * 4
        } else {
            OFFER_AGAIN
        };
        live.register_at = Some(now + patience);
        self.arm(now + patience);
    }

    /// Welcomes the device with the first page's judgement.
    pub(super) fn welcome(&mut self, page: &mut node::Page, resume: Resume) {
        let Joined::Live(live) = &mut self.joined else { return };
        live.welcome_until = None;
        let mut outcome = match resume {
            Resume::New | Resume::Continued | Resume::Unavailable => ResumeOutcome::New,
            Resume::Ok => ResumeOutcome::Ok,
            Resume::Rebased => ResumeOutcome::Rebased,
            Resume::Lost => ResumeOutcome::Gap,
        };
        if self.skips_backlog {
            // The cursor means nothing here: the device goes on behind the newest item.
            live.delivery.skip_to(page.top);
            page.items.clear();
            outcome = ResumeOutcome::Ok;
        }
        live.relay_acked = live.delivery.acked();
        match outcome {
            ResumeOutcome::Rebased => self.hub.deps.observer.sometimes("resume-rebased"),
            ResumeOutcome::Gap => self.hub.deps.observer.sometimes("resume-gap"),
            ResumeOutcome::New | ResumeOutcome::Ok => {}
        }
        let frame = Welcome {
            conn_epoch: live.conn_epoch,
            node: self.hub.deps.view.key.name.to_string(),
            resume: outcome,
            epoch: page.epoch,
            next_dseq: live.delivery.sent() + 1,
            hb_ms: millis(self.hub.deps.timers.ping),
            max_unacked: UNACKED_MAX,
            reconnect_window_ms: self.hub.reconnect_window_ms(),
            server_ms: self.hub.deps.clock.wall_ms(),
        };
        self.hub.metrics.welcome_out.add(1);
        self.write(&ServerFrame::Welcome(frame));
    }
}
