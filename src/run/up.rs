//! A system that stays up, with one device of its own that answers.
//!
//! The device belongs to user 1 and sends every message back. Its bodies are not sealed, so that a client in any language
//! can talk to it from `docs/protocol.md` alone.
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use chat_client::app::{
    Accepted, App, Attempt, Closed, Failure, NotSent, Oddity, Opened, Surfaced,
};
use chat_client::dial::Plain;
use chat_client::{Device, DeviceHandle, Local, Outgoing, Policies, Profile, Shared};
use chat_protocol::digest::mix;
use chat_protocol::fold::mid_from_bits;
use chat_protocol::frame::{DeviceClass, RejectCode};
use chat_protocol::limits::Timers;
use chat_protocol::{Cid, ConvId, DeviceId, UserId};
use chat_testbed::Testbed;
use storm_load::RunClock;
use storm_workload::Plan;
use tokio::task::LocalSet;
use tokio_util::task::TaskTracker;

use super::{preflight_ports, record, system};
use crate::exit::Edge;
use crate::output::Output;
use crate::signals::Signals;

/// Whose device answers.
pub(super) const ECHO: UserId = UserId(1);
/// Answers that may wait; a further message is not answered.
const WAITING_MAX: usize = 1_000;

/// Starts the system of a plan, tells its addresses on stdout, and stops it at the first signal.
pub fn up(plan: &Plan, output: &Output, signals: &Signals) -> Result<(), Edge> {
    let data = std::env::temp_dir().join(format!("chatstorm-up-{}", std::process::id()));
    std::fs::create_dir_all(&data)
        .map_err(|error| Edge::no_start("no folder for the system's files").caused_by(error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Edge::no_start("no runtime").caused_by(error))?;
    let stayed = LocalSet::new().block_on(&runtime, stay(plan, &data, output, signals));
    runtime.shutdown_background();
    if let Err(error) = std::fs::remove_dir_all(&data) {
        tracing::warn!(%error, folder = %data.display(), "The files of the system could not be removed.");
    }
    stayed
}

async fn stay(plan: &Plan, data: &Path, output: &Output, signals: &Signals) -> Result<(), Edge> {
    let config = system::config(plan, data, record::wall_ms())?;
    preflight_ports(&config.addresses())?;
    let timers = config.timers;
    let testbed = Testbed::start(config)
        .await
        .map_err(|error| Edge::no_start("the system did not start").caused_by(error))?;
    let echo = Rc::new(Echo::default());
    let tasks = TaskTracker::new();
    let device = echo_device(&echo, testbed.entries(), &timers, tasks.clone());
    *echo.device.borrow_mut() = Some(device.clone());
    device.join();
    let line = |entry: &SocketAddr| format!("http://{entry}  WebSocket at ws://{entry}/v1/ws\n");
    output.data(&testbed.entries().iter().map(line).collect::<String>())?;
    output.talk(&format!("user {} answers every message; Ctrl-C stops the system", ECHO.0));
    loop {
        tokio::select! {
            () = signals.stop.cancelled() => break,
            () = echo.woken.notified() => echo.answer(&device),
        }
    }
    device.stop();
    tasks.close();
    if tokio::time::timeout(timers.drain_spread, tasks.wait()).await.is_err() {
        tracing::debug!("The answering device did not say goodbye in time.");
    }
    testbed.stop().await;
    Ok(())
}

fn echo_device(
    echo: &Rc<Echo>,
    entries: Vec<SocketAddr>,
    timers: &Timers,
    tasks: TaskTracker,
) -> DeviceHandle {
    let clock = Rc::new(RunClock::start());
    let app: Rc<dyn App> = Rc::<Echo>::clone(echo);
    let shared = Rc::new(Shared::new(
        app,
        clock,
        Rc::new(Plain(entries)),
        *timers,
        Policies::default(),
        tasks,
    ));
    let device: DeviceId = ECHO.device(0);
    let class = DeviceClass::Mobile;
    Device::spawn(&shared, Profile { who: Local(0), device, class, token: None, seed: ECHO.0 })
}

/// The app of the answering device.
#[derive(Default)]
struct Echo {
    device: RefCell<Option<DeviceHandle>>,
    /// What is to be sent: (conversation, text), by ticket from `first`.
    texts: RefCell<VecDeque<(u64, ConvId, Vec<u8>)>>,
    next: std::cell::Cell<u64>,
    unsent: RefCell<VecDeque<u64>>,
    woken: tokio::sync::Notify,
}

impl Echo {
    /// Sends what came in since the last time; a device must not be steered from within its own calls.
    fn answer(&self, device: &DeviceHandle) {
        let tickets: Vec<u64> = self.unsent.borrow_mut().drain(..).collect();
        for ticket in tickets {
            let conv = self
                .texts
                .borrow()
                .iter()
                .find(|(known, ..)| *known == ticket)
                .map(|(_, conv, _)| *conv);
            let Some(conv) = conv else { continue };
            let bits = (u128::from(mix(&[record::wall_ms(), ticket])) << 64)
                | u128::from(mix(&[ticket, ECHO.0]));
            device.send(Outgoing { ticket, cid: Cid(mid_from_bits(bits).0), conv, kind: 0 });
        }
    }

    fn done(&self, ticket: u64) {
        self.texts.borrow_mut().retain(|(known, ..)| *known != ticket);
    }
}

impl App for Echo {
    fn compose(&self, _: Local, message: &Outgoing, _: u64, body: &mut Vec<u8>) {
        let texts = self.texts.borrow();
        if let Some((.., text)) = texts.iter().find(|(known, ..)| *known == message.ticket) {
            body.extend_from_slice(text);
        }
    }
    fn surfaced(&self, _: Local, surfaced: &Surfaced<'_>, _: u64) {
        // Its own copies from other devices of the user are no messages to answer.
        if surfaced.from.user() == ECHO || self.texts.borrow().len() >= WAITING_MAX {
            return;
        }
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        self.texts.borrow_mut().push_back((ticket, surfaced.conv, surfaced.plaintext.to_vec()));
        self.unsent.borrow_mut().push_back(ticket);
        self.woken.notify_one();
    }
    fn accepted(&self, _: Local, accepted: &Accepted, _: u64) {
        self.done(accepted.ticket);
    }
    fn rejected(&self, _: Local, ticket: u64, _: RejectCode, _: u64) {
        self.done(ticket);
    }
    fn unknown(&self, _: Local, ticket: u64, _: u64) {
        self.done(ticket);
    }
    fn not_sent(&self, _: Local, ticket: u64, _: NotSent, _: u64) {
        self.done(ticket);
    }
    fn written(&self, _: Local, _: &Outgoing, _: u32, _: u64) {}
    fn refused(&self, _: Local, _: u64, _: RejectCode, _: bool, _: u64) {}
    fn unreadable(&self, _: Local, _: &Surfaced<'_>, _: u64) {}
    fn wire_duplicate(&self, _: Local, _: ConvId, _: u64, _: u64) {}
    fn dseq_hole(&self, _: Local, _: u64, _: u64, _: u64) {}
    fn receipt(&self, _: Local, _: ConvId, _: UserId, _: u64, _: u64) {}
    fn attempt(&self, _: Local, _: &Attempt, _: u64) {}
    fn attempt_failed(&self, _: Local, _: Failure, _: Option<u64>, _: u64) {}
    fn opened(&self, _: Local, _: &Opened<'_>, _: u64) {}
    fn caught_up(&self, _: Local, _: u64) {}
    fn renumbered(&self, _: Local, _: bool, _: u64) {}
    fn drain(&self, _: Local, _: u64, _: u64) {}
    fn closed(&self, _: Local, _: &Closed, _: u64) {}
    fn terminal(&self, _: Local, _: u16, _: u64) {}
    fn heartbeat(&self, _: Local, _: u64, _: u64) {}
    fn synced(&self, _: Local, _: u64) {}
    fn odd(&self, _: Local, _: Oddity, _: u64) {}
}
