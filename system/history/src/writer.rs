//! Folds a partition of `chat.messages` and writes the accepted messages as rows; commits after the write.
//!
//! It starts from the sequencer's newest snapshot at or below its own position and folds silently up to there, so history and
//! delivery cannot differ in a number. Rows are equal upserts, so a replay changes nothing.
use std::sync::Arc;
use std::time::Duration;

use chat_ports::PortError;
use chat_ports::consumer::{
    FETCH_BYTES, FETCH_WAIT, FoldEntry, Generation, HISTORY_WRITER, Mids, Owned, RETRY_PAUSE,
    snapshots, truncated,
};
use chat_ports::history::Row;
use chat_ports::log::{Record, Topic};
use chat_ports::observe::{Counter, Event, Gauge};
use chat_protocol::fold::{Fold, Input, Verdict};
use chat_protocol::node::LogSend;
use chat_protocol::{Cid, ConvId, DeviceId};
use prost::Message as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Deps;

/// Rows of one write: so many that a slow store takes them within the limit of a call, since a write without an answer is made again.
pub(crate) const WRITE_ROWS: usize = 200;
/// Rows of one write after it failed again and again.
const WRITE_ROWS_MIN: usize = 25;
/// Writes of a partition begin at least this far apart while they are smaller than [`WRITE_ROWS`]: what a store gets together it
/// makes durable together, and nobody waits for these.
const GATHER: Duration = Duration::from_millis(100);
/// Longest pause before rows are written again; it doubles from [`RETRY_PAUSE`] with each refusal in a row. A history that is away gets
/// a few rows a second then, not its usual load several times over.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Declared limit of the gauge `history.lag_ms`.
const LAG_MS_MAX: u64 = 60_000;

