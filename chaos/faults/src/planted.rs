//! A small system planted for the stories of this crate: it does what it is told, counts what follows, and can be made idle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chat_control::act::PortRule;
use chat_control::inspect::{EventKind, NodeState, SystemEvent};
use chat_control::{ControlError, Result};
use chat_protocol::DeviceId;
use chat_protocol::limits::Timers;
use storm_workload::units::Share;
use tokio::time::Instant;

use crate::bed::{Bed, BedParts};
use crate::heal_guard::{HEAL_WAIT, HealGuard};
use crate::journal::{Journal, LineState};
use crate::spec::{DeviceSelector, NodeRole, NodeSelector};
use crate::witness::{Evidence, Witness};

mod seen;

/// Looks at the nodes that a drain takes.
const DRAIN_LOOKS: u32 = 4;

const DEVICES_A_GATEWAY: u64 = 10;

struct Node {
    roles: Vec<String>,
    epoch: u64,
    state: NodeState,
    /// The last renewal of one that renews no more.
    stopped_at: Option<Instant>,
    looks: u32,
}

struct Ruled {
    rule: PortRule,
    since: Instant,
}

/// Calls of one node on one port.
#[derive(Clone, Copy, Default)]
struct Calls {
    answered: u64,
    failed: u64,
    held: u64,
    took_us: u64,
    /// When the call under way is answered.
    under_way: Option<Duration>,
}

/// Every node calls each of these this often.
const CALL_PAUSE: Duration = Duration::from_millis(10);
const CALLED: [&str; 2] = ["registry", "history"];
const USUAL_US: u64 = 500;
/// What one takes that gets no answer, microseconds: longer than any limit.
const LOST_US: u64 = 10_000_000;

#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Node>,
    idle: bool,
    brokers_down: Vec<u32>,
    brokers_slow: BTreeMap<u32, u64>,
    elections: u64,
    held: BTreeMap<String, u64>,
    rules: BTreeMap<(String, Option<String>), Ruled>,
    calls: BTreeMap<(&'static str, String), Calls>,
    calls_counted: Duration,
    /// What each call takes, one after the other, in place of being answered as it is made.
    calls_take: Option<Duration>,
    rules_ignored: bool,
    resets_lose: bool,
    /// Hundredths of its delay that a slow port really takes longer.
    slow_share: u32,
    queue_looks: u64,
    history_down: bool,
    wipes: u64,
    stays_wiped: bool,
    events: Vec<SystemEvent>,
    refused: Option<String>,
    drained_at_once: usize,
}

/// The planted system: three gateways of ten devices each, two service nodes, three brokers.
pub(crate) struct Planted {
    inner: Arc<Inner>,
    folder: tempfile::TempDir,
}

struct Inner {
    world: Mutex<World>,
    started: Instant,
}

