//! From a specification to the end of the node.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chat_embedded::guard::Hooks;
use chat_external::kafka::CLOSER;
use chat_gateway::balancer::Backend;
use chat_ports::PortError;
use chat_ports::clock::{SharedClock, SteadyClock};
use chat_ports::consumer::FoldViews;
use chat_ports::observe::Observer;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::door::{Door, Inside, Unconfirmed};
use super::spec::{NodeSpec, SpecError, place_of};
use crate::config::Settings;
use crate::containers::{Contacts, Paused, Wanted, open_ports};
use crate::node::{self, Shared, Signs, Start};
use crate::substrate::Ports;
use crate::unit::Kind;

/// A name of the network has an address within this: the engine may still be setting the network up.
const RESOLVE: Duration = Duration::from_secs(5);
/// Pause between two tries.
const AGAIN: Duration = Duration::from_millis(50);
/// The log's clients say farewell to their groups on threads of their own, for so long at most.
const FAREWELL: Duration = Duration::from_secs(5);
/// A node that has ended in order keeps its door open for so long at most, until somebody has its last readings.
const LAST_READINGS: Duration = Duration::from_secs(3);
/// Backends that do not answer are tried again for so long, and the last try may take ten seconds more: the harness waits as long for a
/// node, and hears what is missing.
const OPENING: Duration = Duration::from_secs(20);
/// Pause between two tries to open the ports.
const OPEN_AGAIN: Duration = Duration::from_millis(200);

