//! What a proxy has done: counters a pipe, a connection and a proxy, readable from any thread while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::line::Passed;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseCause {
    /// Both ends closed; every byte was passed on.
    EndOfFile,
    /// One end reset its side; the reset was passed on.
    ResetSeen,
    /// The toxic `reset_peer` struck.
    ResetInjected,
    /// Cut on command.
    Cut,
    /// It was stalled, and the stall ended with a reset.
    StallReset,
    /// The proxy was disabled.
    Down,
    /// Reset by an accept rule.
    Refused,
    /// Closed by the accept rule `accept-then-close`.
    AcceptedThenClosed,
    /// Held by the accept rule `silent` until the rule or the client went.
    Silenced,
    /// The upstream could not be dialled; the client got a reset.
    NoUpstream,
    /// The preamble did not come in time or was none; reset.
    BadPreamble,
    /// The proxy ended.
    Stopped,
}

impl CloseCause {
    /// Whether the proxy reset both ends of its own accord.
    pub fn is_injected_reset(self) -> bool {
        match self {
            CloseCause::ResetInjected
            | CloseCause::Cut
            | CloseCause::StallReset
            | CloseCause::Down
            | CloseCause::Refused => true,
            CloseCause::EndOfFile
            | CloseCause::ResetSeen
            | CloseCause::AcceptedThenClosed
            | CloseCause::Silenced
            | CloseCause::NoUpstream
            | CloseCause::BadPreamble
            | CloseCause::Stopped => false,
        }
    }

    /// Whether the sockets are closed with a reset rather than with an end of file.
    pub(crate) fn resets(self) -> bool {
        !matches!(
            self,
            CloseCause::EndOfFile | CloseCause::AcceptedThenClosed | CloseCause::Silenced
        )
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Accepted; preamble, accept rule and dial are under way, or an accept rule holds it.
    Opening,
    /// Bytes are carried.
    Carrying,
}

/// One direction of one connection, or the sum over connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipeSnapshot {
    /// Bytes read from the sender, the preamble not counted.
    pub bytes_in: u64,
    /// Bytes written to the receiver.
    pub bytes_out: u64,
    /// Reads that brought bytes.
    pub reads: u64,
    /// Bytes read and not yet written.
    pub held_bytes: u64,
    /// Bytes that wait in the kernel because the pipe is stalled and does not read them. Zero for pipes that are not stalled.
    pub held_bytes_kernel: u64,
    /// Pipes stalled now: 0 or 1, or the sum.
    pub stalled: u64,
    /// Times the line was full, and how long in all.
    pub line_full: u64,
    /// See `line_full`.
    pub line_full_for: Duration,
    /// Chunks that left the delay line; those written straight through are not among them.
    pub delayed: u64,
    /// Sum of the delays asked of them.
    pub delay_asked: Duration,
    /// Sum of the delays they got, from read to write.
    pub delay_given: Duration,
    /// Longest delay asked.
    pub delay_asked_max: Duration,
    /// Longest delay given.
    pub delay_given_max: Duration,
    /// Time since the last byte came in; of several pipes the shortest.
    pub last_in_age: Option<Duration>,
    /// Time since the last byte went out; of several pipes the shortest.
    pub last_out_age: Option<Duration>,
}

impl PipeSnapshot {
    /// Mean delay given to the chunks that went through the line.
    pub fn delay_given_mean(&self) -> Option<Duration> {
        let nanos = self.delay_given.as_nanos().checked_div(u128::from(self.delayed))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn add(&mut self, other: &PipeSnapshot) {
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.reads += other.reads;
        self.held_bytes += other.held_bytes;
        self.held_bytes_kernel += other.held_bytes_kernel;
        self.stalled += other.stalled;
        self.line_full += other.line_full;
        self.line_full_for += other.line_full_for;
        self.delayed += other.delayed;
        self.delay_asked += other.delay_asked;
        self.delay_given += other.delay_given;
        self.delay_asked_max = self.delay_asked_max.max(other.delay_asked_max);
        self.delay_given_max = self.delay_given_max.max(other.delay_given_max);
        self.last_in_age = shorter(self.last_in_age, other.last_in_age);
        self.last_out_age = shorter(self.last_out_age, other.last_out_age);
    }
}

fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (age, None) | (None, age) => age,
    }
}

/// One open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSnapshot {
    /// Number of the connection within its proxy, from 1, in order of acceptance.
    pub ordinal: u64,
    /// Device that its preamble named.
    pub device: Option<u64>,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Time since it was accepted.
    pub age: Duration,
    /// How far it has come.
    pub stage: Stage,
    /// Generation of the rules it obeys.
    pub generation: u64,
    /// Toxics of those rules that hit it.
    pub toxics_hit: Vec<Arc<str>>,
    /// Whether a stall has reset the client's end, while the upstream's is kept.
    pub client_told: bool,
    /// Client to upstream.
    pub up: PipeSnapshot,
    /// Upstream to client.
    pub down: PipeSnapshot,
}

