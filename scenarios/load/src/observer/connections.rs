//! Connections of devices: planned coming and going, attempts, and the side of the blast.
use std::sync::{Arc, PoisonError};

use chat_client::app::{Attempt, Cause, Closed, EndedBy, Failure, Opened};
use chat_protocol::close::{Reaction, reaction};
use chat_protocol::frame::ResumeOutcome;
use storm_record::ledger::row::{self, ClosedBy, DelayRule};
use storm_workload::DeviceIx;

use super::{State, index};
use crate::engine::BlastSet;
use crate::meters::Measure;

impl State {
    /// Splits series from now on.
    pub(crate) fn set_blast(&mut self, blast: Option<BlastSet>) {
        for (device, ix) in self.devices.iter_mut().zip(0..) {
            device.affected = blast.as_ref().is_some_and(|blast| {
                blast.devices.contains(&ix)
                    || device.node.as_ref().is_some_and(|node| blast.nodes.contains(&**node))
            });
        }
        self.blast = blast;
    }

    /// The plan has a device come back now.
    pub(crate) fn returns(&mut self, ix: DeviceIx, now: u64, first: bool) {
        let device = &mut self.devices[index(ix.0)];
        device.planned = true;
        device.return_ns = now;
        device.returning = !first;
        device.rule = Some((DelayRule::Planned, Some(now)));
        self.totals.planned += 1;
    }

    /// The plan has a device leave now.
    pub(crate) fn leaves(&mut self, ix: DeviceIx) {
        let device = &mut self.devices[index(ix.0)];
        if std::mem::take(&mut device.planned) {
            self.totals.planned -= 1;
        }
    }

    /// Greatest wait that the policy of the reference client may draw at an attempt.
    fn capped_ns(&self, exponent: u32) -> u64 {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        nanos(self.timers.backoff_base)
            .saturating_mul(1 << exponent.min(32))
            .min(nanos(self.timers.backoff_cap))
    }

    pub(super) fn open(&mut self, who: u32, opened: &Opened<'_>, now: u64) {
        let at = self.nodes.iter().position(|node| **node == *opened.node).unwrap_or_else(|| {
            self.nodes.push(opened.node.into());
            self.nodes.len() - 1
        });
        let node = Arc::clone(&self.nodes[at]);
        let affected = self.blast.as_ref().is_some_and(|blast| blast.nodes.contains(opened.node));
        let device = &mut self.devices[index(who)];
        device.node = Some(Arc::clone(&node));
        device.node_ix = u16::try_from(at).unwrap_or(u16::MAX);
        device.opened_ns = now;
        device.conn_epoch = opened.conn_epoch;
        device.affected |= affected;
        device.skipped = false;
        device.window_ns = opened.window_ns;
        device.drain = None;
        device.rule = None;
        if !std::mem::replace(&mut device.connected, true) {
            self.totals.connected += 1;
        }
        self.record.recorder.counts.welcomes += 1;
        let side = self.side([who, who]);
        let open = self.since(opened.due_ns, opened.open_ns);
        self.sample(Measure::Open, None, side, opened.due_ns, open);
        let welcome = self.since(opened.due_ns, now);
        self.sample(Measure::Welcome, None, side, opened.due_ns, welcome);
        self.view(who, Some(Arc::clone(&node)), opened.conn_epoch);
        self.record.ledger.opened(row::Opened {
            device: who,
            node,
            conn_epoch: opened.conn_epoch,
            offered: opened.offered.map(|cursor| (cursor.epoch, cursor.dseq)),
            resume: match opened.resume {
                ResumeOutcome::New => row::ResumeOutcome::New,
                ResumeOutcome::Ok => row::ResumeOutcome::Ok,
                ResumeOutcome::Rebased => row::ResumeOutcome::Rebased,
                ResumeOutcome::Gap => row::ResumeOutcome::Gap,
            },
            window_ns: opened.window_ns,
            at_ns: now,
        });
    }

