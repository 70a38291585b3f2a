//! What a scripted Toxiproxy answers, and what is believed of it.
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_control::act::PortRule;
use chat_ports::clock::SteadyClock;
use chat_ports::observe::Observer;
use futures_util::future;

use super::driver::{COMMANDS_MAX, Driver};
use super::links::{Links, Route};
use super::listener::Limits;
use super::scripted::{Act, Scripted};
use super::{Backend, LinkError, LinkPlan};

/// Its listeners are never opened in these tests: nothing listens above this port.
const BASE_PORT: u16 = 8_520;
const CUT: Option<PortRule> = Some(PortRule::Cut);
const ADD: &str = "POST /proxies/gateway-1.redis/toxics";
const SHOW: &str = "GET /proxies/gateway-1.redis";
const REMOVE: &str = "DELETE /proxies/gateway-1.redis/toxics";
const PATCH: &str = "PATCH /proxies/gateway-1.redis";

/// Nothing ends by time: the host may be busy.
const PATIENT: Limits = Limits {
    call: Duration::from_secs(30),
    forced_after: Duration::from_secs(30),
    pause: Duration::from_millis(20),
    probe: Duration::from_secs(30),
};
/// For servers that never answer.
const IMPATIENT: Limits = Limits { call: Duration::from_secs(3), ..PATIENT };
/// One try, and then by force.
const FORCING: Limits = Limits { forced_after: Duration::ZERO, ..PATIENT };

struct Bed {
    server: Scripted,
    links: Links,
    observer: Observer,
}

impl Bed {
    /// Two gateways with a listener to Redis each. `direct` is where Redis answers by itself; port 1 is nobody's.
    async fn with(direct: SocketAddr, limits: Limits) -> Self {
        let server = Scripted::start().await;
        let observer = Observer::new(Arc::new(SteadyClock::new(1)));
        let nodes = ["gateway-1".to_owned(), "gateway-2".to_owned()];
        let plan = LinkPlan::new(BASE_PORT, &nodes, &BTreeSet::from([Backend::Redis])).unwrap();
        let route = |_| Route { upstream: "redis:6379".to_owned(), direct };
        let links = Links::open_within(&plan, server.addr(), route, &observer, limits);
        Self { links: links.await.unwrap(), server, observer }
    }

    async fn new() -> Self {
        Self::within(PATIENT).await
    }

    async fn within(limits: Limits) -> Self {
        Self::with(SocketAddr::from(([127, 0, 0, 1], 1)), limits).await
    }

    async fn rule(&self, port: &str, rule: Option<PortRule>) -> Result<(), LinkError> {
        self.links.rule(Backend::Redis, port, Some("gateway-1"), rule).await
    }

    fn counted(&self, name: &str) -> u64 {
        self.observer.counters().into_iter().find(|(n, _)| n == name).map_or(0, |(_, n)| n)
    }

    /// Hung connections end first, so that the library's thread does.
    async fn end(self) {
        drop(self.server);
        self.links.stop().await;
    }
}

fn slow(ms: u64) -> PortRule {
    PortRule::Slow { delay: Duration::from_millis(ms), jitter: Duration::ZERO }
}

#[tokio::test]
async fn cut_of_one_node_is_on_its_listener_and_on_no_other() {
    let bed = Bed::new().await;
    bed.rule("registry", CUT).await.unwrap();
    assert_eq!(bed.server.toxics("gateway-1.redis"), ["timeout_upstream", "timeout_downstream"]);
    assert!(bed.server.toxics("gateway-2.redis").is_empty());
    assert_eq!(bed.counted("toxiproxy.changes"), 2);
    bed.rule("registry", None).await.unwrap();
    assert!(bed.server.toxics("gateway-1.redis").is_empty());
    assert_eq!(bed.counted("toxiproxy.heal_forced"), 0);
}

