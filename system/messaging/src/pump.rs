//! Feeds one partition of the log into the relay slots: fetch, hand to the record handler, offer, commit what is confirmed.
//!
//! A partition starts at the smallest of its committed position and its watermarks in the slots, and starts again when a slot
//! forgot something. A handler sees every record from there on, so effects repeat at most, and slots refuse the repeats.
//!
//! A store that was wiped has no watermarks: there a partition starts at its committed position, and what lies before is for
//! devices to read from history. A position of messages is therefore committed only when history has written that far.
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use chat_ports::PortError;
use chat_ports::blobs::Blobs;
use chat_ports::consumer::{
    FETCH_BYTES, FETCH_WAIT, Generation, HISTORY_WRITER, Owned, RETRY_PAUSE, SEQUENCER, snapshots,
    truncated,
};
use chat_ports::log::{EventLog, Fetched, Record, Topic};
use chat_ports::observe::{Counter, Event, Gauge, Observer};
use chat_ports::relay_queue::RelayQueue;
use chat_ports::streams::Peers;
use chat_ports::streams::kinds::EnqueueStream;
use chat_protocol::ids::SLOTS;
use chat_protocol::limits::Timers;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::desk::{Arrival, Desk};
use crate::slots::{Change, Slots};

/// A handler may be so far ahead of what the slots confirmed; then it stops.
pub(crate) const AHEAD_BYTES: usize = 8 * 1024 * 1024;
/// No further page is fetched above this, so that one more page cannot pass [`AHEAD_BYTES`] in ordinary traffic.
const FETCH_BELOW: usize = AHEAD_BYTES - 4 * FETCH_BYTES;
/// What the partitions of one group share.
pub(crate) struct PumpDeps {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) group: &'static str,
    pub(crate) topic: Topic,
    pub(crate) queue: Arc<dyn RelayQueue>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) timers: Timers,
    pub(crate) partitions: u32,
    pub(crate) observer: Observer,
    pub(crate) peers: Peers<EnqueueStream>,
    pub(crate) desk: Desk,
}

impl PumpDeps {
    /// Up to where history has what the partition brings; everything of what it never gets. `None` when the log does not say.
    async fn in_history(&self, partition: u32) -> Option<u64> {
        if self.topic != Topic::Messages {
            return Some(u64::MAX);
        }
        let positions = self.log.committed(HISTORY_WRITER, self.topic, &[partition]).await.ok()?;
        Some(positions.first().copied().flatten().unwrap_or(0))
    }
}

/// Makes the record handlers of a topic.
pub(crate) trait Factory: Send + Sync + 'static {
    type Handler: Handler;

    /// Name of the source that a partition is.
    fn source(&self, partition: u32) -> String;

    /// A handler whose effects begin at `begin`; it may want to read earlier records first.
    fn open(
        &self,
        partition: u32,
        begin: u64,
    ) -> impl Future<Output = Result<Self::Handler, PortError>> + Send;
}

/// Turns records into what devices are owed.
pub(crate) trait Handler: Send + 'static {
    /// Offset of the record that is wanted next.
    fn next_offset(&self) -> u64;

    /// Reads whatever a page needs. After an error nothing has happened and the page comes again.
    fn prepare(
        &mut self,
        page: &[Record],
        effects_from: u64,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Takes the prepared page: owes the effects of records from `effects_from` on.
    fn take(&mut self, effects_from: u64, slots: &mut Slots);

    /// When [`Handler::flush`] is due, if it gathers.
    fn deadline(&self) -> Option<Instant>;

    /// Owes what was gathered.
    fn flush(&mut self, slots: &mut Slots);

    /// Comes with every commit: shows its state.
    fn show(&mut self);

    /// (offset of the next record, state as bytes), if this handler keeps a state to start from.
    fn snapshot(&self) -> Option<(u64, Bytes)>;
}

/// What a group's membership runs for every partition it owns.
pub(crate) fn runner<F: Factory>(
    deps: Arc<PumpDeps>,
    factory: Arc<F>,
    shutdown: &CancellationToken,
) -> impl Fn(Owned) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + use<F> {
    let shutdown = shutdown.clone();
    move |owned| Box::pin(keep(Arc::clone(&deps), Arc::clone(&factory), owned, shutdown.clone()))
}

