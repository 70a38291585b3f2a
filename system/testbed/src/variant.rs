//! Known-bad variants of the system, as the policies they replace. No service knows that it is one.
use chat_embedded::log::ReadIsolation;
use chat_gateway::deps::{AckPoint, CursorScope, FenceRule, HeartbeatRule, HoleRule};
use chat_messaging::{AnswerPoint, StartRule};
use chat_ports::consumer::MidRule;
use chat_relay::DeliveryRule;
use chat_sessions::{LeaseRule, RouteCompare};

use crate::Policies;

/// Every variant of the system.
const ALL: [&str; 13] = [
    "delivery.direct_then_relay",
    "delivery.trim_on_write",
    "gateway.no_heartbeat",
    "log.read_past_watermark",
    "messaging.ack_before_append",
    "messaging.cold_start",
    "messaging.random_mid",
    "relay.no_pull_on_break",
    "resume.node_local",
    "sessions.compare_node_only",
    "sessions.delete_unconditional",
    "sessions.no_lease",
    "sessions.no_self_fence",
];

impl Policies {
    /// The variants that make these policies when they are planted with the same seed: policies travel by name.
    pub fn planted(&self, seed: u64) -> Vec<&'static str> {
        let there = |variant: &&str| {
            let mut again = *self;
            again.plant(variant, seed) && again == *self
        };
        ALL.into_iter().filter(there).collect()
    }

    /// Replaces the policy of one variant; `false` when no variant of the system has that name.
    pub fn plant(&mut self, variant: &str, seed: u64) -> bool {
        match variant {
            "delivery.direct_then_relay" => self.delivery = DeliveryRule::PushFirst,
            "delivery.trim_on_write" => self.gateway.ack = AckPoint::SocketWrite,
            "gateway.no_heartbeat" => self.gateway.heartbeat = HeartbeatRule::Off,
            "log.read_past_watermark" => self.isolation = ReadIsolation::Everything,
            "messaging.ack_before_append" => self.messaging.answer = AnswerPoint::BeforeAppend,
            "messaging.cold_start" => self.messaging.start = StartRule::Empty,
            "messaging.random_mid" => {
                self.messaging.mids = MidRule::Random(seed);
                self.mids = MidRule::Random(seed);
            }
            "relay.no_pull_on_break" => self.gateway.hole = HoleRule::TrustPushes,
            "resume.node_local" => self.gateway.cursor = CursorScope::Node,
            "sessions.compare_node_only" => self.sessions.compare = RouteCompare::NodeOnly,
            "sessions.delete_unconditional" => self.sessions.compare = RouteCompare::Nothing,
            "sessions.no_lease" => self.sessions.lease = LeaseRule::Ignored,
            "sessions.no_self_fence" => self.gateway.fence = FenceRule::Never,
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_found_again_in_the_policies_that_it_makes() {
        assert_eq!(Policies::default().planted(7), [""; 0]);
        for variant in ALL {
            let mut policies = Policies::default();
            assert!(policies.plant(variant, 7), "{variant}");
            assert_eq!(policies.planted(7), [variant]);
        }
        let mut policies = Policies::default();
        assert!(!policies.plant("no.such", 7));
    }
}
