//! A system, its devices, and what one waits for: eventually, with a limit and a state to print.
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use chat_client::app::{
    Accepted, App, Attempt, Clock, Closed, Failure, Local, NotSent, Oddity, Opened, Outgoing,
    Surfaced,
};
use chat_client::dial::Plain;
use chat_client::{Device, DeviceHandle, Policies, Profile, Seal, Shared};
use chat_control::act::KillHow;
use chat_control::inspect::EventKind;
use chat_ports::consumer::SEQUENCER;
use chat_ports::registry::Role;
use chat_protocol::frame::{DeviceClass, RejectCode};
use chat_protocol::ids::partition_of;
use chat_protocol::limits::{RELAY_QUEUE_MAX, Timers};
use chat_protocol::{Cid, ConvId, DeviceId, UserId};
use chat_testbed::{Config, ServiceNode, Testbed};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Everything here is over sooner, or something is broken.
const LIMIT: Duration = Duration::from_secs(20);

/// Partitions of the log in every bed.
const PARTITIONS: u32 = 4;

/// Each bed of the test binary has ports of its own.
static NEXT_BED: AtomicU16 = AtomicU16::new(0);

/// Runs a story on one thread.
pub(crate) fn story(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future);
    runtime.shutdown_background();
}

/// Waits until a condition holds; a failure prints the state.
async fn eventually(what: &str, state: impl Fn() -> String, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}; {}", state());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A running system.
pub(crate) struct Bed {
    testbed: Arc<Testbed>,
    shared: Rc<Shared>,
    app: Rc<Screen>,
    _data: tempfile::TempDir,
}