    fn view(&self, who: u32, node: Option<Arc<str>>, conn_epoch: u64) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = self.view_at.get(&who).and_then(|at| views.get_mut(*at)) {
            view.node = node;
            view.conn_epoch = conn_epoch;
        }
    }

    pub(super) fn close(&mut self, who: u32, closed: &Closed, now: u64) {
        self.record.recorder.counts.closes += 1;
        let ending = self.ending;
        let device = &mut self.devices[index(who)];
        let by = match closed.by {
            EndedBy::Device if closed.drain_due_ns.is_some() => ClosedBy::Drained,
            EndedBy::Device if ending => ClosedBy::End,
            EndedBy::Device => ClosedBy::Left,
            EndedBy::Patience => ClosedBy::Patience,
            EndedBy::Server => ClosedBy::Server,
            EndedBy::Socket | EndedBy::Protocol => ClosedBy::Socket,
        };
        let reacts = match closed.by {
            EndedBy::Server => reaction(closed.code),
            EndedBy::Patience | EndedBy::Socket => Reaction::Window,
            EndedBy::Device | EndedBy::Protocol => Reaction::Nothing,
        };
        device.node = None;
        for send in device.waiting.drain(..) {
            self.gaps.left(send.partition, now);
        }
        if std::mem::take(&mut device.connected) {
            self.totals.connected -= 1;
        }
        if std::mem::take(&mut device.caught_up) {
            self.totals.caught_up -= 1;
        }
        if by != ClosedBy::Left && by != ClosedBy::End {
            device.cut_ns.get_or_insert(now);
        }
        device.rule = Some(match (device.drain, reacts) {
            (Some((told_ns, wait_ns)), _) => (DelayRule::Hint(wait_ns), Some(told_ns)),
            (None, Reaction::Window | Reaction::Restart) => {
                (DelayRule::Window(device.window_ns), None)
            }
            (None, _) => (DelayRule::Backoff, None),
        });
        self.view(who, None, closed.conn_epoch);
        self.record.ledger.closed(row::Closed {
            device: who,
            conn_epoch: closed.conn_epoch,
            code: closed.code,
            by,
            last_frame_ns: now.saturating_sub(closed.last_frame_age_ns),
            session_ns: closed.session_ns,
            terminal: reacts == Reaction::Terminal,
            at_ns: now,
        });
    }

    pub(super) fn attempt(&mut self, who: u32, attempt: &Attempt, now: u64) {
        self.record.recorder.counts.connects += 1;
        let (mut rule, from_ns) =
            self.devices[index(who)].rule.take().unwrap_or((DelayRule::Backoff, None));
        if attempt.cause == Cause::Join {
            rule = DelayRule::Planned;
        }
        if let DelayRule::Window(window_ns) = rule
            && attempt.index > 0
        {
            // Sessions that keep breaking early widen the window as the backoff would.
            rule = DelayRule::Window(window_ns.max(self.capped_ns(attempt.index)));
        }
        let decided_ns = from_ns.unwrap_or(attempt.since_ns);
        self.record.ledger.attempt(row::Attempt {
            device: who,
            index: attempt.index,
            decided_ns,
            delay_ns: attempt.due_ns.saturating_sub(decided_ns),
            started_ns: now,
            rule,
        });
    }

    pub(super) fn attempt_failed(
        &mut self,
        who: u32,
        failure: Failure,
        retry_after_ns: Option<u64>,
        now: u64,
    ) {
        self.record.recorder.counts.refused_handshakes += u64::from(failure == Failure::Http(503));
        self.devices[index(who)].rule = Some(
            retry_after_ns
                .map_or((DelayRule::Backoff, None), |wait| (DelayRule::Hint(wait), Some(now))),
        );
        let (code, by) = match failure {
            Failure::Http(_) => (None, ClosedBy::Server),
            Failure::Closed(code) => {
                (code, if code.is_some() { ClosedBy::Server } else { ClosedBy::Socket })
            }
            Failure::Socket | Failure::Timeout | Failure::Protocol | Failure::Token => {
                (None, ClosedBy::Socket)
            }
        };
        self.record.ledger.closed(row::Closed {
            device: who,
            conn_epoch: 0,
            code,
            by,
            last_frame_ns: now,
            session_ns: 0,
            terminal: matches!(failure, Failure::Closed(Some(code)) if reaction(Some(code)) == Reaction::Terminal),
            at_ns: now,
        });
    }
}
