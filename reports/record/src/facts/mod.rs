//! What the experiment saw: windows, faults, the system through the control door, the end. Plain numbers and strings.
//!
//! A fact is noted when it is seen and appended to `events.jsonl`; [`Facts`] is all of them folded. All instants are
//! nanoseconds since the run's start on the harness's monotonic clock; the runner converts wall times of the system.
mod faults;
mod looks;
mod system;
mod windows;

use std::collections::BTreeMap;

use chat_protocol::ConvId;
use serde::{Deserialize, Serialize};

pub use faults::{Evidence, FaultKind, FaultLog, FaultMark, FaultNote, Targets};
pub use looks::{
    AcceptGap, CounterList, CpuList, DigestList, DigestSeen, FoldList, FoldSeen, GaugeList,
    GaugeMax, GaugeSeen, HostFact, LagList, LagSeen, LeaseList, LeaseSeen, MemoryFact, NodeList,
    NodeSeen, ObserverLost, QueueList, QueueSeen, RouteFact, RouteSeen,
};
pub use system::{SystemFact, SystemWhat};
pub use windows::{FinalPhase, Mark, Stopped, WindowBegan, WindowSpan};

/// One fact, as it is appended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// A window began; the one before it ended.
    Window(WindowBegan),
    /// Something about a fault.
    Fault(FaultNote),
    /// A route appeared, changed or went.
    Route(RouteFact),
    /// Node leases, as listed at one instant.
    Leases(LeaseList),
    /// Nodes, as listed at one instant.
    Nodes(NodeList),
    /// A gauge above what was seen of it before, or at a phase boundary.
    Gauges(GaugeList),
    /// All counters, once a second.
    Counters(CounterList),
    /// How far groups are behind, once a second.
    Lags(LagList),
    /// Digests of folds.
    Folds(FoldList),
    /// Relay queues that are not empty; in the final reads, every one that was looked at counts in `looked`.
    Queues(QueueList),
    /// Conversations in history, in the final reads.
    Digests(DigestList),
    /// Something that happened inside the system.
    System(SystemFact),
    /// CPU time of all threads, once a second.
    Cpu(CpuList),
    /// Memory of the process, once a second.
    Memory(MemoryFact),
    /// Who used the cores, once a second.
    Host(HostFact),
    /// Longest time without an answer while sends waited, by partition.
    AcceptGap(AcceptGap),
    /// The experiment's own view: a step began, a steady state was judged, recovery was seen.
    Mark(Mark),
    /// The run was told to stop.
    Stopped(Stopped),
    /// An observer could not look.
    ObserverLost(ObserverLost),
    /// The final phase ended.
    Final(FinalPhase),
}

/// All facts, folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Windows in order.
    pub windows: Vec<WindowSpan>,
    /// Faults in order.
    pub faults: Vec<FaultLog>,
    /// Routes in the order they changed.
    pub routes: Vec<RouteFact>,
    /// Leases.
    pub leases: Vec<LeaseList>,
    /// Nodes.
    pub nodes: Vec<NodeList>,
    /// Gauges: the highest value seen of each in each window, with its limit.
    pub gauges: BTreeMap<String, GaugeMax>,
    /// Counters.
    pub counters: Vec<CounterList>,
    /// Lags.
    pub lags: Vec<LagList>,
    /// Folds: all nodes' digests by (group, partition, offset).
    pub folds: BTreeMap<(String, u32, u64), Vec<(String, u64)>>,
    /// Relay queues.
    pub queues: Vec<QueueList>,
    /// History.
    pub digests: BTreeMap<ConvId, DigestSeen>,
    /// Events of the system.
    pub system: Vec<SystemFact>,
    /// CPU.
    pub cpu: Vec<CpuList>,
    /// Memory.
    pub memory: Vec<MemoryFact>,
    /// Use of the cores.
    pub host: Vec<HostFact>,
    /// Accept gaps.
    pub accept_gaps: Vec<AcceptGap>,
    /// Marks.
    pub marks: Vec<Mark>,
    /// Stop, if it was told to.
    pub stopped: Option<Stopped>,
    /// Observers that failed.
    pub lost: Vec<ObserverLost>,
    /// The final phase, if it ended.
    pub last: Option<FinalPhase>,
    /// The latest instant of any fact.
    pub end_ns: u64,
}

