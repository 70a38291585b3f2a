//! The thread `chat-log` and the port in front of it.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat_control::inspect::{BrokerInfo, GroupLag};
use chat_ports::PortError;
use chat_ports::clock::SharedClock;
use chat_ports::log::{Appended, Assignment, EventLog, Fetched, Partition, Topic, Why};
use chat_ports::observe::{Event, Observer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, Effect, Now, title};
use super::{LogAdmin, LogConfig};
use crate::desk::{BackendThread, Desk, TURN_CALLS, answer};

type Answer<T> = oneshot::Sender<Result<T, PortError>>;

/// One call, on its way to the thread.
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
    /// Starts the log on its thread.
    pub(crate) fn start(
        config: LogConfig,
        clock: SharedClock,
        observer: Observer,
    ) -> io::Result<(Self, LogAdmin, BackendThread)> {
        let (desk, calls) = Desk::open();
        let thread = BackendThread::spawn("chat-log", move |stop| {
            run(config, clock, observer, calls, stop)
        })?;
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

async fn run(
    config: LogConfig,
    clock: SharedClock,
    observer: Observer,
    mut queue: mpsc::Receiver<Call>,
    stop: CancellationToken,
) {
    let start = Instant::now();
    let buffer = observer.gauge("log.buffer_bytes", config.log_buffer);
    let mut cluster = Tokens::new(config);
    let mut calls = Vec::with_capacity(TURN_CALLS);
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        let due = cluster.next_due().map(|due| start + due);
        tokio::select! {
            biased;
            () = &mut stopped => return,
            got = queue.recv_many(&mut calls, TURN_CALLS) => if got == 0 { return },
            () = async { match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            } } => {}
        }
        let now = Now { at: start.elapsed(), wall_ms: clock.wall_ms() };
        for call in calls.drain(..) {
            take(&mut cluster, now, start, call);
        }
        buffer.set(cluster.buffered());
        cluster.settle(now);
        buffer.set(cluster.buffered());
        for effect in cluster.take_effects() {
            match effect {
                Effect::Appended(reply, outcome) => answer(reply, outcome),
                Effect::Fetched(reply, fetched) => answer(reply, fetched),
                Effect::Elected(partition, broker) => {
                    observer.note(Event::LeaderElected(title(partition), broker));
                }
            }
        }
    }
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
