//! What every reader of the event log needs: group membership, fold snapshots, and the view of its folds.
//!
//! - [`Member`] beats for a group and starts and stops one task a partition.
//! - [`snapshots`] loads, writes and clears fold snapshots.
//! - [`FoldViews`] what the readers of `chat.messages` show of their folds.
//! - [`MidRule`] where a reader takes the `mid` of an accepted record from.
mod group;
mod mids;
pub mod snapshots;
mod views;

pub use group::{Generation, Member, Owned};
pub use mids::{MidRule, Mids};
pub use views::{FoldEntry, FoldState, FoldViews};

use std::time::Duration;

use crate::log::{EventLog, Partition};

/// Group that orders `chat.messages` and fans it out.
pub const SEQUENCER: &str = "sequencer";
/// Group that merges `chat.receipts`.
pub const RECEIPTS: &str = "receipts";
/// Group that writes `chat.messages` to history.
pub const HISTORY_WRITER: &str = "history-writer";

/// Bytes a reader asks for in one fetch.
pub const FETCH_BYTES: usize = 256 * 1024;
/// How long a fetch waits for its first record.
pub const FETCH_WAIT: Duration = Duration::from_millis(500);
/// Pause of a reader whose port did not answer.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Whether the log has truncated what stood at `offset`; `false` also when the log does not answer.
pub async fn truncated(log: &dyn EventLog, partition: Partition, offset: u64) -> bool {
    match log.fetch(partition, u64::MAX, 1, Duration::ZERO).await {
        Ok(page) => offset < page.start,
        Err(_) => false,
    }
}
