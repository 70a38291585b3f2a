//! Rules and pauses as they were last said to the nodes.
use std::collections::BTreeMap;

use chat_control::act::PortRule;

use crate::process::wire::Ask;
use crate::unit::{Kind, Unit};

/// The last word on each port and group, also that nothing stands there any more: a node that did not execute when it was said has to
/// hear that too. Holds a line for each port, node and group that a method names.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// By port and node, or all nodes.
    rules: BTreeMap<(String, Option<String>), Option<PortRule>>,
    paused: BTreeMap<String, bool>,
}

impl Standing {
    /// Notes a rule, or that it was taken away; what nodes are told of it.
    pub(super) fn rule(&mut self, port: &str, node: Option<&str>, rule: Option<&PortRule>) -> Ask {
        self.rules.insert((port.to_owned(), node.map(str::to_owned)), rule.cloned());
        Ask::Rule { port: port.to_owned(), own: node.is_some(), rule: rule.cloned() }
    }

    /// Notes whether a group reads; what nodes are told of it.
    pub(super) fn consumer(&mut self, group: &str, paused: bool) -> Ask {
        self.paused.insert(group.to_owned(), paused);
        Ask::Consumer { group: group.to_owned(), paused }
    }

    /// Everything that a node has to be told before it may be told only what is new. A balancer has no ports.
    pub(super) fn told(&self, unit: &Unit) -> Vec<Ask> {
        if unit.kind == Kind::Balancer {
            return Vec::new();
        }
        let rules = self
            .rules
            .iter()
            .filter(|((_, node), _)| node.as_ref().is_none_or(|node| *node == unit.name));
        let rules = rules.map(|((port, node), rule)| Ask::Rule {
            port: port.clone(),
            own: node.is_some(),
            rule: rule.clone(),
        });
        let groups = self.paused.iter();
        let groups =
            groups.map(|(group, paused)| Ask::Consumer { group: group.clone(), paused: *paused });
        rules.chain(groups).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, kind: Kind) -> Unit {
        let addr = ([127, 0, 0, 1], 7_101).into();
        Unit { name: name.to_owned(), kind, roles: Vec::new(), addr }
    }

    #[test]
    fn what_was_taken_away_is_told_and_what_is_not_for_a_node_is_not() {
        let mut standing = Standing::default();
        standing.rule("log", None, Some(&PortRule::Stall));
        standing.rule("log", Some("gateway-2"), Some(&PortRule::Cut));
        standing.consumer("receipts", true);
        let gone = standing.rule("log", None, None);
        let reads = standing.consumer("receipts", false);
        assert_eq!(standing.told(&unit("gateway-1", Kind::Gateway)), [gone.clone(), reads.clone()]);
        let own = Ask::Rule { port: "log".to_owned(), own: true, rule: Some(PortRule::Cut) };
        assert_eq!(standing.told(&unit("gateway-2", Kind::Gateway)), [gone, own, reads]);
        assert!(standing.told(&unit("balancer-1", Kind::Balancer)).is_empty());
    }
}
