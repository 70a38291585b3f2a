//! Rules by port and node: what calls suffer while they are in force.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_control::act::PortRule;
use chat_ports::PortError;
use chat_protocol::digest::mix;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Names of the ports that have a hook.
pub const PORTS: [&str; 6] = ["registry", "relay_queue", "log", "history", "tables", "blobs"];

#[derive(Debug, Default)]
struct Rules {
    /// By port and node; no node: all nodes without a rule of their own.
    rules: BTreeMap<(&'static str, Option<String>), PortRule>,
    points: BTreeMap<(&'static str, String), Arc<HookPoint>>,
}

/// All hooks of a system.
#[derive(Debug)]
pub struct Hooks {
    seed: u64,
    rules: Mutex<Rules>,
}

impl Hooks {
    /// No rule anywhere. Jitter is drawn from the seed, a stream of its own for each port and node.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { seed, rules: Mutex::default() })
    }

    /// Puts a rule on a port, for one node or for all, or takes it away. A node's own rule goes before the one for all.
    /// A port of an unknown name is refused.
    pub fn set(
        &self,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Result<(), PortError> {
        let known = PORTS.into_iter().find(|name| *name == port);
        let port = known.ok_or_else(|| PortError::Refused(format!("there is no port `{port}`")))?;
        let mut rules = self.lock();
        let key = (port, node.map(str::to_owned));
        match rule {
            Some(rule) => rules.rules.insert(key, rule),
            None => rules.rules.remove(&key),
        };
        for ((_, node), point) in rules.points.iter().filter(|((name, _), _)| *name == port) {
            point.arm(rules.effective(port, node));
        }
        Ok(())
    }

    /// The hook of one port at one node; the same one for every incarnation of the node.
    pub(crate) fn point(&self, port: &'static str, node: &str) -> Arc<HookPoint> {
        let mut rules = self.lock();
        let rule = rules.effective(port, node);
        let fresh = || {
            let name = port
                .bytes()
                .chain(node.bytes())
                .fold(0, |hash, byte| mix(&[hash, u64::from(byte)]));
            Arc::new(HookPoint { seed: mix(&[self.seed, name]), ..HookPoint::default() })
        };
        let point = rules.points.entry((port, node.to_owned())).or_insert_with(fresh);
        point.arm(rule);
        Arc::clone(point)
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn effective(&self, port: &'static str, node: &str) -> Option<PortRule> {
        let own = self.rules.get(&(port, Some(node.to_owned())));
        own.or_else(|| self.rules.get(&(port, None))).cloned()
    }
}

/// The hook of one port at one node. Costs one relaxed load while no rule is set.
#[derive(Debug, Default)]
pub(crate) struct HookPoint {
    armed: AtomicBool,
    rule: Mutex<Option<PortRule>>,
    /// Wakes the calls that a stall holds.
    changed: Notify,
    seed: u64,
    drawn: AtomicU64,
}

impl HookPoint {
    fn arm(&self, rule: Option<PortRule>) {
        let mut present = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        self.armed.store(rule.is_some(), Relaxed);
        *present = rule;
        drop(present);
        self.changed.notify_waiters();
    }

    /// The rule in force.
    pub(crate) fn rule(&self) -> Option<PortRule> {
        if !self.armed.load(Relaxed) {
            return None;
        }
        self.rule.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits while the rule is a stall, until `deadline` at the longest; answers the rule in force then, which is the stall itself
    /// for a call whose time is over.
    pub(crate) async fn after_stall(&self, deadline: Instant) -> Option<PortRule> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Listens before it looks, so that no change falls between the two.
            changed.as_mut().enable();
            let rule = self.rule();
            if rule != Some(PortRule::Stall) || timeout_at(deadline, changed).await.is_err() {
                return rule;
            }
        }
    }

    /// Whether a reset meets the next call before its effect, which is so for half of them.
    pub(crate) fn before(&self) -> bool {
        mix(&[self.seed, self.drawn.fetch_add(1, Relaxed)]).is_multiple_of(2)
    }

    /// The next delay: uniform in `delay` give or take `jitter`, never below zero.
    pub(crate) fn draw(&self, delay: Duration, jitter: Duration) -> Duration {
        let jitter = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        let random = mix(&[self.seed, self.drawn.fetch_add(1, Relaxed)]);
        let above = Duration::from_nanos(random % (2 * jitter + 1));
        (delay + above).saturating_sub(Duration::from_nanos(jitter))
    }
}