/// What a slot that lists no watermark has, as it said itself in this incarnation of the store.
#[derive(Clone, Copy, Default)]
struct Hints {
    incarnation: u64,
    up_to: [Option<u64>; SLOTS as usize],
}

/// Why a partition's loop ended.
enum Ended {
    /// Taken away, or the node stops.
    Lost,
    /// To be started again.
    Again(Hints),
    /// Cannot go on.
    Stopped(String),
}

async fn keep<F: Factory>(
    deps: Arc<PumpDeps>,
    factory: Arc<F>,
    owned: Owned,
    shutdown: CancellationToken,
) {
    let mut hints = Hints::default();
    loop {
        let started = tokio::select! {
            () = owned.lost.cancelled() => break,
            started = Pump::start(&deps, &*factory, owned.partition, hints) => started,
        };
        match started {
            Ok(mut pump) => match pump.run(&owned.generation, &owned.lost).await {
                Ended::Lost => {
                    if shutdown.is_cancelled()
                        && let save @ Some(_) = &mut pump.save()
                    {
                        done(save).await;
                    }
                    break;
                }
                Ended::Again(told) => hints = told,
                Ended::Stopped(why) => {
                    tracing::error!(group = deps.group, partition = owned.partition, %why, "A partition stopped.");
                    deps.observer.note(Event::PartitionStopped(deps.group, owned.partition, why));
                    break;
                }
            },
            Err(error) => {
                tracing::debug!(group = deps.group, partition = owned.partition, %error, "A partition cannot start yet.");
            }
        }
        tokio::select! {
            () = owned.lost.cancelled() => break,
            () = tokio::time::sleep(RETRY_PAUSE) => {}
        }
    }
    deps.desk.clear();
}

/// What goes on beside everything else that its owner waits for, and ends with its owner. It is a task: a call that is polled only now
/// and then would miss its time limit, and its answer.
type Job<T> = AbortOnDropHandle<T>;

fn job<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Job<T> {
    Job::new(TaskTracker::new().spawn(work))
}

/// Awaits a job that may not be there; a missing one never ends.
async fn done<T>(job: &mut Option<Job<T>>) -> T {
    match job {
        Some(job) => match job.await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => std::future::pending().await,
            },
        },
        None => std::future::pending().await,
    }
}

struct Pump<H> {
    deps: Arc<PumpDeps>,
    partition: u32,
    source: String,
    handler: H,
    slots: Slots,
    effects_from: u64,
    committed: u64,
    incarnation: u64,
    saved: u64,
    arrivals: mpsc::Receiver<Arrival>,
    missed: Arc<AtomicBool>,
    counters: Counters,
}

struct Counters {
    ahead: Gauge,
    watermark_skip: Counter,
    two_owners: Counter,
    gap_rewind: Counter,
    directory_waits: Counter,
    commits_refused: Counter,
}

impl Counters {
    fn new(group: &str, observer: &Observer) -> Self {
        let sometimes = |name: &str| observer.counter(format!("sometimes.{name}"));
        Self {
            ahead: observer.gauge(format!("{group}.ahead_bytes"), AHEAD_BYTES as u64),
            watermark_skip: sometimes("watermark-skip"),
            two_owners: sometimes("two-owners-of-one-offset"),
            gap_rewind: sometimes("gap-rewind"),
            directory_waits: observer.counter(format!("{group}.directory_waits")),
            commits_refused: observer.counter(format!("{group}.commits_refused")),
        }
    }
}

impl<H: Handler> Pump<H> {
    async fn start<F: Factory<Handler = H>>(
        deps: &Arc<PumpDeps>,
        factory: &F,
        partition: u32,
        hints: Hints,
    ) -> Result<Self, PortError> {
        let source = factory.source(partition);
        // The place is opened first, so that a reset behind the reading of the incarnation is not missed.
        let (arrivals, missed) = deps.desk.open(&source);
        let incarnation = deps.queue.incarnation().await?;
        let committed = deps.log.committed(deps.group, deps.topic, &[partition]).await?;
        let committed = committed.first().copied().flatten().unwrap_or(0);
        let hints = if hints.incarnation == incarnation { hints } else { Hints::default() };
        let mut watermarks: [u64; SLOTS as usize] =
            hints.up_to.map(|hint| hint.unwrap_or(committed));
        for (name, slot, watermark) in deps.queue.watermarks().await? {
            if *name == *source
                && let Some(known) =
                    usize::try_from(slot).ok().and_then(|slot| watermarks.get_mut(slot))
            {
                *known = watermark;
            }
        }
        let begin = watermarks.into_iter().fold(committed, u64::min);
        let handler = factory.open(partition, begin).await?;
        let saved = handler.next_offset();
        Ok(Self {
            deps: Arc::clone(deps),
            partition,
            source,
            handler,
            slots: Slots::new(watermarks, begin),
            effects_from: begin,
            committed,
            incarnation,
            saved,
            arrivals,
            missed,
            counters: Counters::new(deps.group, &deps.observer),
        })
    }

