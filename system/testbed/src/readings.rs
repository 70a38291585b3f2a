//! What an observer and its folds hold, in the words of the panel.
#[cfg(feature = "containers")]
use std::collections::BTreeMap;

use chat_control::inspect::{CounterReading, EventKind, FoldView, GaugeReading, SystemEvent};
use chat_ports::consumer::{FoldState, FoldViews};
use chat_ports::observe::{Event, Noted, Observer};

/// All counters.
pub(crate) fn counters(observer: &Observer) -> Vec<CounterReading> {
    let counters = observer.counters();
    counters.into_iter().map(|(name, value)| CounterReading { name, value }).collect()
}

/// All gauges, the highest value since the last reading.
pub(crate) fn gauges(observer: &Observer) -> Vec<GaugeReading> {
    let gauges = observer.gauges();
    gauges.into_iter().map(|(name, value, limit)| GaugeReading { name, value, limit }).collect()
}

/// The highest values of gauges that were read at several places or times, each with the limit that was heard of it first.
#[cfg(feature = "containers")]
#[derive(Debug, Default)]
pub(crate) struct Highs(BTreeMap<String, (u64, u64)>);

#[cfg(feature = "containers")]
impl Highs {
    /// Keeps what is higher than anything so far.
    pub(crate) fn add(&mut self, readings: impl IntoIterator<Item = GaugeReading>) {
        for GaugeReading { name, value, limit } in readings {
            let high = self.0.entry(name).or_insert((0, limit));
            high.0 = high.0.max(value);
        }
    }

    /// All of them.
    pub(crate) fn readings(&self) -> Vec<GaugeReading> {
        let reading = |(name, (value, limit)): (&String, &(u64, u64))| GaugeReading {
            name: name.clone(),
            value: *value,
            limit: *limit,
        };
        self.0.iter().map(reading).collect()
    }
}

/// Events since a cursor, and the next cursor. When older ones were dropped, the first event says so.
pub(crate) fn events(observer: &Observer, cursor: u64) -> (Vec<SystemEvent>, u64) {
    let (noted, next, lost) = observer.events(cursor);
    let mut events = Vec::with_capacity(noted.len() + 1);
    if lost {
        events.push(events_lost(noted.first().map_or(0, |first| first.at_ms)));
    }
    events.extend(noted.into_iter().map(event));
    (events, next)
}

/// Says that older events were dropped before they were read.
pub(crate) fn events_lost(at_ms: u64) -> SystemEvent {
    SystemEvent { at_ms, node: String::new(), kind: EventKind::EventsLost }
}

/// All folds.
pub(crate) fn folds(folds: &FoldViews) -> Vec<FoldView> {
    let view = |fold: FoldState| FoldView {
        group: fold.group.to_owned(),
        node: fold.node.to_string(),
        partition: fold.partition,
        next_offset: fold.next_offset,
        remembered: fold.remembered,
        checkpoints: fold.checkpoints,
    };
    folds.all().into_iter().map(view).collect()
}

fn event(noted: Noted) -> SystemEvent {
    let kind = match noted.event {
        Event::ConnectionClosed(device, conn_epoch, code, silent_ms) => {
            EventKind::ConnectionClosed { device, conn_epoch, code, silent_ms }
        }
        Event::Fenced => EventKind::Fenced,
        Event::RouteSwept(device) => EventKind::RouteSwept { device },
        Event::FloorRaised(device) => EventKind::FloorRaised { device },
        Event::LeaderElected(partition, broker) => EventKind::LeaderElected { partition, broker },
        Event::PartitionAssigned(group, partition) => {
            EventKind::PartitionAssigned { group: group.to_owned(), partition }
        }
        Event::PartitionStopped(group, partition, why) => {
            EventKind::PartitionStopped { group: group.to_owned(), partition, why }
        }
    };
    SystemEvent { at_ms: noted.at_ms, node: noted.node.to_string(), kind }
}
