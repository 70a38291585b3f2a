//! Fold snapshots: `fold/<partition>/<offset>`, sorted, checksummed, never overwritten with something else.
use bytes::Bytes;
use chat_protocol::fold::Fold;

use crate::PortError;
use crate::blobs::Blobs;

/// So many newest snapshots of a partition are kept, besides those that a group may start from.
pub const KEPT: usize = 4;

/// Name of the snapshot of a partition whose next record is at `offset`.
pub fn name(partition: u32, offset: u64) -> String {
    format!("{}{offset:020}", prefix(partition))
}

fn prefix(partition: u32) -> String {
    format!("fold/{partition:05}/")
}

/// Offsets of the snapshots of a partition, ascending.
async fn offsets(blobs: &dyn Blobs, partition: u32) -> Result<Vec<u64>, PortError> {
    let prefix = prefix(partition);
    let names = blobs.list(&prefix).await?;
    Ok(names.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect())
}

/// The fold from the newest readable snapshot at or below `position`, or the empty fold. A damaged snapshot is skipped.
pub async fn load(blobs: &dyn Blobs, partition: u32, position: u64) -> Result<Fold, PortError> {
    for offset in
        offsets(blobs, partition).await?.into_iter().rev().filter(|offset| *offset <= position)
    {
        let Some(bytes) = blobs.get(&name(partition, offset)).await? else { continue };
        match Fold::from_snapshot(&bytes) {
            Ok(fold) if fold.next_offset() == offset => return Ok(fold),
            _ => tracing::warn!(partition, offset, "A fold snapshot is damaged and is skipped."),
        }
    }
    Ok(Fold::new(partition))
}

/// Writes a snapshot and deletes the old ones, but the newest [`KEPT`] and the newest at or below each of `positions`.
pub async fn save(
    blobs: &dyn Blobs,
    partition: u32,
    offset: u64,
    bytes: Bytes,
    positions: &[u64],
) -> Result<(), PortError> {
    blobs.put(&name(partition, offset), bytes).await?;
    let all = offsets(blobs, partition).await?;
    let newest = all.len().saturating_sub(KEPT);
    for old in &all[..newest] {
        let starts_a_group =
            |position: &u64| all.iter().rev().find(|o| *o <= position) == Some(old);
        if !positions.iter().any(starts_a_group) {
            blobs.delete(&name(partition, *old)).await?;
        }
    }
    Ok(())
}
