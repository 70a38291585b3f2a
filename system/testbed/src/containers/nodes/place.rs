//! One node: its container, what was last heard of it, and what its earlier incarnations counted.
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_control::inspect::{CounterReading, FoldView, NodeInfo, NodeState};
use tokio::time::Instant;

use super::super::recipe::Running;
use super::client::{ANSWER, Client};
use crate::process::wire::{Answer, Ask};
use crate::readings::Highs;
use crate::unit::Unit;

/// A node that did not answer a look is passed over by others for so long, so that one that hangs makes no look late twice.
const SILENCE: Duration = Duration::from_secs(1);

/// A node and its place.
pub(super) struct Place {
    pub(super) unit: Unit,
    /// Number among all nodes, from 0.
    pub(super) number: usize,
    /// Name of its container.
    pub(super) container: String,
    /// Held by the act under way; the container once it was made.
    pub(super) acts: tokio::sync::Mutex<Option<Running>>,
    client: tokio::sync::Mutex<Client>,
    face: Mutex<Face>,
}

/// What is known of a node.
pub(super) struct Face {
    pub(super) state: NodeState,
    pub(super) epoch: u64,
    pub(super) connections: u64,
    /// Until then no look asks it.
    silent: Option<Instant>,
    /// It has ended in order and waits for its last readings to be taken.
    pub(super) ended: bool,
    pub(super) counters: Grown,
    /// Number of the reading of gauges that is in.
    reading: u64,
    /// Since they were taken last.
    gauges: Highs,
    /// Next event to read.
    pub(super) cursor: u64,
    pub(super) folds: Vec<FoldView>,
    pub(super) cpu: Used,
}

/// Counters over all incarnations.
#[derive(Debug, Default)]
pub(super) struct Grown {
    before: BTreeMap<String, u64>,
    now: BTreeMap<String, u64>,
}

impl Grown {
    /// What the present incarnation says.
    pub(super) fn says(&mut self, counters: BTreeMap<String, u64>) {
        self.now = counters;
    }

    /// The incarnation is over: what it said last is kept.
    fn over(&mut self) {
        for (name, value) in std::mem::take(&mut self.now) {
            *self.before.entry(name).or_default() += value;
        }
    }

    /// Adds everything to a sum.
    pub(super) fn add_to(&self, sum: &mut BTreeMap<String, u64>) {
        for (name, value) in self.before.iter().chain(&self.now) {
            *sum.entry(name.clone()).or_default() += value;
        }
    }
}

/// CPU time over all incarnations, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    before: u64,
    now: u64,
}

impl Used {
    /// The incarnation is over: what it used last is kept.
    fn over(&mut self) {
        self.before += std::mem::take(&mut self.now);
    }

    pub(super) fn total(self) -> u64 {
        self.before + self.now
    }
}

impl Place {
    pub(super) fn new(unit: Unit, number: usize, container: String, door: SocketAddr) -> Self {
        Self {
            unit,
            number,
            container,
            acts: tokio::sync::Mutex::default(),
            client: tokio::sync::Mutex::new(Client::new(door)),
            face: Mutex::new(Face {
                state: NodeState::Stopped,
                epoch: 0,
                connections: 0,
                silent: None,
                ended: false,
                counters: Grown::default(),
                reading: 0,
                gauges: Highs::default(),
                cursor: 0,
                folds: Vec::new(),
                cpu: Used::default(),
            }),
        }
    }