impl Planted {
    pub(crate) fn new() -> Planted {
        let node = |roles: &[&str]| Node {
            roles: roles.iter().map(|role| String::from(*role)).collect(),
            epoch: 1,
            state: NodeState::Running,
            stopped_at: None,
            looks: 0,
        };
        let mut world = World { slow_share: 100, ..World::default() };
        for name in ["gateway-1", "gateway-2", "gateway-3"] {
            world.nodes.insert(String::from(name), node(&["gateway"]));
        }
        for name in ["services-1", "services-2"] {
            world
                .nodes
                .insert(String::from(name), node(&["sessions", "messaging", "relay", "history"]));
        }
        let inner = Arc::new(Inner { world: Mutex::new(world), started: Instant::now() });
        Planted { inner, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn parts(&self) -> BedParts {
        let control: Arc<Inner> = Arc::clone(&self.inner);
        let devices: Arc<Inner> = Arc::clone(&self.inner);
        let journal =
            Journal::create(&self.folder.path().join("undo.jsonl"), Instant::now()).unwrap();
        BedParts { control, proxies: None, devices, journal, seed: 7, timers: Timers::DEFAULT }
    }

    pub(crate) fn bed(&self) -> Bed {
        Bed::start(self.parts()).unwrap()
    }

    /// Nobody connects, sends or reads.
    pub(crate) fn idle(&self) {
        self.inner.world().idle = true;
    }

    /// Rules and wipes are taken and have no effect.
    /// Calls that are to be reset get no answer instead.
    pub(crate) fn lose_instead(&self) {
        self.inner.world().resets_lose = true;
    }

    pub(crate) fn ignore_rules(&self) {
        self.inner.world().rules_ignored = true;
    }

    /// Every node waits so long for each of its calls before it makes the next one.
    pub(crate) fn take_each_call(&self, time: Duration) {
        self.inner.world().calls_take = Some(time);
    }

    /// A slow port takes this many hundredths of its delay longer.
    pub(crate) fn slow_by(&self, share: u32) {
        self.inner.world().slow_share = share;
    }

    /// How often somebody looked at queues.
    pub(crate) fn queue_looks(&self) -> u64 {
        self.inner.world().queue_looks
    }

    /// Nobody registers again after a wipe.
    pub(crate) fn stay_wiped(&self) {
        self.inner.world().stays_wiped = true;
    }

    pub(crate) fn history_down(&self) -> bool {
        self.inner.world().history_down
    }

    pub(crate) fn refuse_kill_of(&self, node: &str) {
        self.inner.world().refused = Some(String::from(node));
    }

    /// Lets a paused node go on behind the guard's back.
    pub(crate) fn run_on(&self, node: &str) {
        self.inner.set(node, NodeState::Running).unwrap();
    }

    pub(crate) fn state_of(&self, node: &str) -> NodeState {
        self.inner.world().nodes[node].state
    }

    pub(crate) fn devices_at(node: &str) -> Vec<u64> {
        let number: u64 = node.rsplit_once('-').unwrap().1.parse().unwrap();
        (0..DEVICES_A_GATEWAY).map(|k| number * 100 + k).collect()
    }

    pub(crate) fn brokers_up(&self) -> bool {
        self.inner.world().brokers_down.is_empty()
    }

    pub(crate) fn ports_ruled(&self) -> Vec<String> {
        self.inner.world().rules.keys().map(|(port, _)| port.clone()).collect()
    }

    /// Most gateways that were away at a time.
    pub(crate) fn drained_at_once(&self) -> usize {
        self.inner.world().drained_at_once
    }

    /// What the lines of the journal say, in order.
    pub(crate) fn journal_states(&self) -> Vec<&'static str> {
        let lines = Journal::read(&self.folder.path().join("undo.jsonl")).unwrap();
        let word = |state| match state {
            LineState::Open => "open",
            LineState::Healed => "healed",
            LineState::Undone => "undone",
        };
        lines.iter().map(|line| word(line.state)).collect()
    }
}

fn in_us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

impl Calls {
    /// Answers the call under way when its time has come, else makes one if there is none.
    fn one_by_one(&mut self, now: Duration, take: Duration) {
        match self.under_way {
            Some(answered_at) if now < answered_at => {}
            Some(_) => {
                self.answered += 1;
                self.took_us += in_us(take);
                self.under_way = None;
            }
            None => self.under_way = Some(now + take),
        }
    }
}

impl Inner {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn set(&self, name: &str, state: NodeState) -> Result<()> {
        let mut world = self.world();
        let node =
            world.nodes.get_mut(name).ok_or_else(|| ControlError::Unknown(String::from(name)))?;
        node.state = state;
        node.looks = 0;
        node.stopped_at = match state {
            NodeState::Running | NodeState::Draining => None,
            NodeState::Paused | NodeState::Vanished | NodeState::Stopped => Some(Instant::now()),
        };
        Ok(())
    }

    /// Hundredths of a second since the start.
    fn ticks(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis() / 10).unwrap()
    }
}

impl World {
    fn connections(&self, name: &str) -> u64 {
        let node = &self.nodes[name];
        let serves = node.roles.iter().any(|role| role == "gateway");
        match node.state {
            NodeState::Running | NodeState::Paused if serves && !self.idle => DEVICES_A_GATEWAY,
            NodeState::Draining if serves && !self.idle => {
                DEVICES_A_GATEWAY / u64::from(node.looks + 1)
            }
            _ => 0,
        }
    }

