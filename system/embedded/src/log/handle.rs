//! The port in front of the log, which serves each call in its caller's thread, and the thread `chat-log`, which lets time pass.
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_control::inspect::{BrokerInfo, GroupLag};
use chat_ports::PortError;
use chat_ports::clock::SharedClock;
use chat_ports::log::{Appended, Assignment, EventLog, Fetched, Partition, Topic, Why};
use chat_ports::observe::{Event, Gauge, Observer};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, Effect, Now, title};
use super::{LogAdmin, LogConfig};
use crate::desk::{BackendThread, Desk, answer};

type Answer<T> = oneshot::Sender<Result<T, PortError>>;

/// One call.
pub(super) enum Call {
    Append {
        partition: Partition,
        values: Vec<Bytes>,
        asked: Instant,
        reply: oneshot::Sender<Appended>,
    },
    Fetch {
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
        group: Option<Arc<str>>,
        reply: Answer<Fetched>,
    },
    Beat {
        group: String,
        topic: Topic,
        member: String,
        reply: Answer<Assignment>,
    },
    Leave {
        group: String,
        topic: Topic,
        member: String,
        reply: oneshot::Sender<()>,
    },
    Commit {
        group: String,
        topic: Topic,
        generation: u64,
        positions: Vec<(u32, u64)>,
        reply: Answer<()>,
    },
    Committed {
        group: String,
        topic: Topic,
        partitions: Vec<u32>,
        reply: oneshot::Sender<Vec<Option<u64>>>,
    },
    Kill(u32, Answer<()>),
    Start(u32, Answer<()>),
    Slow(u32, Duration, Answer<()>),
    Pause(String, bool, oneshot::Sender<()>),
    Brokers(oneshot::Sender<Vec<BrokerInfo>>),
    Lags(oneshot::Sender<Vec<GroupLag>>),
}

/// The log as a port. A clone shares its count of waiting calls; [`Self::handle`] gives a fresh one.
#[derive(Clone)]
pub struct EmbeddedLog {
    desk: Desk<Call>,
    group: Option<Arc<str>>,
}

impl EmbeddedLog {
    /// Starts the log and the thread that lets its time pass.
    pub(crate) fn start(
        config: LogConfig,
        clock: SharedClock,
        observer: Observer,
    ) -> io::Result<(Self, LogAdmin, BackendThread)> {
        let log = Arc::new(Log::new(config, clock, observer));
        let time = Arc::clone(&log);
        let thread = BackendThread::spawn("chat-log", move |stop| pass_time(time, stop))?;
        let desk = Desk::here(move |call| log.serve(call));
        let admin = LogAdmin { desk: desk.handle() };
        Ok((Self { desk, group: None }, admin, thread))
    }

    /// A handle with its own limit of waiting calls; its fetches belong to no group and are never paused.
    pub fn handle(&self) -> Arc<dyn EventLog> {
        Arc::new(Self { desk: self.desk.handle(), group: None })
    }