impl Bed {
    /// Three gateways, two service nodes, short timers, and what `change` makes of it.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let service =
            |n: u16| ServiceNode { name: format!("services-{n}"), roles: Role::SERVICES.to_vec() };
        let mut config = Config {
            gateways: 3,
            services: vec![service(1), service(2)],
            balancers: 0,
            timers: Timers::short(),
            partitions: PARTITIONS,
            relay_queue: RELAY_QUEUE_MAX,
            log_buffer: 32 << 20,
            base_port: 10_000 + 400 * NEXT_BED.fetch_add(1, Relaxed),
            data: data.path().join("system"),
            seed: 1,
            start_ms: 1_800_000_000_000,
            secret: [7; 32],
            policies: chat_testbed::Policies::default(),
            backends: chat_testbed::BackendsKind::Embedded,
        };
        change(&mut config);
        let timers = config.timers;
        let testbed = Testbed::start(config).await.unwrap();
        let entries: Vec<SocketAddr> = testbed.entries();
        let app = Rc::new(Screen { start: Instant::now(), devices: RefCell::default() });
        let policies = Policies { seal: Seal::Envelope([9; 32]), ..Policies::default() };
        let dial = Rc::new(Plain(entries));
        let shared = Shared::new(
            Rc::<Screen>::clone(&app),
            Rc::<Screen>::clone(&app),
            dial,
            timers,
            policies,
            TaskTracker::new(),
        );
        Self { testbed, shared: Rc::new(shared), app, _data: data }
    }

    /// The first device of a user, which is online. Before that nobody could send to it: the system does not know the user.
    pub(crate) async fn device(&self, user: u32) -> Phone {
        let device = UserId(u64::from(user)).device(0);
        let profile = Profile {
            who: Local(user),
            device,
            class: DeviceClass::Mobile,
            token: None,
            seed: u64::from(user),
        };
        let handle = Device::spawn(&self.shared, profile);
        handle.join();
        let phone = Phone { who: Local(user), device, handle, app: Rc::clone(&self.app) };
        phone.is_online().await;
        phone
    }

    /// Kills a node.
    pub(crate) async fn kill(&self, node: &str) {
        self.testbed.control().kill(node, KillHow::Process).await.unwrap();
    }

    /// Starts a node that was killed.
    pub(crate) async fn start_again(&self, node: &str) {
        self.testbed.control().start(node).await.unwrap();
    }

    /// Stops a node from executing anything; its sockets stay open.
    pub(crate) async fn freeze(&self, node: &str) {
        self.testbed.control().pause(node).await.unwrap();
    }

    /// A frozen node goes on where it stood.
    pub(crate) async fn wake(&self, node: &str) {
        self.testbed.control().resume(node).await.unwrap();
    }

    /// The node is alive for nobody any more: its lease has ended and was swept.
    pub(crate) async fn has_swept(&self, node: &str) {
        let control = self.testbed.control();
        eventually("the lease is swept", String::new, async || {
            control.leases().await.unwrap().iter().all(|lease| lease.node != node)
        })
        .await;
    }

    /// The node is alive for everybody: it has a lease that runs.
    pub(crate) async fn has_admitted(&self, node: &str) {
        let control = self.testbed.control();
        eventually("the node has a lease", String::new, async || {
            let leases = control.leases().await.unwrap();
            leases.iter().any(|lease| lease.node == node && lease.left_ms > 0)
        })
        .await;
    }

    /// Every partition was last given to this node to be sequenced.
    pub(crate) async fn is_sequenced_by(&self, node: &str) {
        let control = self.testbed.control();
        eventually("all partitions are with one node", String::new, async || {
            let (events, _) = control.events(0).await.unwrap();
            let mut owners = HashMap::new();
            for event in events {
                if let EventKind::PartitionAssigned { group, partition } = event.kind
                    && group == SEQUENCER
                {
                    owners.insert(partition, event.node);
                }
            }
            (0..PARTITIONS).all(|partition| owners.get(&partition).is_some_and(|own| own == node))
        })
        .await;
    }

    /// One device for every partition that its conversation with this device is in.
    pub(crate) async fn peers_on_all_partitions(&self, phone: &Phone) -> Vec<Phone> {
        let own = phone.device.user();
        let mut peers = Vec::new();
        for partition in 0..PARTITIONS {
            let fits = |user: &u32| {
                let conv = ConvId::direct(own, UserId(u64::from(*user)));
                conv.is_some_and(|conv| partition_of(conv, PARTITIONS) == partition)
            };
            peers.push(self.device((100..10_000).find(fits).unwrap()).await);
        }
        peers
    }

    /// Every queue of these devices becomes empty.
    pub(crate) async fn owes_nothing(&self, phones: &[&Phone]) {
        let devices: Vec<_> = phones.iter().map(|phone| phone.device).collect();
        let control = self.testbed.control();
        eventually("nothing is owed", String::new, async || {
            let queues = control.queues(&devices).await.unwrap();
            queues.iter().all(|queue| queue.base == queue.top + 1)
        })
        .await;
    }

    /// No route points to the node any more.
    pub(crate) async fn has_no_route_to(&self, node: &str) {
        let control = self.testbed.control();
        eventually("no route to the dead node", String::new, async || {
            let (routes, _) = control.routes(0).await.unwrap();
            !routes
                .iter()
                .any(|change| change.route.as_ref().is_some_and(|route| route.node == node))
        })
        .await;
    }

    /// Ends the system.
    pub(crate) async fn stop(self) {
        self.testbed.stop().await;
    }
}

/// A device with its screen.
pub(crate) struct Phone {
    who: Local,
    device: DeviceId,
    handle: DeviceHandle,
    app: Rc<Screen>,
}

impl Phone {
    /// Sends a text.
    pub(crate) fn send(&self, to: &Self, text: &str) {
        let conv = ConvId::direct(self.device.user(), to.device.user()).unwrap();
        let ticket = self.app.with(self.who, |device| {
            device.sent.push(text.to_owned());
            device.sent.len() as u64 - 1
        });
        let cid =
            Cid(uuid::Uuid::from_u128((u128::from(self.device.0) << 64) | u128::from(ticket)));
        self.handle.send(Outgoing { ticket, cid, conv, kind: 0 });
    }

    /// Everything sent so far is accepted.
    pub(crate) async fn is_told_sent(&self) {
        let state = || self.app.with(self.who, |device| format!("accepted {:?}", device.accepted));
        eventually("all sends are accepted", state, async || {
            self.app.with(self.who, |device| device.accepted.len() == device.sent.len())
        })
        .await;
    }

    /// The text comes up on the screen.
    pub(crate) async fn surfaces(&self, text: &str) {
        let state = || format!("seen so far: {:?}", self.seen());
        eventually(text, state, async || self.seen().iter().any(|seen| seen == text)).await;
    }

