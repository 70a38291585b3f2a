//! Connections: attempts, openings, closings.
use std::sync::Arc;

use super::row::{Attempt, Closed, ClosedBy, Opened, ResumeOutcome};
use super::{Ledger, NodeActivity, SESSIONS_MAX};

impl Ledger {
    /// A connection attempt started.
    pub fn attempt(&mut self, attempt: Attempt) {
        self.counts.attempts += 1;
        if self.attempts.len() < SESSIONS_MAX {
            self.attempts.push(attempt);
        } else {
            self.counts.rows_dropped += 1;
        }
    }

    /// A connection reached `welcome`.
    pub fn opened(&mut self, opened: Opened) {
        self.counts.opened += 1;
        match opened.resume {
            ResumeOutcome::New => self.counts.resume_new += 1,
            ResumeOutcome::Ok => self.counts.resume_ok += 1,
            ResumeOutcome::Rebased => self.counts.resume_rebased += 1,
            ResumeOutcome::Gap => self.counts.resume_gap += 1,
        }
        let known = self.nodes.iter().position(|known| known.node == opened.node);
        let node = known.unwrap_or_else(|| {
            self.nodes.push(NodeActivity { node: Arc::clone(&opened.node), surfaced: Vec::new() });
            self.nodes.len() - 1
        });
        if let Some(state) = self.devices.get_mut(opened.device as usize) {
            state.conn_epoch = state.conn_epoch.max(opened.conn_epoch);
            state.node = u16::try_from(node).unwrap_or(u16::MAX);
        }
        if self.opened.len() < SESSIONS_MAX {
            self.opened.push(opened);
        } else {
            self.counts.rows_dropped += 1;
        }
    }

    /// A connection, or an attempt at one, ended.
    pub fn closed(&mut self, closed: Closed) {
        if closed.by != ClosedBy::End {
            self.counts.closed += 1;
        }
        if self.closed.len() < SESSIONS_MAX {
            self.closed.push(closed);
        } else {
            self.counts.rows_dropped += 1;
        }
    }
}