    /// Lets drained nodes leave.
    fn look(&mut self) {
        let mut left = Vec::new();
        for (name, node) in &mut self.nodes {
            if node.state == NodeState::Draining {
                node.looks += 1;
                if node.looks >= DRAIN_LOOKS {
                    (node.state, node.stopped_at) = (NodeState::Stopped, Some(Instant::now()));
                    left.push(name.clone());
                }
            }
        }
        let closes = if self.idle { 0 } else { DEVICES_A_GATEWAY };
        for node in left {
            for device in 0..closes {
                let kind = EventKind::ConnectionClosed {
                    device: DeviceId(device),
                    conn_epoch: 1,
                    code: 1012,
                    silent_ms: 0,
                };
                self.events.push(SystemEvent { at_ms: 0, node: node.clone(), kind });
            }
        }
        let away = self.nodes.values().filter(|node| node.state != NodeState::Running).count();
        self.drained_at_once = self.drained_at_once.max(away);
    }

    /// Makes the calls that were due since the last ones, under the rules of this moment.
    fn make_calls(&mut self, at: Duration) {
        while self.calls_counted + CALL_PAUSE <= at {
            self.calls_counted += CALL_PAUSE;
            if self.idle {
                continue;
            }
            let nodes: Vec<String> = self.nodes.keys().cloned().collect();
            for (port, node) in CALLED.into_iter().flat_map(|p| nodes.iter().map(move |n| (p, n))) {
                let rule = self.rule(port, node);
                let down = self.history_down && port == "history";
                let (now, take, share) = (self.calls_counted, self.calls_take, self.slow_share);
                let reset_us = if self.resets_lose { LOST_US } else { USUAL_US };
                let calls = self.calls.entry((port, node.clone())).or_default();
                match rule {
                    _ if down => calls.failed += 1,
                    Some(PortRule::Cut) => {
                        calls.failed += 1;
                        calls.took_us += USUAL_US;
                    }
                    Some(PortRule::Stall) => calls.held += 1,
                    Some(PortRule::Reset) => {
                        calls.failed += 1;
                        calls.took_us += reset_us;
                    }
                    Some(PortRule::Slow { delay, .. }) => {
                        calls.answered += 1;
                        calls.took_us += USUAL_US + in_us(delay * share / 100);
                    }
                    None => {
                        if let Some(take) = take {
                            calls.one_by_one(now, take);
                        } else {
                            calls.answered += 1 + std::mem::take(&mut calls.held);
                            calls.took_us += USUAL_US;
                        }
                    }
                }
            }
        }
    }

    fn rule(&self, port: &str, node: &str) -> Option<PortRule> {
        let of = |node: Option<&str>| {
            self.rules.get(&(String::from(port), node.map(String::from))).map(|r| r.rule.clone())
        };
        of(Some(node)).or_else(|| of(None)).filter(|_| !self.rules_ignored)
    }
}

/// One gateway drawn from the seed.
pub(crate) fn gateway_role() -> NodeSelector {
    NodeSelector { role: Some(NodeRole::Gateway), count: None, share: None, name: None }
}

pub(crate) fn named(name: &str) -> NodeSelector {
    NodeSelector { role: None, count: None, share: None, name: Some(String::from(name)) }
}

pub(crate) fn all_devices() -> DeviceSelector {
    DeviceSelector { share: Some(Share::ALL), count: None }
}

pub(crate) fn some_devices(count: u32) -> DeviceSelector {
    DeviceSelector { share: None, count: Some(count) }
}

/// What the counters say by the time the fault must have bitten.
pub(crate) async fn witnessed(guard: &mut HealGuard) -> Witness {
    guard.witness(guard.injected_at() + guard.patience()).await
}

pub(crate) async fn healed(guard: HealGuard) -> Vec<Evidence> {
    guard.heal(Instant::now() + HEAL_WAIT).await.unwrap().evidence
}