/// Why a node's process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// What it was told cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No runtime, no signals, no threads.
    #[error("the node has no runtime")]
    Runtime(#[source] io::Error),
    /// A name has no address.
    #[error("`{0}` has no address")]
    Nowhere(String, #[source] io::Error),
    /// Its door cannot be opened.
    #[error("the door of the node cannot be opened at {0}")]
    Door(SocketAddr, #[source] io::Error),
    /// A backend did not answer, for 20 s.
    #[error("the node has no ports")]
    Ports(#[from] PortError),
    /// It ended without being told to.
    #[error("the node ended by itself; its log says why")]
    Ended,
}

/// What asks a node to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Cancelled to begin a drain.
    pub drain: CancellationToken,
    /// Cancelled to end at once.
    pub now: CancellationToken,
}

/// Runs a node on the caller's thread until it was drained or told to end. Backends that do not answer at first are tried again for
/// 20 s; a drain until then ends the node at once. `ready` is called once, with the address it registered,
/// when it serves.
///
/// Wall time is the host's clock at the start, which containers share, and goes on with the monotonic clock from there: a step of the
/// host's clock does not reach a node that runs.
pub fn run(
    spec: &NodeSpec,
    roles: &[String],
    stop: &Stop,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ProcessError> {
    run_within(spec, roles, stop, OPENING, ready)
}

fn run_within(
    spec: &NodeSpec,
    roles: &[String],
    stop: &Stop,
    opening: Duration,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ProcessError> {
    let (kind, roles) = place_of(roles)?;
    let settings = spec.settings()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ProcessError::Runtime)?;
    let clock: SharedClock = {
        let _inside = runtime.enter();
        Arc::new(SteadyClock::new(host_wall_ms()))
    };
    let addr = runtime.block_on(resolve(&spec.host, spec.port))?;
    let observer = Observer::new(Arc::clone(&clock));
    let inside = Arc::new(Inside {
        node: spec.name.clone(),
        signs: Arc::<Signs>::default(),
        observer: observer.clone(),
        folds: FoldViews::default(),
        hooks: Hooks::new(spec.seed),
        paused: Arc::<Paused>::default(),
        gauges: Unconfirmed::default(),
        ready: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        goodbye: CancellationToken::new(),
    });
    let door_addr = SocketAddr::new(addr.ip(), spec.door);
    let door = Door::open(door_addr, Arc::clone(&inside))
        .map_err(|error| ProcessError::Door(door_addr, error))?;
    let node = Node { spec, kind, roles, settings, clock, addr, opening, inside: &inside };
    let lived = runtime.block_on(async {
        tokio::select! {
            lived = node.live(stop, ready) => lived,
            () = stop.now.cancelled() => Ok(()),
        }
    });
    runtime.shutdown_background();
    drop(door);
    lived
}

struct Node<'a> {
    spec: &'a NodeSpec,
    kind: Kind,
    roles: Vec<chat_ports::registry::Role>,
    settings: Settings,
    clock: SharedClock,
    addr: SocketAddr,
    opening: Duration,
    inside: &'a Arc<Inside>,
}

impl Node<'_> {
    async fn live(self, stop: &Stop, ready: impl FnOnce(SocketAddr)) -> Result<(), ProcessError> {
        let Self { spec, kind, roles, settings, clock, addr, opening, inside } = self;
        let (mut gateways, mut ports) = (Vec::new(), None);
        if kind == Kind::Balancer {
            for gateway in &spec.gateways {
                let (name, addr) = (gateway.name.clone(), resolve_place(&gateway.place).await?);
                gateways.push(Backend { name, addr });
            }
        } else {
            let opened = tokio::select! {
                opened = open(spec, inside, opening) => opened?,
                () = stop.drain.cancelled() => return Ok(()),
            };
            ports = Some(opened.under(settings.policies.sessions.lease));
        }
        let (serves, mut is_ready) = watch::channel(false);
        let start = Start {
            name: spec.name.as_str().into(),
            addr,
            roles,
            shared: Arc::new(Shared {
                settings,
                gateways,
                clock,
                observer: inside.observer.clone(),
                folds: inside.folds.clone(),
            }),
            signs: Arc::clone(&inside.signs),
            ready: serves,
            drain: stop.drain.clone(),
            shutdown: stop.now.clone(),
        };
        let mut running = std::pin::pin!(node::run(kind, start, ports));
        let served = tokio::select! {
            () = &mut running => false,
            served = is_ready.wait_for(|ready| *ready) => served.is_ok(),
        };
        if served {
            inside.ready.store(true, Relaxed);
            ready(addr);
            running.await;
        }
        if !stop.drain.is_cancelled() {
            return Err(ProcessError::Ended);
        }
        farewell().await;
        inside.ended.store(true, Relaxed);
        if tokio::time::timeout(LAST_READINGS, inside.goodbye.cancelled()).await.is_err() {
            tracing::debug!("Nobody asked for the last readings.");
        }
        Ok(())
    }
}

/// Opens the ports of a gateway or service node. A node may start while a fault keeps a backend from answering, and comes as soon as
/// it answers again.
async fn open(
    spec: &NodeSpec,
    inside: &Arc<Inside>,
    limit: Duration,
) -> Result<Ports, ProcessError> {
    let opened = again(limit, async || {
        // A container that does not run has no address either.
        let nowhere = |error: ProcessError| PortError::Refused(error.to_string());
        let wanted = Wanted {
            redis: resolve_place(&spec.backends.redis).await.map_err(nowhere)?,
            cassandra: resolve_place(&spec.backends.cassandra).await.map_err(nowhere)?,
            kafka: spec.backends.kafka.clone(),
            s3: spec.backends.s3.clone(),
            timers: spec.timers,
            partitions: spec.partitions,
            relay_queue: spec.relay_queue,
            log_buffer: spec.log_buffer,
        };
        let (hooks, paused) = (Arc::clone(&inside.hooks), Arc::clone(&inside.paused));
        let contacts = Contacts::new(wanted);
        Box::pin(open_ports(&spec.name, contacts, hooks, paused, &inside.observer)).await
    });
    Ok(opened.await?)
}

/// Tries until it works; when the time is over, the last try's error is the answer. A try that is under way then is waited for, within
/// the limits of its own.
async fn again<T>(
    limit: Duration,
    attempt: impl AsyncFn() -> Result<T, PortError>,
) -> Result<T, PortError> {
    let until = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(opened) => return Ok(opened),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "A backend does not answer; the node tries again.");
            }
        }
        tokio::time::sleep(OPEN_AGAIN).await;
    }
}

