//! The node's side of the door, on a thread of its own: it answers while the node's thread is busy, and not when the process stands
//! still.
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chat_control::inspect::GaugeReading;
use chat_embedded::guard::Hooks;
use chat_ports::consumer::FoldViews;
use chat_ports::net;
use chat_ports::observe::Observer;
use tokio::io::BufReader;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::wire::{self, ASK_MAX, Answer, Ask, EVENTS_MAX, Reply};
use crate::containers::Paused;
use crate::node::Signs;
use crate::readings::{self, Highs};

/// Connections at a time; a further one is closed unanswered.
const CONNECTIONS_MAX: usize = 8;
/// A connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_mins(5);
/// An answer that is not taken within this ends the connection.
const TAKEN: Duration = Duration::from_secs(5);
/// Pause after a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What the door shows and sets.
pub(super) struct Inside {
    pub(super) node: String,
    pub(super) signs: Arc<Signs>,
    pub(super) observer: Observer,
    pub(super) folds: FoldViews,
    pub(super) hooks: Arc<Hooks>,
    pub(super) paused: Arc<Paused>,
    pub(super) gauges: Unconfirmed,
    /// The node serves.
    pub(super) ready: AtomicBool,
    /// The node has ended in order.
    pub(super) ended: AtomicBool,
    /// Somebody has the last readings.
    pub(super) goodbye: CancellationToken,
}

impl Inside {
    fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Signs => Answer::Signs {
                epoch: self.signs.epoch.load(Relaxed),
                connections: self.signs.connections.load(Relaxed),
                cpu_ns: process_ns(),
                ready: self.ready.load(Relaxed),
            },
            Ask::Counters => Answer::Counters(self.observer.counters().into_iter().collect()),
            Ask::Gauges { confirmed } => {
                self.gauges.read(confirmed, readings::gauges(&self.observer))
            }
            Ask::Events { cursor } => {
                let (mut events, next) = readings::events(&self.observer, cursor);
                let later = events.len().saturating_sub(EVENTS_MAX);
                events.truncate(EVENTS_MAX);
                Answer::Events { events, next: next - later as u64 }
            }
            Ask::Folds => Answer::Folds(readings::folds(&self.folds)),
            Ask::Rule { port, own, rule } => {
                let node = own.then_some(self.node.as_str());
                match self.hooks.set(&port, node, rule) {
                    Ok(()) => Answer::Done,
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Ask::Consumer { group, paused } => {
                self.paused.set(&group, paused);
                Answer::Done
            }
            Ask::Goodbye => {
                self.goodbye.cancel();
                Answer::Done
            }
        }
    }
}

/// CPU time of this process so far, nanoseconds.
fn process_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000) + nanos.unwrap_or(0)
}

/// The highest values of gauges until an asker says that it has them, so that none is lost with an answer.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    reading: AtomicU64,
    highs: Mutex<Highs>,
}

impl Unconfirmed {
    fn read(&self, confirmed: u64, fresh: Vec<GaugeReading>) -> Answer {
        let mut highs = self.highs.lock().unwrap_or_else(PoisonError::into_inner);
        if confirmed == self.reading.load(Relaxed) {
            *highs = Highs::default();
        }
        highs.add(fresh);
        let reading = self.reading.fetch_add(1, Relaxed) + 1;
        Answer::Gauges { reading, gauges: highs.readings() }
    }
}

/// The running door.
pub(super) struct Door {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens, and answers on a thread of its own until it is closed.
    pub(super) fn open(addr: SocketAddr, inside: Arc<Inside>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(net::listen(addr))?;
        let stop = CancellationToken::new();
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("door".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(&listener, &inside) => {}
                    () = until.cancelled() => {}
                }
            });
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The thread of the door panicked.");
        }
    }
}