#[tokio::test]
async fn second_port_of_a_link_changes_nothing_and_the_first_healed_does_not_open_it() {
    let bed = Bed::new().await;
    bed.rule("registry", CUT).await.unwrap();
    let asked = bed.server.changes();
    bed.rule("relay_queue", CUT).await.unwrap();
    assert_eq!(bed.server.changes(), asked);
    bed.rule("registry", None).await.unwrap();
    assert_eq!(bed.server.toxics("gateway-1.redis").len(), 2);
    bed.rule("relay_queue", None).await.unwrap();
    assert!(bed.server.toxics("gateway-1.redis").is_empty());
}

#[tokio::test]
async fn another_delay_changes_the_toxic_that_is_there() {
    let bed = Bed::new().await;
    bed.rule("registry", Some(slow(100))).await.unwrap();
    bed.rule("registry", Some(slow(300))).await.unwrap();
    assert_eq!(bed.server.toxics("gateway-1.redis"), ["latency_downstream"]);
    assert!(bed.server.requests().iter().any(|request| request.starts_with(PATCH)));
}

#[tokio::test]
async fn toxic_that_was_acknowledged_and_is_not_there_is_no_toxic() {
    let bed = Bed::new().await;
    bed.server.script(ADD, Act::Pretend);
    let refused = bed.rule("registry", Some(slow(100))).await;
    assert!(matches!(refused, Err(LinkError::ReadBack { .. })), "{refused:?}");
    assert_eq!(bed.counted("toxiproxy.changes"), 0);
}

#[tokio::test]
async fn refusals_that_the_library_takes_for_success_are_seen() {
    for status in [404, 409, 500] {
        let bed = Bed::new().await;
        bed.server.script(ADD, Act::Status(status));
        let refused = bed.rule("registry", Some(slow(100))).await;
        assert!(matches!(refused, Err(LinkError::ReadBack { .. })), "{status}: {refused:?}");
    }
}

#[tokio::test]
async fn toxic_with_another_delay_than_asked_is_told_with_both() {
    let bed = Bed::new().await;
    bed.server.script(ADD, Act::Skew);
    let refused = bed.rule("registry", Some(slow(100))).await.unwrap_err().to_string();
    assert!(refused.contains("attributes of toxic `latency_downstream`"), "{refused}");
    assert!(refused.contains("100") && refused.contains("101"), "{refused}");
}

#[tokio::test]
async fn statuses_of_our_own_calls_are_refusals() {
    let bed = Bed::new().await;
    bed.server.script(SHOW, Act::Status(404));
    let refused = bed.rule("registry", CUT).await;
    assert!(matches!(refused, Err(LinkError::Refused { status: 404, .. })), "{refused:?}");
}

#[tokio::test]
async fn silent_broken_and_senseless_answers_are_told_apart() {
    let bed = Bed::within(IMPATIENT).await;
    bed.server.script(SHOW, Act::Hang);
    let silent = bed.rule("registry", CUT).await;
    assert!(matches!(silent, Err(LinkError::Silent { .. })), "{silent:?}");
    bed.server.script(SHOW, Act::Close);
    let broken = bed.rule("registry", CUT).await;
    assert!(matches!(broken, Err(LinkError::Broken { .. })), "{broken:?}");
    bed.server.script(SHOW, Act::Nonsense);
    let odd = bed.rule("registry", CUT).await;
    assert!(matches!(odd, Err(LinkError::Odd { .. })), "{odd:?}");
    bed.rule("registry", CUT).await.unwrap();
}

#[tokio::test]
async fn panic_of_the_library_is_an_error_and_the_next_call_has_a_new_client() {
    let bed = Bed::new().await;
    bed.server.script(ADD, Act::Close);
    let panicked = bed.rule("registry", CUT).await;
    assert!(matches!(panicked, Err(LinkError::Panicked { .. })), "{panicked:?}");
    bed.rule("registry", CUT).await.unwrap();
}

#[tokio::test]
async fn removal_that_fails_once_is_tried_again() {
    for act in [Act::Status(404), Act::Status(500), Act::Close, Act::Hang, Act::Pretend] {
        let bed = Bed::within(IMPATIENT).await;
        bed.rule("registry", Some(slow(100))).await.unwrap();
        bed.server.script(REMOVE, act);
        bed.rule("registry", None).await.unwrap();
        assert!(bed.server.toxics("gateway-1.redis").is_empty());
        assert_eq!(bed.counted("toxiproxy.heal_forced"), 0);
    }
}