    pub(super) fn face(&self) -> MutexGuard<'_, Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> NodeState {
        self.face().state
    }

    pub(super) fn info(&self) -> NodeInfo {
        let face = self.face();
        self.unit.info(face.state, face.epoch, face.connections)
    }

    /// Notes a state. A node that executes nothing any more has no connections and keeps no fold.
    pub(super) fn set(&self, state: NodeState) {
        let mut face = self.face();
        face.state = state;
        if matches!(state, NodeState::Stopped | NodeState::Vanished) {
            face.connections = 0;
            face.folds.clear();
        }
    }

    /// Forgets what belonged to the incarnation before; its counts stay.
    pub(super) fn begins(&self) {
        let mut face = self.face();
        face.counters.over();
        face.cpu.over();
        (face.reading, face.cursor, face.ended, face.silent) = (0, 0, false, None);
    }

    /// Asks for a look, whatever state the node is in; one that hung just now is passed over.
    pub(super) async fn ask(&self, ask: &Ask) -> io::Result<Answer> {
        if self.face().silent.is_some_and(|until| Instant::now() < until) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        self.put(ask).await
    }

    /// Says what has to be heard, also to a node that hung just now, and once more when there is no answer: within two limits of an
    /// answer. So what is said has to mean the same when it is heard twice.
    pub(super) async fn tell(&self, ask: &Ask) -> io::Result<()> {
        let answer = match self.put(ask).await {
            Ok(answer) => answer,
            Err(_) => self.put(ask).await?,
        };
        match answer {
            Answer::Done => Ok(()),
            other => Err(odd(&other)),
        }
    }

    /// Puts a question through the door.
    async fn put(&self, ask: &Ask) -> io::Result<Answer> {
        let asked = async { self.client.lock().await.ask(ask).await };
        // Another one may wait for its answer just now: that wait is part of this one's.
        let reply = tokio::time::timeout(ANSWER, asked)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        let mut face = self.face();
        match reply {
            Ok(reply) => {
                face.silent = None;
                face.ended |= reply.ended;
                Ok(reply.answer)
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    face.silent = Some(Instant::now() + SILENCE);
                }
                Err(error)
            }
        }
    }

    /// Reads epoch, connections and CPU time; whether the node serves.
    pub(super) async fn read_signs(&self) -> io::Result<bool> {
        match self.ask(&Ask::Signs).await? {
            Answer::Signs { epoch, connections, cpu_ns, ready } => {
                let mut face = self.face();
                (face.epoch, face.connections) = (epoch, connections);
                face.cpu.now = cpu_ns;
                Ok(ready)
            }
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn read_counters(&self) -> io::Result<()> {
        match self.ask(&Ask::Counters).await? {
            Answer::Counters(counters) => {
                self.face().counters.says(counters);
                Ok(())
            }
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn read_gauges(&self) -> io::Result<()> {
        let confirmed = self.face().reading;
        match self.ask(&Ask::Gauges { confirmed }).await? {
            Answer::Gauges { reading, gauges } => {
                let mut face = self.face();
                face.reading = reading;
                face.gauges.add(gauges);
                Ok(())
            }
            other => Err(odd(&other)),
        }
    }

    /// The highest values since the last call.
    pub(super) fn take_gauges(&self) -> Highs {
        std::mem::take(&mut self.face().gauges)
    }

    pub(super) async fn read_folds(&self) -> io::Result<()> {
        match self.ask(&Ask::Folds).await? {
            Answer::Folds(folds) => {
                self.face().folds = folds;
                Ok(())
            }
            other => Err(odd(&other)),
        }
    }
}

pub(super) fn odd(answer: &Answer) -> io::Error {
    let why = match answer {
        Answer::Refused(why) => why.clone(),
        _ => "an answer to another question".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A sum of counters as the panel shows it.
pub(super) fn readings(sum: BTreeMap<String, u64>) -> Vec<CounterReading> {
    sum.into_iter().map(|(name, value)| CounterReading { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Door, Say};
    use super::*;

    fn counters(value: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("calls".to_owned(), value)])
    }

    fn sum(grown: &Grown) -> u64 {
        let mut sum = BTreeMap::new();
        grown.add_to(&mut sum);
        sum["calls"]
    }

    #[test]
    fn what_a_dead_incarnation_counted_is_kept_and_the_next_one_counts_on() {
        let mut grown = Grown::default();
        grown.says(counters(5));
        grown.says(counters(9));
        assert_eq!(sum(&grown), 9);
        grown.over();
        assert_eq!(sum(&grown), 9);
        grown.says(counters(2));
        assert_eq!(sum(&grown), 11);
    }

    #[test]
    fn cpu_time_goes_on_over_a_restart() {
        let mut used = Used { before: 0, now: 50 };
        used.over();
        used.now = 10;
        assert_eq!(used.total(), 60);
    }

    fn told() -> Ask {
        Ask::Consumer { group: "receipts".to_owned(), paused: true }
    }

    #[tokio::test]
    async fn a_node_that_hung_at_a_look_is_told_all_the_same() {
        let door = Door::open(|_| Say::Answer(Answer::Done)).await;
        let place = door.place("gateway-1");
        place.face().silent = Some(Instant::now() + SILENCE);
        assert!(place.ask(&Ask::Folds).await.is_err(), "looks pass it over");
        place.tell(&told()).await.unwrap();
        assert_eq!(door.heard(), [told()]);
    }

    #[tokio::test]
    async fn what_has_to_be_heard_is_said_once_more_and_not_for_ever() {
        let mut times = 0;
        let door = Door::open(move |_| {
            times += 1;
            if times == 2 { Say::Answer(Answer::Done) } else { Say::Close }
        })
        .await;
        let place = door.place("gateway-1");
        place.tell(&told()).await.unwrap();
        assert_eq!(door.heard().len(), 2);
        assert!(place.tell(&told()).await.is_err());
        assert_eq!(door.heard().len(), 4);
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_not_asked_for_again() {
        let door = Door::open(|_| Say::Answer(Answer::Refused("no such port".to_owned()))).await;
        let told = door.place("gateway-1").tell(&told()).await;
        assert_eq!(told.unwrap_err().to_string(), "no such port");
        assert_eq!(door.heard().len(), 1);
    }
}