    /// A handle with its own limit of waiting calls, whose fetches count as this group's: they answer empty while the group
    /// is paused.
    pub fn for_group(&self, group: &str) -> Arc<dyn EventLog> {
        Arc::new(Self { desk: self.desk.handle(), group: Some(Arc::from(group)) })
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn append(&self, partition: Partition, values: Vec<Bytes>) -> Appended {
        let asked = Instant::now();
        let answer = self.desk.ask(|reply| Call::Append { partition, values, asked, reply }).await;
        answer.unwrap_or_else(|error| match error {
            PortError::Refused(_) => Appended::NotAppended(Why::BufferFull),
            PortError::Unknown(_) => Appended::Unknown(Why::TimedOut),
        })
    }

    async fn fetch(
        &self,
        partition: Partition,
        offset: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fetched, PortError> {
        let group = self.group.clone();
        self.desk
            .ask(|reply| Call::Fetch { partition, offset, max_bytes, wait, group, reply })
            .await?
    }

    async fn beat(&self, group: &str, topic: Topic, member: &str) -> Result<Assignment, PortError> {
        let (group, member) = (group.to_owned(), member.to_owned());
        self.desk.ask(|reply| Call::Beat { group, topic, member, reply }).await?
    }

    async fn leave(&self, group: &str, topic: Topic, member: &str) -> Result<(), PortError> {
        let (group, member) = (group.to_owned(), member.to_owned());
        self.desk.ask(|reply| Call::Leave { group, topic, member, reply }).await
    }

    async fn commit(
        &self,
        group: &str,
        topic: Topic,
        generation: u64,
        positions: &[(u32, u64)],
    ) -> Result<(), PortError> {
        let (group, positions) = (group.to_owned(), positions.to_vec());
        self.desk.ask(|reply| Call::Commit { group, topic, generation, positions, reply }).await?
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partitions: &[u32],
    ) -> Result<Vec<Option<u64>>, PortError> {
        let (group, partitions) = (group.to_owned(), partitions.to_vec());
        self.desk.ask(|reply| Call::Committed { group, topic, partitions, reply }).await
    }
}

type Tokens = Cluster<oneshot::Sender<Appended>, Answer<Fetched>>;
type Outcome = Effect<oneshot::Sender<Appended>, Answer<Fetched>>;

/// The log with its clock.
struct Log {
    state: Mutex<State>,
    /// Something is due sooner than the thread knows.
    sooner: Notify,
    start: Instant,
    clock: SharedClock,
    observer: Observer,
    buffer: Gauge,
}

struct State {
    /// Gone when the log has stopped, and with it the calls that wait.
    cluster: Option<Tokens>,
    /// What the thread waits for.
    awaited: Option<Duration>,
}

impl Log {
    fn new(config: LogConfig, clock: SharedClock, observer: Observer) -> Self {
        let buffer = observer.gauge("log.buffer_bytes", config.log_buffer);
        let state = State { cluster: Some(Tokens::new(config)), awaited: None };
        let (state, sooner, start) = (Mutex::new(state), Notify::new(), Instant::now());
        Self { state, sooner, start, clock, observer, buffer }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one call; false when the log has stopped.
    fn serve(&self, call: Call) -> bool {
        let mut state = self.state();
        let State { cluster: Some(cluster), awaited } = &mut *state else { return false };
        let now = self.now();
        take(cluster, now, self.start, call);
        self.buffer.set(cluster.buffered());
        let effects = self.settle(cluster, now);
        let due = cluster.next_due();
        if due.is_some_and(|due| awaited.is_none_or(|awaited| due < awaited)) {
            *awaited = due;
            self.sooner.notify_one();
        }
        drop(state);
        self.act(effects);
        true
    }

    /// Does what is due, and says when it is to be called again.
    fn tick(&self) -> Option<Instant> {
        let mut state = self.state();
        let State { cluster: Some(cluster), awaited } = &mut *state else { return None };
        let effects = self.settle(cluster, self.now());
        *awaited = cluster.next_due();
        let due = awaited.map(|due| self.start + due);
        drop(state);
        self.act(effects);
        due
    }

    fn settle(&self, cluster: &mut Tokens, now: Now) -> Vec<Outcome> {
        cluster.settle(now);
        self.buffer.set(cluster.buffered());
        cluster.take_effects()
    }

    /// Tells callers what became of their calls; without the lock, since it wakes them.
    fn act(&self, effects: Vec<Outcome>) {
        for effect in effects {
            match effect {
                Effect::Appended(reply, outcome) => answer(reply, outcome),
                Effect::Fetched(reply, fetched) => answer(reply, fetched),
                Effect::Elected(partition, broker) => {
                    self.observer.note(Event::LeaderElected(title(partition), broker));
                }
            }
        }
    }

    fn now(&self) -> Now {
        Now { at: self.start.elapsed(), wall_ms: self.clock.wall_ms() }
    }
}

/// Elections, expired members, waits that end: whatever happens without a call.
async fn pass_time(log: Arc<Log>, stop: CancellationToken) {
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        let due = log.tick();
        tokio::select! {
            biased;
            () = &mut stopped => break,
            () = log.sooner.notified() => {}
            () = async { match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            } } => {}
        }
    }
    // Taken out first: who waits for an answer is told outside the lock.
    let cluster = log.state().cluster.take();
    drop(cluster);
}

fn take(cluster: &mut Tokens, now: Now, start: Instant, call: Call) {
    match call {
        Call::Append { partition, values, asked, reply } => {
            cluster.append(now, asked.saturating_duration_since(start), partition, values, reply);
        }
        Call::Fetch { partition, offset, max_bytes, wait, group, reply } => {
            cluster.fetch(now, partition, offset, max_bytes, wait, group, reply);
        }
        Call::Beat { group, topic, member, reply } => {
            answer(reply, cluster.beat(now, &group, topic, &member));
        }
        Call::Leave { group, topic, member, reply } => {
            cluster.leave(&group, topic, &member);
            answer(reply, ());
        }
        Call::Commit { group, topic, generation, positions, reply } => {
            answer(reply, cluster.commit(now, &group, topic, generation, &positions));
        }
        Call::Committed { group, topic, partitions, reply } => {
            answer(reply, cluster.committed(&group, topic, &partitions));
        }
        Call::Kill(broker, reply) => answer(reply, cluster.broker_kill(now, broker)),
        Call::Start(broker, reply) => answer(reply, cluster.broker_start(now, broker)),
        Call::Slow(broker, delay, reply) => answer(reply, cluster.broker_slow(broker, delay)),
        Call::Pause(group, paused, reply) => {
            cluster.consumer_pause(&group, paused);
            answer(reply, ());
        }
        Call::Brokers(reply) => answer(reply, cluster.brokers(now)),
        Call::Lags(reply) => answer(reply, cluster.lags(now)),
    }
}
