//! Changes of routes in a bounded ring, for the operator.
use std::collections::VecDeque;

use chat_control::inspect::{RouteChange, RouteView};
use chat_ports::registry::Route;
use chat_protocol::DeviceId;

/// Changes kept; a cursor that falls behind them gets the whole state instead.
pub(super) const CHANGES_KEPT: usize = 131_072;

#[derive(Debug)]
struct Change {
    device: DeviceId,
    route: Option<Route>,
    at_ms: u64,
}

/// The newest changes. Cursors count changes from 1, so that 0 means *nothing seen yet*.
#[derive(Debug, Default)]
pub(super) struct Feed {
    changes: VecDeque<Change>,
    total: u64,
}

impl Feed {
    pub(super) fn note(&mut self, device: DeviceId, route: Option<Route>, at_ms: u64) {
        if self.changes.len() == CHANGES_KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { device, route, at_ms });
        self.total += 1;
    }

    /// The cursor behind the newest change.
    pub(super) fn cursor(&self) -> u64 {
        self.total + 1
    }

    /// Changes since a cursor; `None` when some of them are gone, or for cursor 0.
    pub(super) fn since(&self, cursor: u64) -> Option<Vec<RouteChange>> {
        let oldest = self.cursor() - self.changes.len() as u64;
        let skip = cursor.checked_sub(oldest).filter(|_| cursor > 0)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Some(
            self.changes
                .iter()
                .skip(skip)
                .map(|c| view(c.device, c.route.as_ref(), c.at_ms))
                .collect(),
        )
    }
}

pub(super) fn view(device: DeviceId, route: Option<&Route>, at_ms: u64) -> RouteChange {
    let route = route.map(|r| RouteView {
        node: r.node.name.to_string(),
        node_epoch: r.node.epoch,
        conn_epoch: r.conn_epoch,
    });
    RouteChange { device, route, at_ms }
}
