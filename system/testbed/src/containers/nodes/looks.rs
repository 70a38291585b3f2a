//! What all nodes together show: sums, highest values, one list of events.
use std::collections::{BTreeMap, VecDeque};
use std::io;

use chat_control::inspect::{
    CounterReading, FoldView, GaugeReading, NodeState, SystemEvent, ThreadCpu,
};
use chat_ports::observe::{EVENTS_KEPT, Observer};
use futures_util::future;

use super::Nodes;
use super::place::{Place, odd, readings};
use crate::process::wire::{Answer, Ask, EVENTS_MAX};
use crate::readings::{self as own, Highs};

/// Answers that one look takes from one node; what is left comes with the next look.
const PAGES: usize = 16;

/// Events of all nodes and of this process, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Events so far, dropped ones included.
    total: u64,
    kept: VecDeque<SystemEvent>,
    /// Next event of this process's own.
    own: u64,
}

impl Merged {
    /// Reads what nodes and this process noted since the last time. A caller that goes away meanwhile takes nothing with it: the cursors
    /// move with the list, when all nodes have answered.
    async fn read(&mut self, nodes: impl Iterator<Item = &Place>, observer: &Observer) {
        let reads = nodes.map(|place| async move { (place, read_events(place).await) });
        let reads = future::join_all(reads).await;
        // Nothing is awaited from here on.
        let (mut fresh, next) = own::events(observer, self.own);
        self.own = next;
        for (place, read) in reads {
            if let Ok((events, cursor)) = read {
                place.face().cursor = cursor;
                fresh.extend(events);
            }
        }
        fresh.sort_by_key(|event| event.at_ms);
        self.add(fresh);
    }

    fn add(&mut self, events: Vec<SystemEvent>) {
        self.total += events.len() as u64;
        self.kept.extend(events);
        while self.kept.len() > EVENTS_KEPT {
            self.kept.pop_front();
        }
    }

    /// Events from a cursor on, and the next cursor. When older ones were dropped, the first event says so.
    fn since(&self, cursor: u64) -> (Vec<SystemEvent>, u64) {
        let oldest = self.total - self.kept.len() as u64;
        let skip = usize::try_from(cursor.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let mut events: Vec<_> = self.kept.iter().skip(skip).cloned().collect();
        if cursor < oldest {
            let at_ms = events.first().map_or(0, |first| first.at_ms);
            events.insert(0, own::events_lost(at_ms));
        }
        (events, self.total)
    }
}

impl Nodes {
    /// Nodes that execute, as far as is known.
    fn awake(&self) -> impl Iterator<Item = &Place> {
        let awake =
            |place: &&Place| matches!(place.state(), NodeState::Running | NodeState::Draining);
        self.places.values().filter(awake)
    }

    /// Looks at one node: its signs, whether it has ended, and its last readings if it waits for them to be taken.
    pub(super) async fn look(&self, place: &Place) {
        if !matches!(place.state(), NodeState::Running | NodeState::Draining) {
            return;
        }
        match place.read_signs().await {
            Ok(_) if place.face().ended => {
                let taken = {
                    let mut merged = self.merged.lock().await;
                    self.read_all(place, &mut merged).await
                };
                if taken.is_ok() && place.ask(&Ask::Goodbye).await.is_ok() {
                    self.refresh(place).await;
                }
            }
            Ok(_) => {}
            Err(_) => self.refresh(place).await,
        }
    }

    /// Asks the engine about a node that may have ended by itself.
    pub(super) async fn refresh(&self, place: &Place) {
        let before = place.state();
        if !matches!(before, NodeState::Running | NodeState::Draining) {
            return;
        }
        match self.engine.runs(&place.container).await {
            // An act may have changed the state meanwhile, and knows better.
            Ok(false) if place.state() == before => place.set(NodeState::Stopped),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "The engine did not say whether a node runs."),
        }
    }

    /// Everything that a node counts and notes.
    pub(super) async fn read_all(&self, place: &Place, merged: &mut Merged) -> io::Result<()> {
        place.read_signs().await?;
        place.read_counters().await?;
        place.read_gauges().await?;
        let (events, cursor) = read_events(place).await?;
        place.face().cursor = cursor;
        merged.add(events);
        Ok(())
    }

    pub(super) async fn all_counters(&self) -> Vec<CounterReading> {
        future::join_all(self.awake().map(|place| async {
            note_silence(place, &place.read_counters().await);
        }))
        .await;
        let mut sum = BTreeMap::new();
        for place in self.places.values() {
            place.face().counters.add_to(&mut sum);
        }
        for CounterReading { name, value } in own::counters(&self.observer) {
            *sum.entry(name).or_default() += value;
        }
        readings(sum)
    }

    pub(super) async fn all_gauges(&self) -> Vec<GaugeReading> {
        future::join_all(self.awake().map(|place| async {
            note_silence(place, &place.read_gauges().await);
        }))
        .await;
        let mut highs = Highs::default();
        for place in self.places.values() {
            highs.add(place.take_gauges().readings());
        }
        highs.add(own::gauges(&self.observer));
        highs.readings()
    }