/// What one proxy has done since it started, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounters {
    /// Generation of the rules last published.
    pub generation: u64,
    /// Oldest generation that the listener or an open connection still obeys; equal to `generation` once a change has taken effect.
    pub generation_applied: u64,
    /// Whether the listener is open.
    pub listening: bool,
    /// Times the listener was opened again.
    pub reopened: u64,
    /// Connections accepted by the kernel and taken.
    pub accepted: u64,
    /// Connections reset because the limit on open ones was reached.
    pub refused_at_limit: u64,
    /// Errors of `accept`, such as no free descriptor.
    pub accept_errors: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections ended, by cause.
    pub closed: BTreeMap<CloseCause, u64>,
    /// Client to upstream, over all connections so far.
    pub up: PipeSnapshot,
    /// Upstream to client, over all connections so far.
    pub down: PipeSnapshot,
}

impl ProxyCounters {
    /// Connections that ended by this cause.
    pub fn closed_by(&self, cause: CloseCause) -> u64 {
        self.closed.get(&cause).copied().unwrap_or(0)
    }

    /// Connections that the proxy reset of its own accord.
    pub fn resets_injected(&self) -> u64 {
        self.closed
            .iter()
            .filter(|(cause, _)| cause.is_injected_reset())
            .map(|(_, count)| count)
            .sum()
    }

    /// Bytes read and not yet written, both ways, those of stalled pipes in the kernel included.
    pub fn held_bytes(&self) -> u64 {
        [&self.up, &self.down]
            .into_iter()
            .map(|pipe| pipe.held_bytes + pipe.held_bytes_kernel)
            .sum()
    }
}

/// Live counters of one pipe. One task writes, anyone reads: a plain load and store each, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct PipeCounters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    reads: AtomicU64,
    held_bytes: AtomicU64,
    stalled: AtomicBool,
    line_full: AtomicU64,
    line_full_ns: AtomicU64,
    delayed: AtomicU64,
    delay_asked_ns: AtomicU64,
    delay_given_ns: AtomicU64,
    delay_asked_max_ns: AtomicU64,
    delay_given_max_ns: AtomicU64,
    /// Nanoseconds from acceptance to the last byte; 0 is never.
    last_in_ns: AtomicU64,
    last_out_ns: AtomicU64,
}

impl PipeCounters {
    pub(crate) fn came_in(&self, bytes: usize, since_opened: Duration) {
        bump(&self.bytes_in, count(bytes));
        bump(&self.reads, 1);
        self.last_in_ns.store(nanos(since_opened), Relaxed);
    }

    pub(crate) fn went_out(&self, bytes: usize, since_opened: Duration) {
        bump(&self.bytes_out, count(bytes));
        self.last_out_ns.store(nanos(since_opened), Relaxed);
    }

    pub(crate) fn passed(&self, chunk: Passed) {
        let (asked, given) = (nanos(chunk.asked), nanos(chunk.given));
        bump(&self.delayed, 1);
        bump(&self.delay_asked_ns, asked);
        bump(&self.delay_given_ns, given);
        raise(&self.delay_asked_max_ns, asked);
        raise(&self.delay_given_max_ns, given);
    }

    pub(crate) fn holds(&self, bytes: usize) {
        self.held_bytes.store(count(bytes), Relaxed);
    }

    pub(crate) fn is_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Relaxed);
    }

    pub(crate) fn was_full(&self, for_time: Duration) {
        bump(&self.line_full, 1);
        bump(&self.line_full_ns, nanos(for_time));
    }

    fn snapshot(&self, age: Duration, source: Option<&TcpStream>) -> PipeSnapshot {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let time = |counter: &AtomicU64| Duration::from_nanos(get(counter));
        let since = |counter: &AtomicU64| match get(counter) {
            0 => None,
            at => Some(age.saturating_sub(Duration::from_nanos(at))),
        };
        let stalled = self.stalled.load(Relaxed);
        let in_kernel =
            source.filter(|_| stalled).and_then(|socket| rustix::io::ioctl_fionread(socket).ok());
        PipeSnapshot {
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            reads: get(&self.reads),
            held_bytes: get(&self.held_bytes),
            held_bytes_kernel: in_kernel.unwrap_or(0),
            stalled: u64::from(stalled),
            line_full: get(&self.line_full),
            line_full_for: time(&self.line_full_ns),
            delayed: get(&self.delayed),
            delay_asked: time(&self.delay_asked_ns),
            delay_given: time(&self.delay_given_ns),
            delay_asked_max: time(&self.delay_asked_max_ns),
            delay_given_max: time(&self.delay_given_max_ns),
            last_in_age: since(&self.last_in_ns),
            last_out_age: since(&self.last_out_ns),
        }
    }
}

fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

