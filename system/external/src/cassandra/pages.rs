//! Pages of a conversation, across the borders of its segments.
use chat_ports::PortError;
use chat_ports::history::{PageRequest, Row};
use chat_protocol::ConvId;
use scylla::statement::prepared::PreparedStatement;

use super::rows::{self, segment};
use super::way::Way;

/// Rows of one page; a larger limit is cut to it.
pub const PAGE_ROWS_MAX: u32 = 1_000;
/// Segments one page looks into above the first. Without missing rows it takes two; a page that ends here is short, and one that
/// found no row in so many is refused.
pub const SEGMENTS_MAX: i32 = 64;

/// A page as it grows.
pub(super) struct Page<'a> {
    way: &'a Way<'a>,
    conv: ConvId,
    backward: bool,
    /// Exclusive start. A column is signed; no row lies above its range.
    from: i64,
    limit: usize,
    rows: Vec<Row>,
}

impl<'a> Page<'a> {
    pub(super) fn of(way: &'a Way<'a>, request: PageRequest) -> Self {
        let PageRequest { conv, backward, from, limit } = request;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let limit = limit.min(PAGE_ROWS_MAX) as usize;
        Self { way, conv, backward, from, limit, rows: Vec::new() }
    }

    pub(super) async fn read(mut self) -> Result<Vec<Row>, PortError> {
        if self.limit == 0 {
            return Ok(self.rows);
        }
        let whole = if self.backward { self.backward().await? } else { self.forward().await? };
        // An empty page says that there is no further row, so it must be true.
        if whole || !self.rows.is_empty() {
            Ok(self.rows)
        } else {
            Err(PortError::Refused(format!("no row of the page in {SEGMENTS_MAX} segments")))
        }
    }

    /// Answers whether it looked wherever a row may be, or has all it wants.
    async fn backward(&mut self) -> Result<bool, PortError> {
        let statements = self.way.statements();
        let Some(top) = self.from.checked_sub(1).filter(|top| *top >= 0) else { return Ok(true) };
        let mut segments = Vec::new();
        if segment(top) > 0 {
            segments = self.segments(&statements.segments_down, segment(top)).await?;
        }
        let whole = segments.len() < SEGMENTS_MAX as usize;
        segments.extend(whole.then_some(0));
        self.take(&statements.messages_below, segments).await?;
        Ok(whole || self.is_full())
    }

    /// Answers whether it looked wherever a row may be, or has all it wants.
    async fn forward(&mut self) -> Result<bool, PortError> {
        let statements = self.way.statements();
        let Some(first) = self.from.checked_add(1) else { return Ok(true) };
        if segment(first) == 0 {
            self.take(&statements.messages_above, vec![0]).await?;
            if self.is_full() {
                return Ok(true);
            }
        }
        let segments = self.segments(&statements.segments_up, segment(first).max(1)).await?;
        let whole = segments.len() < SEGMENTS_MAX as usize;
        self.take(&statements.messages_above, segments).await?;
        Ok(whole || self.is_full())
    }

    /// The segments above the first that exist from one on, in the order of the statement.
    async fn segments(
        &self,
        statement: &PreparedStatement,
        from: i64,
    ) -> Result<Vec<i64>, PortError> {
        let mut segments = Vec::new();
        let values = (&self.conv.to_bytes()[..], from, SEGMENTS_MAX);
        self.way.read(statement, values, |(segment,): (i64,)| segments.push(segment)).await?;
        Ok(segments)
    }

    /// Reads segment after segment until the page is full.
    async fn take(
        &mut self,
        statement: &PreparedStatement,
        segments: Vec<i64>,
    ) -> Result<(), PortError> {
        let (way, conv, bytes) = (self.way, self.conv, self.conv.to_bytes());
        for segment in segments {
            let missing = self.limit.saturating_sub(self.rows.len());
            let limit = i32::try_from(missing).unwrap_or(i32::MAX);
            if limit == 0 {
                return Ok(());
            }
            let values = (&bytes[..], segment, self.from, limit);
            let take = |stored| self.rows.push(rows::row(conv, stored));
            way.read(statement, values, take).await?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit
    }
}