    pub(super) async fn all_events(&self, cursor: u64) -> (Vec<SystemEvent>, u64) {
        let mut merged = self.merged.lock().await;
        merged.read(self.awake(), &self.observer).await;
        merged.since(cursor)
    }

    pub(super) async fn all_folds(&self) -> Vec<FoldView> {
        future::join_all(self.awake().map(|place| async {
            note_silence(place, &place.read_folds().await);
        }))
        .await;
        self.places.values().flat_map(|place| place.face().folds.clone()).collect()
    }

    /// CPU time of each node, as its process counts it, and of this process's threads. The engine is not asked: it answers several
    /// at a time only after a second.
    pub(super) async fn all_cpu(&self) -> Vec<ThreadCpu> {
        future::join_all(self.awake().map(|place| async {
            note_silence(place, &place.read_signs().await.map(drop));
        }))
        .await;
        let mut all = self.cpu.threads();
        all.extend(self.places.values().map(|place| {
            let thread = place.unit.kind.thread_name(&place.unit.name);
            ThreadCpu { thread, cpu_ns: place.face().cpu.total(), apart: true }
        }));
        all
    }
}

/// Events of a node since the last time, and the cursor behind them, which the caller sets when it keeps them.
async fn read_events(place: &Place) -> io::Result<(Vec<SystemEvent>, u64)> {
    let (mut all, mut cursor) = (Vec::new(), place.face().cursor);
    for _ in 0..PAGES {
        match place.ask(&Ask::Events { cursor }).await {
            Ok(Answer::Events { events, next }) => {
                let full = events.len() >= EVENTS_MAX;
                cursor = next;
                all.extend(events);
                if !full {
                    break;
                }
            }
            // What was read already must not be lost with what was not.
            _ if !all.is_empty() => break,
            Ok(other) => return Err(odd(&other)),
            Err(error) => return Err(error),
        }
    }
    Ok((all, cursor))
}

fn note_silence(place: &Place, read: &io::Result<()>) {
    if let Err(error) = read {
        let node = &place.unit.name;
        tracing::debug!(node, %error, "The node said nothing; what it said last stands.");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chat_control::inspect::EventKind;
    use chat_ports::clock::SteadyClock;
    use tokio::sync::Notify;

    use super::super::scripted::{Door, Say};
    use super::*;

    /// Events that fill one answer, and the next cursor.
    fn page() -> Answer {
        let full = EVENTS_MAX as u64;
        Answer::Events { events: (0..full).map(fenced).collect(), next: full }
    }

    fn observer() -> Observer {
        Observer::new(Arc::new(SteadyClock::new(1_000)))
    }

    #[tokio::test]
    async fn events_that_were_read_for_a_caller_who_went_away_are_read_again() {
        let second = Arc::new(Notify::new());
        let asked = Arc::clone(&second);
        let mut hangs = true;
        let door = Door::open(move |ask| match ask {
            Ask::Events { cursor: 0 } => Say::Answer(page()),
            _ if std::mem::take(&mut hangs) => {
                asked.notify_one();
                Say::Nothing
            }
            _ => Say::Answer(Answer::Events { events: Vec::new(), next: EVENTS_MAX as u64 }),
        })
        .await;
        let (place, mut merged) = (door.place("gateway-1"), Merged::default());
        let observer = observer();
        tokio::select! {
            () = merged.read([&place].into_iter(), &observer) => panic!("one answer is missing"),
            // The first page is in by now.
            () = second.notified() => {}
        }
        merged.read([&place].into_iter(), &observer).await;
        let (events, _) = merged.since(0);
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(place.face().cursor, EVENTS_MAX as u64);
    }

    #[tokio::test]
    async fn pages_before_an_odd_answer_are_kept() {
        let door = Door::open(|ask| match ask {
            Ask::Events { cursor: 0 } => Say::Answer(page()),
            _ => Say::Answer(Answer::Done),
        })
        .await;
        let (place, mut merged) = (door.place("gateway-1"), Merged::default());
        merged.read([&place].into_iter(), &observer()).await;
        assert_eq!(merged.since(0).1, EVENTS_MAX as u64);
        assert_eq!(place.face().cursor, EVENTS_MAX as u64);
    }

    fn fenced(at_ms: u64) -> SystemEvent {
        SystemEvent { at_ms, node: "gateway-1".to_owned(), kind: EventKind::Fenced }
    }

    #[test]
    fn a_cursor_gets_what_came_after_it_and_one_that_fell_behind_is_told_so() {
        let mut merged = Merged::default();
        merged.add(vec![fenced(1), fenced(2)]);
        let (events, cursor) = merged.since(0);
        assert_eq!((events.len(), cursor), (2, 2));
        merged.add(vec![fenced(3)]);
        assert_eq!(merged.since(cursor), (vec![fenced(3)], 3));
        merged.add((0..EVENTS_KEPT as u64).map(fenced).collect());
        let (events, _) = merged.since(cursor);
        assert_eq!(events[0].kind, EventKind::EventsLost);
        assert_eq!(events.len(), EVENTS_KEPT + 1);
    }
}