impl Facts {
    /// Folds one fact in.
    pub fn note(&mut self, fact: Fact) {
        let mut at = 0;
        match fact {
            Fact::Window(began) => {
                at = began.at_ns;
                if let Some(open) = self.windows.last_mut() {
                    open.to_ns = at;
                    open.closed = true;
                }
                let WindowBegan { phase, name, window, at_ns } = began;
                self.windows.push(WindowSpan {
                    phase,
                    name,
                    window,
                    from_ns: at_ns,
                    to_ns: at_ns,
                    closed: false,
                });
            }
            Fact::Fault(note) => {
                at = note.at_ns;
                self.note_fault(note);
            }
            Fact::Route(route) => self.routes.push(route),
            Fact::Leases(list) => {
                at = list.at_ns;
                self.leases.push(list);
            }
            Fact::Nodes(list) => {
                at = list.at_ns;
                self.nodes.push(list);
            }
            Fact::Gauges(list) => {
                at = list.at_ns;
                for seen in list.gauges {
                    let gauge = self.gauges.entry(seen.name).or_default();
                    if seen.value >= gauge.value {
                        *gauge =
                            GaugeMax { value: seen.value, at_ns: list.at_ns, limit: seen.limit };
                    }
                }
            }
            Fact::Counters(list) => {
                at = list.at_ns;
                self.counters.push(list);
            }
            Fact::Lags(list) => {
                at = list.at_ns;
                self.lags.push(list);
            }
            Fact::Folds(list) => {
                at = list.at_ns;
                for fold in list.folds {
                    let known =
                        self.folds.entry((fold.group, fold.partition, fold.offset)).or_default();
                    if !known
                        .iter()
                        .any(|(node, digest)| *node == fold.node && *digest == fold.digest)
                    {
                        known.push((fold.node, fold.digest));
                    }
                }
            }
            Fact::Queues(list) => {
                at = list.at_ns;
                self.queues.push(list);
            }
            Fact::Digests(list) => {
                at = list.at_ns;
                self.digests.extend(list.digests.into_iter().map(|seen| (seen.conv, seen)));
            }
            Fact::System(fact) => self.system.push(fact),
            Fact::Cpu(list) => {
                at = list.at_ns;
                self.cpu.push(list);
            }
            Fact::Memory(fact) => self.memory.push(fact),
            Fact::Host(fact) => self.host.push(fact),
            Fact::AcceptGap(gap) => self.accept_gaps.push(gap),
            Fact::Mark(mark) => self.marks.push(mark),
            Fact::Stopped(stopped) => {
                at = stopped.at_ns;
                self.stopped.get_or_insert(stopped);
            }
            Fact::ObserverLost(lost) => {
                at = lost.at_ns;
                self.lost.push(lost);
            }
            Fact::Final(last) => {
                at = last.at_ns;
                if let Some(open) = self.windows.last_mut() {
                    open.closed = true;
                }
                self.last = Some(last);
            }
        }
        self.end_ns = self.end_ns.max(at);
        if let Some(open) = self.windows.last_mut() {
            open.to_ns = open.to_ns.max(self.end_ns);
        }
    }

    fn note_fault(&mut self, note: FaultNote) {
        let found = self.faults.iter().position(|known| known.fault == note.fault);
        let at = found.unwrap_or_else(|| {
            self.faults.push(FaultLog::of(note.step.clone(), note.fault));
            self.faults.len() - 1
        });
        self.faults[at].note(note);
    }

    /// The window of an instant.
    pub fn window_at(&self, at_ns: u64) -> Option<&WindowSpan> {
        self.windows.iter().rev().find(|span| span.from_ns <= at_ns)
    }

    /// Faults active at an instant.
    pub fn faults_at(&self, at_ns: u64) -> impl Iterator<Item = &FaultLog> {
        self.faults.iter().filter(move |log| log.active_at(at_ns))
    }

    /// Whether the steady state was judged before the method and did not hold, so that nothing was injected.
    pub fn steady_did_not_hold(&self) -> bool {
        self.marks.iter().any(|mark| matches!(mark, Mark::Steady { held: false, .. }))
    }