/// Waits until the log's clients have left their groups; without it a drained member is missed only after its session.
async fn farewell() {
    let until = Instant::now() + FAREWELL;
    while closing() && Instant::now() < until {
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether a client of the log is still being closed.
fn closing() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
    tasks.filter_map(|task| name(task).ok()).any(|name| name.trim() == CLOSER)
}

async fn resolve_place(place: &str) -> Result<SocketAddr, ProcessError> {
    let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
    let port = port.parse().map_err(|error| {
        let why = io::Error::new(io::ErrorKind::InvalidInput, error);
        ProcessError::Nowhere(place.to_owned(), why)
    })?;
    resolve(host, port).await
}

/// The first IPv4 address of a name, asked for again for five seconds.
async fn resolve(host: &str, port: u16) -> Result<SocketAddr, ProcessError> {
    let until = Instant::now() + RESOLVE;
    loop {
        let error = match tokio::net::lookup_host((host, port)).await {
            Ok(mut found) => match found.find(SocketAddr::is_ipv4) {
                Some(addr) => return Ok(addr),
                None => io::Error::from(io::ErrorKind::AddrNotAvailable),
            },
            Err(error) => error,
        };
        if Instant::now() >= until {
            return Err(ProcessError::Nowhere(format!("{host}:{port}"), error));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The host's wall clock, milliseconds since 1970.
fn host_wall_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000) + nanos.unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::super::spec::GatewayPlace;
    use super::super::spec::tests::spec;
    use super::*;

    #[test]
    fn a_node_without_backends_says_so_and_never_was_ready() {
        let (spec, roles) = (spec("services-1"), ["relay".to_owned()]);
        let ended = run_within(&spec, &roles, &Stop::default(), Duration::ZERO, |_| {
            panic!("it cannot be ready")
        });
        assert!(matches!(ended, Err(ProcessError::Ports(_))), "{ended:?}");
    }

    #[test]
    fn a_node_that_waits_for_its_backends_ends_when_it_is_drained() {
        let mut spec = spec("services-1");
        (spec.port, spec.door) = (8_863, 8_864);
        let stop = Stop::default();
        stop.drain.cancel();
        let ended = run(&spec, &["relay".to_owned()], &stop, |_| panic!("it cannot be ready"));
        assert!(ended.is_ok(), "{ended:?}");
    }

    #[test]
    fn a_balancer_asks_no_backend_and_serves_without_any() {
        let mut spec = spec("balancer-1");
        (spec.port, spec.door) = (8_865, 8_866);
        let place = "127.0.0.1:1".to_owned();
        spec.gateways = vec![GatewayPlace { name: "gateway-1".to_owned(), place }];
        let (stop, mut served) = (Stop::default(), false);
        let now = stop.now.clone();
        let ended = run(&spec, &["balancer".to_owned()], &stop, |_| {
            served = true;
            now.cancel();
        });
        assert!(ended.is_ok() && served, "{ended:?}");
    }

    #[tokio::test]
    async fn a_backend_that_answers_late_is_late_and_one_that_never_does_is_missing() {
        let tries = std::cell::Cell::new(0);
        let attempt = async || {
            tries.set(tries.get() + 1);
            let number = tries.get();
            let refused = || PortError::Refused(format!("try {number}"));
            if number < 3 { Err(refused()) } else { Ok(number) }
        };
        assert_eq!(again(OPENING, &attempt).await.unwrap(), 3);
        tries.set(0);
        let error = again(Duration::ZERO, &attempt).await.unwrap_err();
        assert!(error.to_string().contains("try 1"), "{error}");
    }

    #[test]
    fn roles_and_variants_are_refused_before_anything_is_opened() {
        let run = |spec: &NodeSpec, role: &str| {
            run(spec, &[role.to_owned()], &Stop::default(), |_| panic!("it cannot be ready"))
        };
        let wrong = run(&spec("services-1"), "cook");
        assert!(matches!(wrong, Err(ProcessError::Spec(SpecError::Roles(_)))));
        let mut spec = spec("services-1");
        spec.variants = vec!["no.such".to_owned()];
        let wrong = run(&spec, "relay");
        assert!(matches!(wrong, Err(ProcessError::Spec(SpecError::Variant { .. }))));
    }
}
