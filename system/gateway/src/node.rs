//! A gateway from its start to its end.
use std::sync::Arc;
use std::time::Duration;

use chat_ports::net::Listener;
use chat_ports::observe::Event;
use chat_ports::streams::Peers;
use chat_protocol::close;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::deps::Deps;
use crate::hub::{Hub, Streams};
use crate::{accept, dispatch, drain, fence, rounds};

/// How often gauges are set and kept unregistrations are offered again.
const UPKEEP: Duration = Duration::from_millis(250);

/// Why a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The caller's token was cancelled.
    Stopped,
    /// A drain ran to its end: every connection is closed. The caller gives the node's lease back, by ending its keeper.
    Drained,
    /// It could not keep its lease and stopped serving. The caller joins the registry again, which makes a new node key, and
    /// starts a new gateway on the same address.
    Fenced,
}

/// A running gateway.
pub struct Gateway {
    hub: Arc<Hub>,
    drain: CancellationToken,
    ended: watch::Receiver<Option<Ended>>,
}

impl Gateway {
    /// Open connections of registered devices.
    pub fn connections(&self) -> u64 {
        self.hub.connections()
    }

    /// Whether it takes connections and can serve them, as `GET /readyz` says.
    pub fn is_ready(&self) -> bool {
        self.hub.ready()
    }

    /// Begins a drain; [`Gateway::ended`] tells when it is over, at the latest a second after `timers.drain_deadline`.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Waits until the gateway has ended: its listener and all its connections are closed, and its streams are ending.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.unwrap_or(Ended::Stopped),
            Err(_) => Ended::Stopped,
        }
    }
}

/// Starts a gateway on a listener. Its tasks run on `tracker`; they end when it ends, which `shutdown` makes it do at once.
pub fn start(
    listener: Listener,
    deps: Deps,
    tracker: &TaskTracker,
    shutdown: &CancellationToken,
) -> Gateway {
    let streams = CancellationToken::new();
    let accepting = CancellationToken::new();
    let drain = CancellationToken::new();
    let keepalive = deps.timers.stream_keepalive;
    let (messages_in, messages) = mpsc::channel(dispatch::EVENTS_WAITING);
    let (deliver_in, deliver) = mpsc::channel(dispatch::EVENTS_WAITING);
    let (sessions_in, sessions) = mpsc::channel(dispatch::EVENTS_WAITING);
    let (reads_in, reads) = mpsc::channel(dispatch::EVENTS_WAITING);
    let open = Streams {
        messages: Peers::start(&deps.view, keepalive, messages_in, tracker, &streams),
        deliver: Peers::start(&deps.view, keepalive, deliver_in, tracker, &streams),
        sessions: Peers::start(&deps.view, keepalive, sessions_in, tracker, &streams),
        reads: Peers::start(&deps.view, keepalive, reads_in, tracker, &streams),
    };
    let hub = Arc::new(Hub::new(deps, open));
    // Each dispatcher ends with its streams.
    tracker.spawn(dispatch::messages(Arc::clone(&hub), messages));
    tracker.spawn(dispatch::deliver(Arc::clone(&hub), deliver));
    tracker.spawn(dispatch::sessions(Arc::clone(&hub), sessions));
    tracker.spawn(dispatch::reads(Arc::clone(&hub), reads));
    tracker.spawn(rounds::run(Arc::clone(&hub), streams.clone()));
    tracker.spawn(upkeep(Arc::clone(&hub), streams.clone()));
    tracker.spawn(accept::run(
        listener,
        Arc::clone(&hub),
        tracker.clone(),
        accepting.clone(),
        streams.clone(),
    ));
    let (tell, ended) = watch::channel(None);
    let life = Life {
        hub: Arc::clone(&hub),
        drain: drain.clone(),
        shutdown: shutdown.clone(),
        accepting,
        streams,
    };
    tracker.spawn(async move {
        let why = life.run().await;
        tell.send_replace(Some(why));
    });
    Gateway { hub, drain, ended }
}

struct Life {
    hub: Arc<Hub>,
    drain: CancellationToken,
    shutdown: CancellationToken,
    accepting: CancellationToken,
    streams: CancellationToken,
}

impl Life {
    async fn run(self) -> Ended {
        let fenced = fence::watch(Arc::clone(&self.hub));
        tokio::pin!(fenced);
        let why = tokio::select! {
            () = self.shutdown.cancelled() => Ended::Stopped,
            () = &mut fenced => Ended::Fenced,
            () = self.drain.cancelled() => {
                self.hub.set_draining();
                self.accepting.cancel();
                // A draining node may still lose its lease or be stopped.
                tokio::select! {
                    () = self.shutdown.cancelled() => Ended::Stopped,
                    () = &mut fenced => Ended::Fenced,
                    () = drain::run(&self.hub) => Ended::Drained,
                }
            }
        };
        self.hub.set_draining();
        self.accepting.cancel();
        match why {
            Ended::Drained => {}
            Ended::Stopped => drain::close_all(&self.hub, close::RESTART).await,
            Ended::Fenced => {
                self.hub.set_fenced();
                self.hub.deps.observer.note(Event::Fenced);
                drain::close_all(&self.hub, close::FENCED).await;
                drain::flush(&self.hub).await;
            }
        }
        self.streams.cancel();
        why
    }
}

async fn upkeep(hub: Arc<Hub>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(UPKEEP);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        hub.metrics.waiting_sends.set(hub.messages.waiting() as u64);
        hub.work_off_unregisters();
        hub.catch_up_now();
    }
}
