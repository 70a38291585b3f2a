//! Known-bad variants of the system, as the policies they replace. No service knows that it is one.
use chat_embedded::log::ReadIsolation;
use chat_gateway::deps::{AckPoint, CursorScope, FenceRule, HeartbeatRule, HoleRule};
use chat_messaging::{AnswerPoint, StartRule};
use chat_ports::consumer::MidRule;
use chat_relay::DeliveryRule;
use chat_sessions::{LeaseRule, RouteCompare};

use crate::Policies;

impl Policies {
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