    /// All texts on the screen, in order.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.app.with(self.who, |device| device.seen.clone())
    }

    /// The peer's receipt covers something.
    pub(crate) async fn learns_delivery(&self, peer: &Self) {
        let user = peer.device.user();
        let covers =
            |device: &mut OnScreen| device.receipts.get(&user).is_some_and(|mark| *mark > 0);
        eventually("a receipt", String::new, async || self.app.with(self.who, covers)).await;
    }

    /// The device is welcome.
    async fn is_online(&self) {
        eventually("the device is online", String::new, async || self.handle.connected()).await;
    }

    /// Node of the present or last connection.
    pub(crate) fn node(&self) -> String {
        self.app.with(self.who, |device| device.node.clone())
    }

    /// Goes away cleanly.
    pub(crate) async fn leaves(&self) {
        self.handle.leave();
        eventually("the device is away", String::new, async || !self.handle.connected()).await;
    }

    /// Comes back.
    pub(crate) fn returns(&self) {
        self.handle.join();
    }

    /// The node dies under the device, which does not come back.
    pub(crate) async fn leaves_without_goodbye_of(&self, bed: &Bed, node: &str) {
        bed.kill(node).await;
        self.handle.stop();
    }
}

#[derive(Default)]
struct OnScreen {
    sent: Vec<String>,
    accepted: BTreeSet<u64>,
    seen: Vec<String>,
    receipts: HashMap<UserId, u64>,
    node: String,
}

/// The app of all devices of a bed.
struct Screen {
    start: Instant,
    devices: RefCell<HashMap<Local, OnScreen>>,
}

impl Screen {
    fn with<T>(&self, who: Local, look: impl FnOnce(&mut OnScreen) -> T) -> T {
        look(self.devices.borrow_mut().entry(who).or_default())
    }
}

impl Clock for Screen {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }
}

impl App for Screen {
    fn compose(&self, who: Local, message: &Outgoing, _: u64, body: &mut Vec<u8>) {
        let text =
            self.with(who, |device| device.sent[usize::try_from(message.ticket).unwrap()].clone());
        body.extend_from_slice(text.as_bytes());
    }
    fn conversations(&self, _: Local) -> Vec<ConvId> {
        Vec::new()
    }
    fn written(&self, _: Local, _: &Outgoing, _: u32, _: u64) {}
    fn accepted(&self, who: Local, accepted: &Accepted, _: u64) {
        self.with(who, |device| device.accepted.insert(accepted.ticket));
    }
    fn rejected(&self, _: Local, _: u64, _: RejectCode, _: u64) {}
    fn unknown(&self, _: Local, _: u64, _: u64) {}
    fn not_sent(&self, _: Local, _: u64, _: NotSent, _: u64) {}
    fn refused(&self, _: Local, _: u64, _: RejectCode, _: bool, _: u64) {}
    fn surfaced(&self, who: Local, surfaced: &Surfaced<'_>, _: u64) {
        let text = String::from_utf8(surfaced.plaintext.to_vec()).unwrap();
        self.with(who, |device| device.seen.push(text));
    }
    fn unreadable(&self, who: Local, surfaced: &Surfaced<'_>, _: u64) {
        panic!("{who:?} cannot read {surfaced:?}");
    }
    fn wire_duplicate(&self, _: Local, _: ConvId, _: u64, _: u64) {}
    fn dseq_hole(&self, _: Local, _: u64, _: u64, _: u64) {}
    fn receipt(&self, who: Local, _: ConvId, user: UserId, delivered: u64, _: u64) {
        self.with(who, |device| device.receipts.insert(user, delivered));
    }
    fn attempt(&self, _: Local, _: &Attempt, _: u64) {}
    fn attempt_failed(&self, _: Local, _: Failure, _: Option<u64>, _: u64) {}
    fn opened(&self, who: Local, opened: &Opened<'_>, _: u64) {
        let node = opened.node.to_owned();
        self.with(who, |device| device.node = node);
    }
    fn caught_up(&self, _: Local, _: u64) {}
    fn renumbered(&self, _: Local, _: bool, _: u64) {}
    fn drain(&self, _: Local, _: u64, _: u64) {}
    fn closed(&self, _: Local, _: &Closed, _: u64) {}
    fn terminal(&self, _: Local, _: u16, _: u64) {}
    fn heartbeat(&self, _: Local, _: u64, _: u64) {}
    fn synced(&self, _: Local, _: u64) {}
    fn odd(&self, _: Local, _: Oddity, _: u64) {}
}
