//! Rules on links through a real Toxiproxy in front of real backends; skipped where no engine answers, unless
//! `CHATSTORM_CONTAINERS=1` asks for them.
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use chat_control::act::PortRule;
use chat_external::cassandra::{CassandraConfig, CassandraStore};
use chat_external::redis::{RedisConfig, RedisStore};
use chat_ports::PortError;
use chat_ports::clock::SteadyClock;
use chat_ports::history::{History, PageRequest};
use chat_ports::observe::Observer;
use chat_protocol::{ConvId, UserId};
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::links::Links;
use super::{Backend, LinkPlan, probe};
use crate::containers::engine::{Engine, EngineError};
use crate::containers::images::Images;
use crate::containers::recipe::Layout;
use crate::containers::set::BackendSet;

/// Away from the ports of a run and of the conformance suite.
const BASE_PORT: u16 = 8_500;
/// With it a missing engine is a failure.
const WANTED: &str = "CHATSTORM_CONTAINERS";
/// An answer that takes longer is none. Generous where one is expected, since the stories share the cores with the backends.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an answer that must not come is waited for.
const NO_ANSWER: Duration = Duration::from_millis(600);
/// The stories share the ports, so they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

struct Bed {
    set: BackendSet,
    plan: LinkPlan,
    links: Links,
    observer: Observer,
}

impl Bed {
    async fn start(backends: &BTreeSet<Backend>) -> Result<Self, EngineError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let images = Images::with(|variable| std::env::var(variable).ok());
        Engine::connect().await?.expect_images(&images).await?;
        let run = format!("toxi-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let layout = Layout { run, base_port: BASE_PORT };
        let nodes = ["gateway-1".to_owned(), "gateway-2".to_owned()];
        let plan = LinkPlan::new(BASE_PORT, &nodes, backends)?;
        let mut requests = vec![layout.toxiproxy(&images, &plan)];
        requests.extend(backends.iter().map(|backend| match backend {
            Backend::Redis => layout.redis(&images),
            Backend::Cassandra => layout.cassandra(&images),
        }));
        let set = BackendSet::launch(layout.clone(), plan.clone(), requests).await?;
        let observer = Observer::new(Arc::new(SteadyClock::new(1_700_000_000_000)));
        for backend in backends {
            let direct = layout.route(*backend).direct;
            let answers =
                async || probe::answers(*backend, direct, ANSWER).await.map_err(PortError::Refused);
            set.ready(backend.name(), answers).await?;
        }
        let links = set.links(&observer).await?.expect("the plan has links");
        Ok(Self { set, plan, links, observer })
    }

    fn addr(&self, backend: Backend, node: &str) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.plan.port(backend, node).unwrap()))
    }

    /// Puts a rule on both ports of Redis for one node, as a fault does.
    async fn redis_rule(&self, node: &str, rule: Option<PortRule>) {
        for port in Backend::Redis.ports() {
            self.links.rule(Backend::Redis, port, Some(node), rule.clone()).await.unwrap();
        }
    }

    fn forced(&self) -> u64 {
        let counters = self.observer.counters();
        counters.into_iter().find(|(name, _)| name == "toxiproxy.heal_forced").unwrap().1
    }
}

/// Runs a story on backends of its own and removes them, however it ends.
async fn on(backends: &[Backend], story: impl AsyncFnOnce(&Bed)) {
    let _turn = TURN.lock().await;
    let bed = match Box::pin(Bed::start(&backends.iter().copied().collect())).await {
        Ok(bed) => bed,
        Err(why) if std::env::var(WANTED).is_ok_and(|wanted| wanted == "1") => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped, since {WANTED} is not 1: {why}; cure: {}", why.cure());
            return;
        }
    };
    let told = AssertUnwindSafe(story(&bed)).catch_unwind().await;
    bed.set.stop().await;
    bed.links.stop().await;
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
}

/// A connection to Redis through a listener.
struct Redis(TcpStream);

