//! Counters, gauges and events of one system, handed to every node and port. No process-wide state.
//!
//! A hot path keeps the handle of its counter; the name is looked up once.
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use chat_protocol::DeviceId;

/// Events kept for readers; the oldest are dropped first.
pub const EVENTS_KEPT: usize = 65_536;

/// A counter or a running maximum.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A gauge with a declared limit; the highest value since the last reading is kept.
#[derive(Clone, Debug)]
pub struct Gauge {
    value: Arc<AtomicU64>,
    high: Arc<AtomicU64>,
    limit: u64,
}

impl Gauge {
    /// Sets the present value.
    pub fn set(&self, value: u64) {
        self.value.store(value, Relaxed);
        self.high.fetch_max(value, Relaxed);
    }

    /// Raises the maximum without changing the present value: for gauges that are the largest of many.
    pub fn seen(&self, value: u64) {
        self.high.fetch_max(value, Relaxed);
    }
}

/// Something that happened, for the harness to read through the control door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server closed a client connection. (device, connection epoch, close code, milliseconds since its last frame)
    ConnectionClosed(DeviceId, u64, u16, u64),
    /// A gateway fenced itself.
    Fenced,
    /// A route of a dead node was swept.
    RouteSwept(DeviceId),
    /// Content of a queue was lost and its floor raised.
    FloorRaised(DeviceId),
    /// (`topic/partition`, broker)
    LeaderElected(String, u32),
    /// (group, partition)
    PartitionAssigned(&'static str, u32),
    /// (group, partition, why)
    PartitionStopped(&'static str, u32, String),
}

/// One event with its place and time.
#[derive(Clone, Debug)]
pub struct Noted {
    /// On the system's wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// Node, empty for a backend.
    pub node: Arc<str>,
    /// What.
    pub event: Event,
}

/// Gauge readings: (name, highest value since the last reading, limit).
pub type GaugeReadings = Vec<(String, u64, u64)>;

#[derive(Default)]
struct Inner {
    counters: Mutex<BTreeMap<String, Counter>>,
    gauges: Mutex<BTreeMap<String, Gauge>>,
    events: Mutex<(u64, VecDeque<Noted>)>,
}

/// Where a system's parts report to.
#[derive(Clone)]
pub struct Observer {
    inner: Arc<Inner>,
    clock: crate::clock::SharedClock,
    node: Arc<str>,
}

impl Observer {
    /// An observer of a whole system.
    pub fn new(clock: crate::clock::SharedClock) -> Self {
        Self { inner: Arc::default(), clock, node: "".into() }
    }

    /// The same observer, with events attributed to a node.
    #[must_use]
    pub fn of_node(&self, node: &str) -> Self {
        Self { node: node.into(), ..self.clone() }
    }

    /// The counter of that name, shared by all who ask for it.
    pub fn counter(&self, name: impl Into<String>) -> Counter {
        let mut all = self.inner.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.into()).or_default().clone()
    }

    /// Counts one *sometimes*-condition (`sometimes.<name>`).
    pub fn sometimes(&self, name: &str) {
        self.counter(format!("sometimes.{name}")).add(1);
    }

    /// The gauge of that name; its first limit stays.
    pub fn gauge(&self, name: impl Into<String>, limit: u64) -> Gauge {
        let mut all = self.inner.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Gauge { value: Arc::default(), high: Arc::default(), limit };
        all.entry(name.into()).or_insert_with(new).clone()
    }

    /// Notes an event.
    pub fn note(&self, event: Event) {
        let noted = Noted { at_ms: self.clock.wall_ms(), node: Arc::clone(&self.node), event };
        let mut events = self.inner.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.0 += 1;
        events.1.push_back(noted);
        if events.1.len() > EVENTS_KEPT {
            events.1.pop_front();
        }
    }

    /// Counter values by name.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let all = self.inner.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, counter)| (name.clone(), counter.get())).collect()
    }

    /// Highest value of each gauge since the last call, with its limit.
    pub fn gauges(&self) -> GaugeReadings {
        let all = self.inner.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |gauge: &Gauge| gauge.high.swap(gauge.value.load(Relaxed), Relaxed);
        all.iter().map(|(name, gauge)| (name.clone(), read(gauge), gauge.limit)).collect()
    }

    /// Events from `cursor` on, the next cursor, and whether older ones were dropped unread.
    pub fn events(&self, cursor: u64) -> (Vec<Noted>, u64, bool) {
        let events = self.inner.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, kept) = (events.0, &events.1);
        let oldest = total - kept.len() as u64;
        let skip = usize::try_from(cursor.saturating_sub(oldest)).unwrap_or(usize::MAX);
        (kept.iter().skip(skip).cloned().collect(), total, cursor < oldest)
    }
}