/// Keeps a partition until it is lost. A port that does not answer is asked again; a truncated log stops it, loudly.
pub(crate) async fn keep(deps: Arc<Deps>, owned: Owned) {
    let Owned { partition, generation, lost } = owned;
    let run = async {
        loop {
            match Writer::start(&deps, partition).await {
                Ok(mut writer) => return writer.run(&generation, &lost).await,
                Err(error) => {
                    tracing::debug!(partition, %error, "A partition cannot start yet.");
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    };
    if let Some(Err(Truncated(why))) = lost.run_until_cancelled(run).await {
        tracing::error!(partition, %why, "A partition stopped.");
        deps.observer.note(Event::PartitionStopped(HISTORY_WRITER, partition, why));
    }
}

/// The log does not have what comes next any more.
struct Truncated(String);

struct Writer {
    deps: Arc<Deps>,
    partition: u32,
    fold: Fold,
    next: u64,
    rows_from: u64,
    committed: u64,
    mids: Mids,
    entry: FoldEntry,
    committed_at: Instant,
    /// Rows of the next write.
    width: usize,
    rows: Counter,
    refused: Counter,
    lag: Gauge,
}

impl Writer {
    async fn start(deps: &Arc<Deps>, partition: u32) -> Result<Self, PortError> {
        let committed = deps.log.committed(HISTORY_WRITER, Topic::Messages, &[partition]).await?;
        let committed = committed.first().copied().flatten().unwrap_or(0);
        let fold = snapshots::load(&*deps.blobs, partition, committed).await?;
        let next = fold.next_offset();
        if next > 0 {
            deps.observer.sometimes("start-from-snapshot");
        }
        Ok(Self {
            partition,
            next,
            fold,
            rows_from: committed,
            committed,
            mids: deps.mids.of_fold(&[2, deps.view.key.epoch, u64::from(partition), next]),
            entry: deps.folds.entry(HISTORY_WRITER, &deps.view.key.name),
            committed_at: Instant::now(),
            width: WRITE_ROWS,
            rows: deps.observer.counter("history.rows"),
            refused: deps.observer.counter("history.writes_refused"),
            lag: deps.observer.gauge("history.lag_ms", LAG_MS_MAX),
            deps: Arc::clone(deps),
        })
    }

    /// Runs until the caller drops it, or until the log has lost what comes next.
    async fn run(
        &mut self,
        generation: &Generation,
        lost: &CancellationToken,
    ) -> Result<(), Truncated> {
        let log = Arc::clone(&self.deps.log);
        let partition = (Topic::Messages, self.partition);
        while !lost.is_cancelled() {
            match log
                .fetch(partition, self.next, FETCH_BYTES, FETCH_WAIT.min(self.deps.timers.commit))
                .await
            {
                Ok(page) => {
                    let begun = Instant::now();
                    self.take(&page.records).await;
                    if (1..WRITE_ROWS).contains(&page.records.len()) {
                        sleep_until(begun + GATHER).await;
                    }
                }
                Err(error) => {
                    if truncated(&*log, partition, self.next).await {
                        let next = self.next;
                        return Err(Truncated(format!(
                            "offset {next} was truncated and no snapshot stands behind it: {error}"
                        )));
                    }
                    sleep(RETRY_PAUSE).await;
                }
            }
            if self.committed_at.elapsed() >= self.deps.timers.commit {
                self.commit(generation).await;
            }
        }
        Ok(())
    }

    /// Folds a page and writes its rows; returns when they are durable.
    async fn take(&mut self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        let mut rows = Vec::with_capacity(records.len().min(WRITE_ROWS));
        for record in records {
            let Some((row, verdict)) = self.fold(record) else { continue };
            if let Verdict::Accepted { .. } = verdict
                && record.offset >= self.rows_from
            {
                rows.push(row);
                if rows.len() == WRITE_ROWS {
                    self.write(std::mem::take(&mut rows)).await;
                }
            }
        }
        if !rows.is_empty() {
            self.write(rows).await;
        }
        self.next = last.offset + 1;
    }

    /// The row of a record with its verdict; `None` when it is none of ours, which every reader skips alike.
    fn fold(&mut self, record: &Record) -> Option<(Row, Verdict)> {
        let send = LogSend::decode(record.value.clone()).ok()?;
        let conv = ConvId::from_bytes(&send.conv).ok()?;
        let from = DeviceId(send.device);
        conv.peer(from.user())?;
        let cid = Cid::from_bytes(&send.cid)?;
        let (offset, log_ms, client_ms) = (record.offset, record.log_ms, send.client_ms);
        let verdict = self.fold.apply(&Input { offset, log_ms, cid, conv, from, client_ms });
        let (mid, cseq) = match verdict {
            Verdict::Accepted { mid, cseq } | Verdict::Duplicate { mid, cseq, .. } => {
                (self.mids.of(mid), cseq)
            }
            Verdict::Refused(_) => return None,
        };
        let row = Row {
            conv,
            cseq,
            mid,
            cid,
            from,
            kind: send.kind,
            client_ms,
            server_ms: log_ms,
            body: send.body,
        };
        Some((row, verdict))
    }

    /// Writes rows, again and again until history takes them: the partition waits. A history that is too slow for so many in one
    /// call gets fewer, since what it cannot take within a call's time it never takes.
    async fn write(&mut self, rows: Vec<Row>) {
        let (mut left, mut pause) = (&rows[..], RETRY_PAUSE);
        while let Some(oldest) = left.first() {
            let (part, rest) = left.split_at(self.width.min(left.len()));
            let taken = self.deps.history.upsert(part.to_vec()).await;
            self.lag.seen(self.deps.clock.wall_ms().saturating_sub(oldest.server_ms));
            match taken {
                Ok(()) => {
                    self.rows.add(part.len() as u64);
                    self.width = (self.width * 2).min(WRITE_ROWS);
                    (left, pause) = (rest, RETRY_PAUSE);
                }
                Err(error) => {
                    tracing::debug!(partition = self.partition, %error, "History did not take rows; they come again.");
                    self.refused.add(1);
                    self.width = (self.width / 2).max(WRITE_ROWS_MIN);
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    async fn commit(&mut self, generation: &Generation) {
        self.committed_at = Instant::now();
        self.entry.show(self.partition, &self.fold);
        if self.next <= self.committed {
            return;
        }
        let positions = [(self.partition, self.next)];
        let done = self
            .deps
            .log
            .commit(HISTORY_WRITER, Topic::Messages, generation.get(), &positions)
            .await;
        match done {
            Ok(()) => self.committed = self.next,
            Err(error) => {
                tracing::debug!(partition = self.partition, %error, "A position was not committed.");
            }
        }
    }
}