impl Redis {
    async fn dial(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    async fn send(&mut self) {
        self.0.write_all(b"PING\r\n").await.unwrap();
    }

    /// Whether an answer comes in time; `None` when the connection ends instead.
    async fn answer(&mut self, limit: Duration) -> Option<bool> {
        let mut bytes = [0; 7];
        match timeout(limit, self.0.read_exact(&mut bytes)).await {
            Ok(Ok(_)) => Some(&bytes == b"+PONG\r\n"),
            Ok(Err(_)) => None,
            Err(_) => Some(false),
        }
    }

    /// One call; how long it took.
    async fn ping(&mut self) -> Duration {
        let began = Instant::now();
        self.send().await;
        assert_eq!(self.answer(ANSWER).await, Some(true));
        began.elapsed()
    }
}

#[tokio::test]
async fn slowed_node_waits_for_each_answer_and_keeps_its_connection() {
    on(&[Backend::Redis], async |bed| {
        let delay = Duration::from_secs(3);
        let mut redis = Redis::dial(bed.addr(Backend::Redis, "gateway-1")).await;
        redis.ping().await;
        let slow = PortRule::Slow { delay, jitter: Duration::ZERO };
        bed.redis_rule("gateway-1", Some(slow)).await;
        assert!(redis.ping().await >= delay);
        let mut other = Redis::dial(bed.addr(Backend::Redis, "gateway-2")).await;
        assert!(other.ping().await < delay);
        bed.redis_rule("gateway-1", None).await;
        assert!(redis.ping().await < delay);
        assert_eq!(bed.forced(), 0);
    })
    .await;
}

#[tokio::test]
async fn cut_node_gets_no_answer_while_another_does_and_begins_anew_after_the_heal() {
    on(&[Backend::Redis], async |bed| {
        let (cut, other) =
            (bed.addr(Backend::Redis, "gateway-1"), bed.addr(Backend::Redis, "gateway-2"));
        let mut before = Redis::dial(cut).await;
        before.ping().await;
        bed.redis_rule("gateway-1", Some(PortRule::Cut)).await;
        before.send().await;
        assert_eq!(before.answer(NO_ANSWER).await, Some(false));
        let mut during = Redis::dial(cut).await;
        during.send().await;
        assert_eq!(during.answer(NO_ANSWER).await, Some(false));
        Redis::dial(other).await.ping().await;
        bed.redis_rule("gateway-1", None).await;
        assert_eq!(before.answer(ANSWER).await, None, "bytes were lost, so it must end");
        assert_eq!(during.answer(ANSWER).await, None, "bytes were lost, so it must end");
        Redis::dial(cut).await.ping().await;
        assert_eq!(bed.forced(), 0);
    })
    .await;
}

#[tokio::test]
async fn reset_node_loses_each_connection_with_its_first_answer_until_the_heal() {
    on(&[Backend::Redis], async |bed| {
        let (reset, other) =
            (bed.addr(Backend::Redis, "gateway-1"), bed.addr(Backend::Redis, "gateway-2"));
        let mut before = Redis::dial(reset).await;
        before.ping().await;
        bed.redis_rule("gateway-1", Some(PortRule::Reset)).await;
        before.send().await;
        assert_eq!(before.answer(ANSWER).await, None);
        // The call has its effect all the same, and only its caller does not know.
        let mut during = Redis::dial(reset).await;
        during.0.write_all(b"SET told nobody\r\n").await.unwrap();
        let error = timeout(ANSWER, during.0.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let mut other = Redis::dial(other).await;
        other.0.write_all(b"DEL told\r\n").await.unwrap();
        let mut answer = [0; 4];
        timeout(ANSWER, other.0.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b":1\r\n");
        bed.redis_rule("gateway-1", None).await;
        Redis::dial(reset).await.ping().await;
        assert_eq!(bed.forced(), 0);
    })
    .await;
}

#[tokio::test]
async fn stalled_node_has_its_answers_after_the_heal_and_those_who_gave_up_hold_up_nothing() {
    on(&[Backend::Redis], async |bed| {
        let addr = bed.addr(Backend::Redis, "gateway-1");
        let mut patient = Redis::dial(addr).await;
        let mut gone = Redis::dial(addr).await;
        patient.ping().await;
        gone.ping().await;
        bed.redis_rule("gateway-1", Some(PortRule::Stall)).await;
        for _ in 0..20 {
            gone.send().await;
        }
        patient.send().await;
        assert_eq!(patient.answer(NO_ANSWER).await, Some(false));
        drop(gone);
        bed.redis_rule("gateway-1", None).await;
        assert_eq!(patient.answer(ANSWER).await, Some(true));
        patient.ping().await;
        assert_eq!(bed.forced(), 0);
    })
    .await;
}

/// Calls without a pause until the end of the story, over a new connection whenever one ends or is silent.
async fn keep_calling(addr: SocketAddr, answered: Arc<AtomicU32>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(addr).await else { continue };
        let mut bytes = [0; 7 * 50];
        while stream.write_all(&b"PING\r\n".repeat(50)).await.is_ok()
            && matches!(timeout(NO_ANSWER, stream.read_exact(&mut bytes)).await, Ok(Ok(_)))
        {
            answered.fetch_add(1, Relaxed);
        }
    }
}

#[tokio::test]
async fn links_heal_under_traffic_from_every_rule() {
    on(&[Backend::Redis], async |bed| {
        let addr = bed.addr(Backend::Redis, "gateway-1");
        let answered = Arc::new(AtomicU32::new(0));
        let mut calling = JoinSet::new();
        for _ in 0..8 {
            calling.spawn(keep_calling(addr, Arc::clone(&answered)));
        }
        let jitter = Duration::from_millis(5);
        let slow = PortRule::Slow { delay: Duration::from_millis(20), jitter };
        for round in 0..8 {
            let rule = [&slow, &PortRule::Stall, &PortRule::Cut, &PortRule::Reset][round % 4];
            bed.redis_rule("gateway-1", Some(rule.clone())).await;
            let mut redis = Redis::dial(addr).await;
            redis.send().await;
            let slow = matches!(rule, PortRule::Slow { .. });
            let got = redis.answer(if slow { ANSWER } else { NO_ANSWER }).await;
            let ended = rule == &PortRule::Reset;
            assert_eq!(got, (!ended).then_some(slow), "{rule:?}");
            bed.redis_rule("gateway-1", None).await;
            Redis::dial(addr).await.ping().await;
            let before = answered.load(Relaxed);
            let silent = || PortError::Refused("no call was answered".to_owned());
            let goes_on =
                async || (answered.load(Relaxed) > before).then_some(()).ok_or_else(silent);
            bed.set.ready("redis", goes_on).await.unwrap();
        }
        calling.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn rule_for_all_nodes_is_on_every_link_and_one_node_may_have_another() {
    on(&[Backend::Redis], async |bed| {
        bed.links.rule(Backend::Redis, "registry", None, Some(PortRule::Cut)).await.unwrap();
        let slow = PortRule::Slow { delay: Duration::from_millis(5), jitter: Duration::ZERO };
        let own = bed.links.rule(Backend::Redis, "registry", Some("gateway-2"), Some(slow));
        own.await.unwrap();
        let mut cut = Redis::dial(bed.addr(Backend::Redis, "gateway-1")).await;
        cut.send().await;
        assert_eq!(cut.answer(NO_ANSWER).await, Some(false));
        Redis::dial(bed.addr(Backend::Redis, "gateway-2")).await.ping().await;
        bed.links.rule(Backend::Redis, "registry", None, None).await.unwrap();
        Redis::dial(bed.addr(Backend::Redis, "gateway-1")).await.ping().await;
    })
    .await;
}

#[tokio::test]
async fn clients_of_a_node_go_through_its_listeners_only_and_come_back_by_themselves() {
    on(&Backend::ALL, async |bed| {
        let call = Duration::from_secs(1);
        let stores = async |node: &str| {
            let config = CassandraConfig {
                contact: bed.addr(Backend::Cassandra, node),
                keyspace: "toxi".to_owned(),
                replication: 1,
                call,
            };
            let redis = RedisConfig {
                addr: bed.addr(Backend::Redis, node),
                prefix: "toxi".to_owned(),
                relay_queue: 1,
                call,
            };
            let made = async || CassandraStore::create_schema(&config).await;
            bed.set.ready("cassandra", made).await.unwrap();
            let connected = async || CassandraStore::connect(config.clone(), &bed.observer).await;
            let cassandra = bed.set.ready("cassandra", connected).await.unwrap();
            (cassandra.history(), RedisStore::connect(redis, &bed.observer).await.unwrap())
        };
        let (cut, redis) = stores("gateway-1").await;
        let (free, _) = stores("gateway-2").await;
        read(&cut).await.unwrap();
        read(&free).await.unwrap();
        for backend in Backend::ALL {
            for port in backend.ports() {
                let rule = Some(PortRule::Cut);
                bed.links.rule(backend, port, Some("gateway-1"), rule).await.unwrap();
            }
        }
        // Longer than the driver keeps a silent connection, so that it dials anew while it is cut off.
        let until = Instant::now() + Duration::from_secs(7);
        while Instant::now() < until {
            assert!(read(&cut).await.is_err());
            assert!(redis.registry().nodes().await.is_err());
        }
        let free_again = async || read(&free).await;
        bed.set.ready("cassandra", free_again).await.unwrap();
        for backend in Backend::ALL {
            for port in backend.ports() {
                bed.links.rule(backend, port, Some("gateway-1"), None).await.unwrap();
            }
        }
        bed.set.ready("cassandra", async || read(&cut).await).await.unwrap();
        bed.set.ready("redis", async || redis.registry().nodes().await.map(drop)).await.unwrap();
        assert_eq!(bed.forced(), 0);
    })
    .await;
}

async fn read(history: &Arc<dyn History>) -> Result<(), PortError> {
    let conv = ConvId::direct(UserId(1), UserId(2)).unwrap();
    history.page(PageRequest { conv, backward: false, from: 0, limit: 1 }).await.map(drop)
}
