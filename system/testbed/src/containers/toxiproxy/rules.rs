//! Which rule is in force on which link.
use std::collections::BTreeMap;
use std::time::Duration;

use chat_control::act::PortRule;

use super::Backend;

/// Rules by port and node. Ports of one backend share a link, so a rule stays in force until the last of its ports is healed.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// No node: all nodes without a rule of their own.
    by: BTreeMap<(&'static str, Option<String>), PortRule>,
}

impl Rules {
    /// Sets a rule or takes it away, and says which one stood there before. `port` has to be one of the backend's.
    pub(super) fn set(
        &mut self,
        backend: Backend,
        port: &str,
        node: Option<&str>,
        rule: Option<PortRule>,
    ) -> Option<PortRule> {
        let port = *backend.ports().iter().find(|name| **name == port)?;
        let key = (port, node.map(str::to_owned));
        match rule {
            Some(rule) => self.by.insert(key, rule),
            None => self.by.remove(&key),
        }
    }

    /// The rule of a node's link: of each port its own before the one for all, and over the ports the harshest.
    pub(super) fn effective(&self, backend: Backend, node: &str) -> Option<PortRule> {
        let of_port = |port: &&'static str| {
            let own = self.by.get(&(*port, Some(node.to_owned())));
            own.or_else(|| self.by.get(&(*port, None)))
        };
        backend.ports().iter().filter_map(of_port).max_by_key(|rule| harshness(rule)).cloned()
    }
}

/// A lost call is harsher than one that is held or reset, and those are harsher than any delay.
fn harshness(rule: &PortRule) -> (u8, Duration) {
    match rule {
        PortRule::Slow { delay, .. } => (0, *delay),
        PortRule::Reset => (1, Duration::ZERO),
        PortRule::Stall => (2, Duration::ZERO),
        PortRule::Cut => (3, Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: Backend = Backend::Redis;

    fn slow(ms: u64) -> PortRule {
        PortRule::Slow { delay: Duration::from_millis(ms), jitter: Duration::ZERO }
    }

    #[test]
    fn link_stays_cut_until_both_of_its_ports_are_healed() {
        let mut rules = Rules::default();
        for port in REDIS.ports() {
            rules.set(REDIS, port, Some("gateway-1"), Some(PortRule::Cut));
        }
        rules.set(REDIS, "registry", Some("gateway-1"), None);
        assert_eq!(rules.effective(REDIS, "gateway-1"), Some(PortRule::Cut));
        rules.set(REDIS, "relay_queue", Some("gateway-1"), None);
        assert_eq!(rules.effective(REDIS, "gateway-1"), None);
    }

    #[test]
    fn rule_set_twice_is_taken_away_once() {
        let mut rules = Rules::default();
        assert_eq!(rules.set(REDIS, "registry", None, Some(slow(1))), None);
        assert_eq!(rules.set(REDIS, "registry", None, Some(slow(1))), Some(slow(1)));
        assert_eq!(rules.set(REDIS, "registry", None, None), Some(slow(1)));
        assert_eq!(rules.effective(REDIS, "gateway-1"), None);
    }

    #[test]
    fn rule_of_one_node_goes_before_the_one_for_all_and_touches_no_other_node() {
        let mut rules = Rules::default();
        for port in REDIS.ports() {
            rules.set(REDIS, port, None, Some(PortRule::Cut));
            rules.set(REDIS, port, Some("gateway-1"), Some(slow(50)));
        }
        assert_eq!(rules.effective(REDIS, "gateway-1"), Some(slow(50)));
        assert_eq!(rules.effective(REDIS, "gateway-2"), Some(PortRule::Cut));
        assert_eq!(rules.effective(Backend::Cassandra, "gateway-2"), None);
    }

    #[test]
    fn harshest_rule_of_the_ports_of_a_link_decides() {
        let mut rules = Rules::default();
        rules.set(REDIS, "registry", None, Some(slow(50)));
        rules.set(REDIS, "relay_queue", None, Some(slow(200)));
        assert_eq!(rules.effective(REDIS, "gateway-1"), Some(slow(200)));
        rules.set(REDIS, "registry", None, Some(PortRule::Stall));
        assert_eq!(rules.effective(REDIS, "gateway-1"), Some(PortRule::Stall));
        rules.set(REDIS, "relay_queue", None, Some(PortRule::Cut));
        assert_eq!(rules.effective(REDIS, "gateway-1"), Some(PortRule::Cut));
    }
}