#[tokio::test]
async fn listener_that_keeps_its_toxics_is_closed_and_opened_which_is_counted() {
    let bed = Bed::within(FORCING).await;
    bed.rule("registry", CUT).await.unwrap();
    bed.server.script_until_closed(REMOVE, Act::Status(500));
    bed.rule("registry", None).await.unwrap();
    assert!(bed.server.toxics("gateway-1.redis").is_empty());
    assert!(bed.server.enabled("gateway-1.redis"));
    assert_eq!(bed.counted("toxiproxy.heal_forced"), 1);
}

#[tokio::test]
async fn listener_that_keeps_its_toxics_even_then_is_not_healed_until_it_is_asked_again() {
    let bed = Bed::within(FORCING).await;
    bed.rule("registry", CUT).await.unwrap();
    bed.server.script_always(REMOVE, Act::Pretend);
    let stuck = bed.rule("registry", None).await;
    assert!(matches!(stuck, Err(LinkError::NotHealed { .. })), "{stuck:?}");
    bed.server.forget_script();
    bed.rule("registry", None).await.unwrap();
    assert!(bed.server.toxics("gateway-1.redis").is_empty());
}

#[tokio::test]
async fn link_through_which_nothing_answers_is_not_healed_although_it_looks_neutral() {
    // Redis answers by itself, and nobody at the port of the listener.
    let redis = Scripted::start().await;
    let bed = Bed::with(redis.addr(), FORCING).await;
    bed.rule("registry", CUT).await.unwrap();
    let stuck = bed.rule("registry", None).await;
    assert!(matches!(stuck, Err(LinkError::NotHealed { .. })), "{stuck:?}");
    assert!(bed.server.toxics("gateway-1.redis").is_empty());
}

#[tokio::test]
async fn rule_that_failed_is_forgotten_and_may_be_taken_away() {
    let bed = Bed::new().await;
    bed.server.script(ADD, Act::Pretend);
    assert!(bed.rule("registry", CUT).await.is_err());
    bed.rule("registry", None).await.unwrap();
    assert!(bed.server.toxics("gateway-1.redis").is_empty());
}

#[tokio::test]
async fn node_without_a_link_is_refused_before_anything_is_asked() {
    let bed = Bed::new().await;
    let asked = bed.server.requests().len();
    let refused = bed.links.rule(Backend::Redis, "registry", Some("balancer-1"), CUT).await;
    assert!(matches!(refused, Err(LinkError::Rule(_))), "{refused:?}");
    bed.links.rule(Backend::Redis, "registry", Some("balancer-1"), None).await.unwrap();
    assert_eq!(bed.server.requests().len(), asked);
}

#[tokio::test]
async fn commands_beyond_the_limit_are_refused_and_late_ones_are_never_begun() {
    let server = Scripted::start().await;
    server.script_always("GET /version", Act::Hang);
    let driver = Driver::start(server.addr(), IMPATIENT.call).unwrap();
    let asked = (0..COMMANDS_MAX + 3).map(|_| driver.version());
    let outcomes = future::join_all(asked).await;
    assert!(outcomes.contains(&Err(LinkError::Full(COMMANDS_MAX))), "{outcomes:?}");
    assert!(outcomes.iter().all(Result::is_err));
    let (addr, begun) = (server.addr(), server.requests().len());
    drop(server);
    driver.stop().await;
    assert_eq!(begun, 1, "one command held the thread at {addr}");
    assert_eq!(driver.version().await, Err(LinkError::Ended));
}

#[tokio::test]
async fn library_that_hangs_is_silent_and_does_not_hold_up_the_end() {
    let bed = Bed::within(IMPATIENT).await;
    bed.server.script(ADD, Act::Hang);
    let silent = bed.rule("registry", Some(slow(100))).await;
    assert!(matches!(silent, Err(LinkError::Silent { .. })), "{silent:?}");
    bed.end().await;
}
