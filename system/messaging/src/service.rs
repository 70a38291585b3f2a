//! Starts the role on a node.
use std::sync::Arc;

use chat_ports::consumer::{Member, RECEIPTS, SEQUENCER};
use chat_ports::log::{EventLog, Topic};
use chat_ports::streams::kinds::EnqueueStream;
use chat_ports::streams::{MESSAGE_MAX, Peers};
use chat_protocol::node::messages_server::MessagesServer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Deps;
use crate::answers::Answers;
use crate::desk::{self, Desk};
use crate::directory::Directory;
use crate::intake::MessagesService;
use crate::pump::{self, PumpDeps};
use crate::receipts::ReceiptsFactory;
use crate::sequencer::SequencerFactory;

/// Messages of relay streams that wait to be handed to their partitions; a full queue holds the streams back.
const EVENTS_WAITING: usize = 256;

/// The running role.
pub struct Handle {
    /// To be added to the node's server.
    pub service: MessagesServer<MessagesService>,
}

/// Starts intake, sequencer and receipts as tasks of `tracker`; they end when `shutdown` fires: the sequencer writes a last
/// snapshot of each partition and both groups are left.
pub fn start(deps: Deps, tracker: &TaskTracker, shutdown: &CancellationToken) -> Handle {
    let deps = Arc::new(deps);
    let directory = Arc::new(Directory::new(
        Arc::clone(&deps.tables),
        deps.timers.directory_cache,
        &deps.observer,
    ));
    let fresh = Arc::clone(&directory);
    let keeping = async move { fresh.keep_fresh().await };
    tracker.spawn(shutdown.clone().run_until_cancelled_owned(keeping));
    let answers = Answers::default();

    let desk = Desk::default();
    let (events, arriving) = mpsc::channel(EVENTS_WAITING);
    let peers = Peers::<EnqueueStream>::start(
        &deps.view,
        deps.timers.stream_keepalive,
        events,
        tracker,
        shutdown,
    );
    tracker.spawn(desk::dispatch(desk.clone(), arriving, shutdown.clone()));

    let pump_of = |group, topic, log: &Arc<dyn EventLog>| {
        Arc::new(PumpDeps {
            log: Arc::clone(log),
            group,
            topic,
            queue: Arc::clone(&deps.queue),
            blobs: Arc::clone(&deps.blobs),
            timers: deps.timers,
            partitions: deps.partitions,
            observer: deps.observer.clone(),
            peers: peers.clone(),
            desk: desk.clone(),
        })
    };
    let member = |group, topic, log: &Arc<dyn EventLog>| Member {
        log: Arc::clone(log),
        group,
        topic,
        name: format!("{}@{}", deps.view.key.name, deps.view.key.epoch),
        heartbeat: deps.timers.log_heartbeat,
        observer: deps.observer.clone(),
    };

    let sequencer = SequencerFactory::new(&deps, Arc::clone(&directory), answers.clone());
    let run = pump::runner(
        pump_of(SEQUENCER, Topic::Messages, &deps.sequencer_log),
        Arc::new(sequencer),
        shutdown,
    );
    tracker.spawn(member(SEQUENCER, Topic::Messages, &deps.sequencer_log).run(
        tracker.clone(),
        shutdown.clone(),
        run,
    ));

    let receipts = ReceiptsFactory::new(&deps, Arc::clone(&directory));
    let run = pump::runner(
        pump_of(RECEIPTS, Topic::Receipts, &deps.receipts_log),
        Arc::new(receipts),
        shutdown,
    );
    tracker.spawn(member(RECEIPTS, Topic::Receipts, &deps.receipts_log).run(
        tracker.clone(),
        shutdown.clone(),
        run,
    ));

    let service = MessagesService::start(&deps, directory, answers, tracker, shutdown);
    Handle { service: MessagesServer::new(service).max_decoding_message_size(MESSAGE_MAX) }
}
