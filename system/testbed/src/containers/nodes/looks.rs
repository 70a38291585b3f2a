//! What all nodes together show: sums, highest values, one list of events.
use std::collections::{BTreeMap, VecDeque};
use std::io;

use chat_control::inspect::{
    CounterReading, FoldView, GaugeReading, NodeState, SystemEvent, ThreadCpu,
};
use chat_ports::observe::EVENTS_KEPT;
use futures_util::future;

use super::Nodes;
use super::slot::{Slot, odd, readings};
use crate::process::wire::{Answer, Ask, EVENTS_MAX};
use crate::readings as own;

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
    fn awake(&self) -> impl Iterator<Item = &Slot> {
        let awake = |slot: &&Slot| matches!(slot.state(), NodeState::Running | NodeState::Draining);
        self.slots.values().filter(awake)
    }

    /// Looks at one node: its signs, whether it has ended, and its last readings if it waits for them to be taken.
    pub(super) async fn look(&self, slot: &Slot) {
        if !matches!(slot.state(), NodeState::Running | NodeState::Draining) {
            return;
        }
        match slot.read_signs().await {
            Ok(_) if slot.face().ended => {
                let taken = {
                    let mut merged = self.merged.lock().await;
                    self.read_all(slot, &mut merged).await
                };
                if taken.is_ok() && slot.ask(&Ask::Goodbye).await.is_ok() {
                    self.refresh(slot).await;
                }
            }
            Ok(_) => {}
            Err(_) => self.refresh(slot).await,
        }
    }

    /// Asks the engine about a node that may have ended by itself.
    pub(super) async fn refresh(&self, slot: &Slot) {
        let before = slot.state();
        if !matches!(before, NodeState::Running | NodeState::Draining) {
            return;
        }
        match self.engine.runs(&slot.container).await {
            // An act may have changed the state meanwhile, and knows better.
            Ok(false) if slot.state() == before => slot.set(NodeState::Stopped),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "The engine did not say whether a node runs."),
        }
    }

    /// Everything that a node counts and notes.
    pub(super) async fn read_all(&self, slot: &Slot, merged: &mut Merged) -> io::Result<()> {
        slot.read_signs().await?;
        slot.read_counters().await?;
        slot.read_gauges().await?;
        merged.add(read_events(slot).await?);
        Ok(())
    }

    pub(super) async fn all_counters(&self) -> Vec<CounterReading> {
        future::join_all(self.awake().map(|slot| async {
            note_silence(slot, &slot.read_counters().await);
        }))
        .await;
        let mut sum = BTreeMap::new();
        for slot in self.slots.values() {
            slot.face().counters.add_to(&mut sum);
        }
        for CounterReading { name, value } in own::counters(&self.observer) {
            *sum.entry(name).or_default() += value;
        }
        readings(sum)
    }

    pub(super) async fn all_gauges(&self) -> Vec<GaugeReading> {
        future::join_all(self.awake().map(|slot| async {
            note_silence(slot, &slot.read_gauges().await);
        }))
        .await;
        let mut highs = BTreeMap::new();
        for slot in self.slots.values() {
            slot.take_gauges(&mut highs);
        }
        for GaugeReading { name, value, limit } in own::gauges(&self.observer) {
            let high = highs.entry(name).or_insert((0, limit));
            high.0 = high.0.max(value);
        }
        let gauge = |(name, (value, limit))| GaugeReading { name, value, limit };
        highs.into_iter().map(gauge).collect()
    }

    pub(super) async fn all_events(&self, cursor: u64) -> (Vec<SystemEvent>, u64) {
        let mut merged = self.merged.lock().await;
        let read = future::join_all(self.awake().map(read_events)).await;
        let mut fresh: Vec<_> = read.into_iter().filter_map(Result::ok).flatten().collect();
        let (noted, next) = own::events(&self.observer, merged.own);
        merged.own = next;
        fresh.extend(noted);
        fresh.sort_by_key(|event| event.at_ms);
        merged.add(fresh);
        merged.since(cursor)
    }

    pub(super) async fn all_folds(&self) -> Vec<FoldView> {
        future::join_all(self.awake().map(|slot| async {
            note_silence(slot, &slot.read_folds().await);
        }))
        .await;
        self.slots.values().flat_map(|slot| slot.face().folds.clone()).collect()
    }

    /// CPU time of each node, as its process counts it, and of this process's threads. The engine is not asked: it answers several
    /// at a time only after a second.
    pub(super) async fn all_cpu(&self) -> Vec<ThreadCpu> {
        future::join_all(self.awake().map(|slot| async {
            note_silence(slot, &slot.read_signs().await.map(drop));
        }))
        .await;
        let mut all = self.cpu.threads();
        all.extend(self.slots.values().map(|slot| {
            let thread = slot.unit.kind.thread_name(&slot.unit.name);
            ThreadCpu { thread, cpu_ns: slot.face().cpu.total(), apart: true }
        }));
        all
    }
}

/// Events of a node since the last time.
async fn read_events(slot: &Slot) -> io::Result<Vec<SystemEvent>> {
    let mut all = Vec::new();
    for _ in 0..PAGES {
        let cursor = slot.face().cursor;
        let answer = match slot.ask(&Ask::Events { cursor }).await {
            Ok(answer) => answer,
            // What was read already must not be lost with what was not.
            Err(_) if !all.is_empty() => break,
            Err(error) => return Err(error),
        };
        let Answer::Events { events, next } = answer else { return Err(odd(&answer)) };
        let full = events.len() >= EVENTS_MAX;
        slot.face().cursor = next;
        all.extend(events);
        if !full {
            break;
        }
    }
    Ok(all)
}

fn note_silence(slot: &Slot, read: &io::Result<()>) {
    if let Err(error) = read {
        let node = &slot.unit.name;
        tracing::debug!(node, %error, "The node said nothing; what it said last stands.");
    }
}

#[cfg(test)]
mod tests {
    use chat_control::inspect::EventKind;

    use super::*;

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