    /// When everything was healed.
    pub fn all_healed_ns(&self) -> Option<u64> {
        self.marks.iter().find_map(|mark| match mark {
            Mark::AllHealed { at_ns } => Some(*at_ns),
            Mark::Steady { .. } | Mark::Sometimes { .. } | Mark::Drained { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use storm_workload::plan::Window;

    use super::*;

    fn began(phase: u16, window: Window, at_ns: u64) -> Fact {
        Fact::Window(WindowBegan { phase, name: window.name().to_owned(), window, at_ns })
    }

    fn about(mark: FaultMark, at_ns: u64) -> Fact {
        Fact::Fault(FaultNote { step: "kill-one".to_owned(), fault: 0, mark, at_ns })
    }

    fn injected() -> FaultMark {
        let (kind, targets, undo) = (FaultKind::Kill, Targets::default(), "started".to_owned());
        FaultMark::Injected { kind, targets, undo, began_ns: 8 }
    }

    #[test]
    fn a_window_ends_where_the_next_one_begins_and_the_last_one_with_the_run() {
        let mut facts = Facts::default();
        facts.note(began(0, Window::Steady, 0));
        facts.note(began(1, Window::Drain, 10));
        facts.note(Fact::Memory(MemoryFact { at_ns: 99, resident: 1 }));
        facts.note(Fact::Lags(LagList { at_ns: 15, lags: Vec::new() }));
        let spans: Vec<_> =
            facts.windows.iter().map(|span| (span.from_ns, span.to_ns, span.closed)).collect();
        assert_eq!(spans, [(0, 10, true), (10, 15, false)]);
        assert_eq!(facts.window_at(9).unwrap().window, Window::Steady);
        assert_eq!(facts.window_at(10).unwrap().window, Window::Drain);
        let (missing, at_ns) = (Vec::new(), 20);
        facts.note(Fact::Final(FinalPhase { drained: true, read: true, missing, at_ns }));
        assert!(facts.windows[1].closed);
        assert_eq!(facts.end_ns, 20);
    }

    #[test]
    fn a_fault_is_active_from_the_beginning_of_its_act_until_it_was_seen_to_be_gone() {
        let mut facts = Facts::default();
        facts.note(about(injected(), 10));
        facts.note(about(FaultMark::Witnessed(Vec::new()), 12));
        facts.note(about(FaultMark::Witnessed(Vec::new()), 13));
        facts.note(about(FaultMark::Healing, 20));
        assert_eq!(facts.faults_at(25).count(), 1);
        facts.note(about(FaultMark::Healed(Vec::new()), 22));
        assert_eq!([7, 8, 21, 22].map(|at_ns| facts.faults_at(at_ns).count()), [0, 1, 1, 0]);
        let log = &facts.faults[0];
        assert_eq!(
            (log.witnessed_ns, log.healing_ns, log.healed_ns),
            (Some(12), Some(20), Some(22))
        );
    }

    #[test]
    fn a_fault_that_bites_again_has_not_lapsed() {
        let mut facts = Facts::default();
        facts.note(about(injected(), 10));
        facts.note(about(FaultMark::Lapsed(14), 17));
        assert_eq!(facts.faults[0].lapsed_ns, Some(14));
        facts.note(about(FaultMark::Witnessed(Vec::new()), 18));
        assert_eq!(facts.faults[0].lapsed_ns, None);
        facts.note(about(FaultMark::NotHealed("timed out".to_owned()), 30));
        assert_eq!(facts.faults[0].trouble.as_deref(), Some("timed out"));
    }

    #[test]
    fn gauges_keep_their_highest_value_and_folds_what_differs() {
        let mut facts = Facts::default();
        for (at_ns, value) in [(1, 5), (2, 9), (3, 7)] {
            let gauge = GaugeSeen { name: "queue".to_owned(), value, limit: 10 };
            facts.note(Fact::Gauges(GaugeList { at_ns, gauges: vec![gauge] }));
        }
        assert_eq!(facts.gauges["queue"], GaugeMax { value: 9, at_ns: 2, limit: 10 });
        for (node, digest) in [("a", 1), ("a", 1), ("b", 2)] {
            let (group, node) = ("sequencer".to_owned(), node.to_owned());
            let fold = FoldSeen { group, node, partition: 0, offset: 7, digest };
            facts.note(Fact::Folds(FoldList { at_ns: 4, folds: vec![fold] }));
        }
        assert_eq!(facts.folds[&("sequencer".to_owned(), 0, 7)].len(), 2);
    }
}