    async fn run(&mut self, generation: &Generation, lost: &CancellationToken) -> Ended {
        let timers = self.deps.timers;
        let mut commits = interval(timers.commit);
        // Snapshots of the partitions are spread over the period.
        let share = timers.snapshot * (self.partition + 1) / self.deps.partitions.max(1);
        let mut snapshots = interval_at(Instant::now() + share, timers.snapshot);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        snapshots.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fetching: Option<Job<Result<Fetched, PortError>>> = None;
        let mut saving: Option<Job<()>> = None;
        // Beside everything else: a broker may take long for it, and messages do not wait for a position.
        let mut committing: Option<Job<Option<u64>>> = None;
        let mut resting: Option<Instant> = None;
        loop {
            if self.missed.load(Relaxed) {
                return Ended::Again(Hints::default());
            }
            self.offer();
            if fetching.is_none() && resting.is_none() && self.slots.bytes() < FETCH_BELOW {
                fetching = Some(self.fetch());
            }
            let wake = [self.slots.retry_at(), self.handler.deadline(), resting]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                biased;
                () = lost.cancelled() => return Ended::Lost,
                Some(arrival) = self.arrivals.recv() => {
                    let mut next = Some(arrival);
                    while let Some(arrival) = next {
                        if let Some(ended) = self.arrived(arrival) {
                            return ended;
                        }
                        next = self.arrivals.try_recv().ok();
                    }
                }
                page = done(&mut fetching) => {
                    fetching = None;
                    match page {
                        Ok(page) => if !self.take(&page.records, lost).await {
                            return Ended::Lost;
                        },
                        Err(error) => {
                            let partition = (self.deps.topic, self.partition);
                            if truncated(&*self.deps.log, partition, self.handler.next_offset()).await {
                                return Ended::Stopped(format!(
                                    "offset {} was truncated and no snapshot stands behind it: {error}",
                                    self.handler.next_offset()
                                ));
                            }
                            resting = Some(Instant::now() + RETRY_PAUSE);
                        }
                    }
                }
                _ = commits.tick(), if committing.is_none() => committing = self.commit(generation),
                committed = done(&mut committing) => {
                    committing = None;
                    self.committed(committed);
                }
                _ = snapshots.tick(), if saving.is_none() => saving = self.save(),
                () = done(&mut saving) => saving = None,
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    let now = Instant::now();
                    resting = resting.filter(|until| now < *until);
                    if self.handler.deadline().is_some_and(|deadline| deadline <= now) {
                        self.handler.flush(&mut self.slots);
                    }
                }
            }
        }
    }

    fn fetch(&self) -> Job<Result<Fetched, PortError>> {
        let log = Arc::clone(&self.deps.log);
        let (partition, offset) = ((self.deps.topic, self.partition), self.handler.next_offset());
        job(async move { log.fetch(partition, offset, FETCH_BYTES, FETCH_WAIT).await })
    }

    /// Hands a page to the handler, waiting for what it needs; `false` when the partition is lost meanwhile.
    async fn take(&mut self, page: &[Record], lost: &CancellationToken) -> bool {
        if page.is_empty() {
            return true;
        }
        loop {
            let prepared = tokio::select! {
                () = lost.cancelled() => return false,
                prepared = self.handler.prepare(page, self.effects_from) => prepared,
            };
            if prepared.is_ok() {
                break;
            }
            self.counters.directory_waits.add(1);
            tokio::select! {
                () = lost.cancelled() => return false,
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
        self.handler.take(self.effects_from, &mut self.slots);
        self.counters.ahead.seen(self.slots.bytes() as u64);
        true
    }

    /// Offers what may go to the relay nodes of the slots.
    fn offer(&mut self) {
        let now = Instant::now();
        for slot in 0..SLOTS {
            while self.slots.ready(slot, now) {
                let peer = match self.slots.bound_to(slot) {
                    Some(node) => self.deps.peers.to(node).map(|stream| (node.clone(), stream)),
                    None => self.deps.peers.owner(u64::from(slot)),
                };
                let taken = peer.and_then(|(node, stream)| {
                    let batch = self.slots.batch(slot, &self.source, self.incarnation)?;
                    stream.offer(batch).ok().map(|()| node)
                });
                match taken {
                    Some(node) => self.slots.sent(slot, node),
                    None => self.slots.later(slot, now),
                }
            }
        }
    }

    fn arrived(&mut self, arrival: Arrival) -> Option<Ended> {
        match arrival {
            Arrival::Closed(node) => self.slots.closed(&node),
            Arrival::Reset(incarnation) => {
                if incarnation != self.incarnation {
                    self.counters.gap_rewind.add(1);
                    return Some(Ended::Again(Hints::default()));
                }
            }
            Arrival::Answer { node, slot, outcome, watermark } => {
                match self.slots.answered(slot, &node, outcome, watermark, Instant::now()) {
                    Change::Progress => {}
                    Change::Repeated => self.counters.watermark_skip.add(1),
                    Change::Overtaken => {
                        self.counters.watermark_skip.add(1);
                        self.counters.two_owners.add(1);
                    }
                    Change::Forgot(watermark) => {
                        self.counters.gap_rewind.add(1);
                        let mut hints = Hints { incarnation: self.incarnation, ..Hints::default() };
                        if let Some(hint) =
                            usize::try_from(slot).ok().and_then(|slot| hints.up_to.get_mut(slot))
                        {
                            *hint = Some(watermark);
                        }
                        return Some(Ended::Again(hints));
                    }
                }
            }
        }
        None
    }

    /// Begins to commit what is confirmed and in history, if that is more than before; the job answers with the position, or `None`
    /// when it was refused or nobody said how far history is.
    fn commit(&mut self, generation: &Generation) -> Option<Job<Option<u64>>> {
        self.handler.show();
        let confirmed = self.slots.confirmed();
        if confirmed <= self.committed {
            self.slots.move_idle_up();
            return None;
        }
        let (deps, generation) = (Arc::clone(&self.deps), generation.get());
        let (partition, before) = (self.partition, self.committed);
        Some(job(async move {
            let position = confirmed.min(deps.in_history(partition).await?);
            if position <= before {
                return Some(before);
            }
            let positions = [(partition, position)];
            let answer = deps.log.commit(deps.group, deps.topic, generation, &positions).await;
            answer.is_ok().then_some(position)
        }))
    }

    fn committed(&mut self, position: Option<u64>) {
        match position {
            Some(position) => self.committed = position,
            None => self.counters.commits_refused.add(1),
        }
        self.slots.move_idle_up();
    }

    /// Writes a snapshot if there is something new in it.
    fn save(&mut self) -> Option<Job<()>> {
        let next = self.handler.next_offset();
        if next <= self.saved || next < self.effects_from {
            return None;
        }
        let (offset, bytes) = self.handler.snapshot()?;
        self.saved = offset;
        let (deps, partition, own) = (Arc::clone(&self.deps), self.partition, self.committed);
        Some(job(async move {
            let written = write_snapshot(&deps, partition, offset, bytes, own).await;
            if let Err(error) = written {
                tracing::debug!(partition, offset, %error, "A fold snapshot was not written; the next one will be.");
            }
        }))
    }
}

/// Limit of writing one snapshot and clearing old ones.
const SAVE_LIMIT: Duration = Duration::from_secs(10);

async fn write_snapshot(
    deps: &PumpDeps,
    partition: u32,
    offset: u64,
    bytes: Bytes,
    own: u64,
) -> Result<(), PortError> {
    let write = async {
        let mut positions = vec![own];
        for group in [SEQUENCER, HISTORY_WRITER] {
            let committed = deps.log.committed(group, deps.topic, &[partition]).await?;
            positions.push(committed.first().copied().flatten().unwrap_or(0));
        }
        snapshots::save(&*deps.blobs, partition, offset, bytes, &positions).await
    };
    tokio::time::timeout(SAVE_LIMIT, write)
        .await
        .unwrap_or_else(|_| Err(PortError::Unknown("too slow".into())))
}