fn raise(counter: &AtomicU64, to: u64) {
    if counter.load(Relaxed) < to {
        counter.store(to, Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a byte count fits 64 bits")
}

/// What is shared about one connection between its task and those who ask.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) ordinal: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) opened: Instant,
    pub(crate) device: OnceLock<u64>,
    pub(crate) generation: AtomicU64,
    /// Set by a command; the task looks at it whenever rules are published.
    pub(crate) cut: AtomicBool,
    pub(crate) up: PipeCounters,
    pub(crate) down: PipeCounters,
    hit: Mutex<Vec<Arc<str>>>,
    /// Set once a stall has reset the client's end.
    pub(crate) client_told: AtomicBool,
    /// Client and upstream socket once bytes are carried. Weak: asking must not keep a socket open.
    sockets: OnceLock<[Weak<TcpStream>; 2]>,
}

impl ConnectionState {
    pub(crate) fn new(ordinal: u64, peer: SocketAddr, generation: u64) -> ConnectionState {
        ConnectionState {
            ordinal,
            peer,
            opened: Instant::now(),
            device: OnceLock::new(),
            generation: AtomicU64::new(generation),
            cut: AtomicBool::new(false),
            up: PipeCounters::default(),
            down: PipeCounters::default(),
            hit: Mutex::new(Vec::new()),
            client_told: AtomicBool::new(false),
            sockets: OnceLock::new(),
        }
    }

    pub(crate) fn carries(&self, client: &Arc<TcpStream>, upstream: &Arc<TcpStream>) {
        // A connection starts to carry once, so the value is never there already.
        self.sockets.get_or_init(|| [Arc::downgrade(client), Arc::downgrade(upstream)]);
    }

    pub(crate) fn obeys(&self, generation: u64, hit: Vec<Arc<str>>) {
        *locked(&self.hit) = hit;
        self.generation.store(generation, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> ConnectionSnapshot {
        let age = self.opened.elapsed();
        let socket = |index: usize| self.sockets.get().and_then(|sockets| sockets[index].upgrade());
        ConnectionSnapshot {
            ordinal: self.ordinal,
            device: self.device.get().copied(),
            peer: self.peer,
            age,
            stage: if self.sockets.get().is_some() { Stage::Carrying } else { Stage::Opening },
            generation: self.generation.load(Relaxed),
            toxics_hit: locked(&self.hit).clone(),
            client_told: self.client_told.load(Relaxed),
            up: self.up.snapshot(age, socket(0).as_deref()),
            down: self.down.snapshot(age, socket(1).as_deref()),
        }
    }
}

/// The connections of one proxy: those open, and the sums of those that ended.
#[derive(Debug, Default)]
pub(crate) struct Register {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    accepted: u64,
    open: BTreeMap<u64, Arc<ConnectionState>>,
    closed: BTreeMap<CloseCause, u64>,
    up: PipeSnapshot,
    down: PipeSnapshot,
}

impl Register {
    pub(crate) fn open(&self, peer: SocketAddr, generation: u64) -> Arc<ConnectionState> {
        let mut inner = locked(&self.inner);
        inner.accepted += 1;
        let state = Arc::new(ConnectionState::new(inner.accepted, peer, generation));
        inner.open.insert(state.ordinal, Arc::clone(&state));
        state
    }

    pub(crate) fn close(&self, state: &ConnectionState, cause: CloseCause) {
        let mut last = state.snapshot();
        let mut inner = locked(&self.inner);
        if inner.open.remove(&state.ordinal).is_none() {
            return;
        }
        *inner.closed.entry(cause).or_default() += 1;
        // What an ended connection held is gone with it.
        for pipe in [&mut last.up, &mut last.down] {
            (pipe.held_bytes, pipe.held_bytes_kernel, pipe.stalled) = (0, 0, 0);
            (pipe.last_in_age, pipe.last_out_age) = (None, None);
        }
        inner.up.add(&last.up);
        inner.down.add(&last.down);
    }

    pub(crate) fn states(&self) -> Vec<Arc<ConnectionState>> {
        locked(&self.inner).open.values().map(Arc::clone).collect()
    }

    /// How many connections are open, and the oldest generation that one of them obeys.
    pub(crate) fn standing(&self) -> (usize, u64) {
        let inner = locked(&self.inner);
        let generations = inner.open.values().map(|state| state.generation.load(Relaxed));
        (inner.open.len(), generations.min().unwrap_or(u64::MAX))
    }

    /// Everything the connections tell; the proxy fills in the rest.
    pub(crate) fn totals(&self) -> ProxyCounters {
        let inner = locked(&self.inner);
        let mut totals = ProxyCounters {
            generation_applied: u64::MAX,
            accepted: inner.accepted,
            open: count(inner.open.len()),
            closed: inner.closed.clone(),
            up: inner.up.clone(),
            down: inner.down.clone(),
            ..ProxyCounters::default()
        };
        for state in inner.open.values() {
            let now = state.snapshot();
            totals.generation_applied = totals.generation_applied.min(now.generation);
            totals.up.add(&now.up);
            totals.down.add(&now.down);
        }
        totals
    }
}

/// Locks for a few statements that cannot leave the value half-changed, so poison says nothing about it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