async fn serve(listener: &net::Listener, inside: &Arc<Inside>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        match net::accept(listener).await {
            Ok((stream, _)) if open.len() < CONNECTIONS_MAX => {
                open.spawn(converse(stream, Arc::clone(inside)));
            }
            Ok((stream, _)) => drop(stream),
            Err(error) => {
                tracing::debug!(%error, "The door could not accept.");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Answers until the asker goes away, falls silent, or says what cannot be read.
async fn converse(stream: net::Stream, inside: Arc<Inside>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Ok(Some(ask))) = timeout(IDLE, wire::read(&mut stream, ASK_MAX)).await {
        // Read before the answer is made: what an ended node answers is its last word.
        let ended = inside.ended.load(Relaxed);
        let reply = Reply { ended, answer: inside.answer(ask) };
        if !matches!(timeout(TAKEN, wire::write(&mut stream, &reply)).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use chat_ports::clock::SteadyClock;
    use chat_ports::observe::Event;
    use chat_protocol::DeviceId;

    use super::*;

    fn inside() -> Inside {
        Inside {
            node: "gateway-1".to_owned(),
            signs: Arc::default(),
            observer: Observer::new(Arc::new(SteadyClock::new(1_000))).of_node("gateway-1"),
            folds: FoldViews::default(),
            hooks: Hooks::new(1),
            paused: Arc::default(),
            gauges: Unconfirmed::default(),
            ready: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            goodbye: CancellationToken::new(),
        }
    }

    fn high(answer: Answer) -> (u64, u64) {
        match answer {
            Answer::Gauges { reading, gauges } => (reading, gauges[0].value),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_high_value_stays_until_its_reading_is_confirmed() {
        let inside = inside();
        let gauge = inside.observer.gauge("longest", 10);
        gauge.seen(9);
        let (first, value) = high(inside.answer(Ask::Gauges { confirmed: 0 }));
        assert_eq!(value, 9);
        // The answer was lost on its way.
        let (second, value) = high(inside.answer(Ask::Gauges { confirmed: 0 }));
        assert_eq!(value, 9);
        assert!(second > first);
        let (_, value) = high(inside.answer(Ask::Gauges { confirmed: second }));
        assert_eq!(value, 0);
    }

    #[tokio::test]
    async fn events_come_in_pieces_and_none_is_left_out() {
        let inside = inside();
        for device in 0..u64::try_from(EVENTS_MAX).unwrap() + 10 {
            inside.observer.note(Event::RouteSwept(DeviceId(device)));
        }
        let (mut cursor, mut seen) = (0, 0);
        loop {
            let Answer::Events { events, next } = inside.answer(Ask::Events { cursor }) else {
                panic!("events were asked for")
            };
            seen += events.len();
            if events.is_empty() {
                break;
            }
            cursor = next;
        }
        assert_eq!(seen, EVENTS_MAX + 10);
    }

    #[tokio::test]
    async fn a_rule_on_a_port_that_is_not_there_is_refused_and_one_that_is_there_is_set() {
        let inside = inside();
        let rule = |port: &str| Ask::Rule { port: port.to_owned(), own: false, rule: None };
        assert!(matches!(inside.answer(rule("cellar")), Answer::Refused(_)));
        assert_eq!(inside.answer(rule("log")), Answer::Done);
    }

    #[test]
    fn a_door_answers_over_its_socket_and_closes_on_what_it_cannot_read() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 8_869));
        let door = Door::open(addr, Arc::new(inside())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dialled = net::dial(addr, Duration::from_secs(5)).await.unwrap();
            let mut stream = BufReader::new(dialled);
            wire::write(&mut stream, &Ask::Signs).await.unwrap();
            let reply: Reply = wire::read(&mut stream, wire::ANSWER_MAX).await.unwrap().unwrap();
            let Answer::Signs { cpu_ns, ready, .. } = reply.answer else {
                panic!("signs were asked for")
            };
            assert!(ready && cpu_ns > 0 && !reply.ended);
            wire::write(&mut stream, &"what?").await.unwrap();
            assert!(wire::read::<Reply>(&mut stream, wire::ANSWER_MAX).await.unwrap().is_none());
        });
        drop(door);
    }
}
