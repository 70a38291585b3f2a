//! The containers of one run: started together, known by name, removed together.
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_control::inspect::ThreadCpu;
use chat_ports::PortError;
use chat_ports::observe::Observer;
use futures_util::future;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::account;
use super::engine::{Engine, EngineError};
use super::images::Images;
use super::recipe::{self, BROKERS, Layout, Request, Running, S3_ACCESS_KEY, S3_SECRET_KEY};
use super::toxiproxy::{LinkPlan, Links};
use super::versions;

/// A backend that is not ready within this is given up.
const READY: Duration = Duration::from_secs(90);
/// What a set consists of, by the names that its calls take.
const BACKENDS: [&str; 6] = ["kafka-1", "kafka-2", "kafka-3", "redis", "cassandra", "s3"];
/// What stands between nodes and backends where links are conditioned.
const TOXIPROXY: &str = "toxiproxy";
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// How the S3 server is reached. It serves this host only and holds nothing but fold snapshots of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct S3Contact {
    /// Its address.
    pub addr: SocketAddr,
    /// Access key.
    pub access_key: &'static str,
    /// Secret key.
    pub secret_key: &'static str,
}

/// Three Kafka brokers, Redis, Cassandra and an S3 server on one network, published on fixed ports of 127.0.0.1, and a Toxiproxy
/// beside them where links are conditioned.
pub struct BackendSet {
    engine: Engine,
    layout: Layout,
    /// Without a link in it there is no Toxiproxy.
    plan: LinkPlan,
    /// Emptied when the set stops.
    running: Mutex<Vec<Running>>,
    /// CPU time by container.
    used: Mutex<BTreeMap<&'static str, Used>>,
}

/// CPU time of a container over all its starts: each is counted from its beginning.
#[derive(Clone, Debug, Default)]
struct Used {
    before: u64,
    now: u64,
    /// Where the kernel counts the present start.
    account: Option<PathBuf>,
}

impl BackendSet {
    /// Starts all containers; what did start is removed again when one does not. Ports lie in the 80 above `base_port`.
    pub async fn start(run: &str, base_port: u16, images: &Images) -> Result<Self, EngineError> {
        Self::start_with(run, base_port, images, LinkPlan::default()).await
    }

    /// The same with a Toxiproxy for the links of a plan, unless that is empty.
    pub(super) async fn start_with(
        run: &str,
        base_port: u16,
        images: &Images,
        plan: LinkPlan,
    ) -> Result<Self, EngineError> {
        let layout = Layout { run: run.to_owned(), base_port };
        let mut requests = vec![layout.cassandra(images), layout.redis(images), layout.s3(images)];
        requests.extend((1..=BROKERS).map(|number| layout.kafka(images, number)));
        if !plan.is_empty() {
            requests.push(layout.toxiproxy(images, &plan));
        }
        Self::launch(layout, plan, requests).await
    }

    /// Starts what is requested, beside each other on a network of their own.
    pub(super) async fn launch(
        layout: Layout,
        plan: LinkPlan,
        requests: Vec<Request>,
    ) -> Result<Self, EngineError> {
        let engine = Engine::connect().await?;
        engine.make_network(&layout.network(), &layout.run).await?;
        let (mut running, mut failed) = (Vec::new(), None);
        for begun in future::join_all(requests.into_iter().map(recipe::start)).await {
            match begun {
                Ok(container) => running.push(container),
                Err(error) => failed = Some(error),
            }
        }
        let (running, used) = (Mutex::new(running), Mutex::default());
        let set = Self { engine, layout, plan, running, used };
        match failed {
            None => Ok(set),
            Some(error) => {
                set.stop().await;
                Err(error)
            }
        }
    }

    fn here(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Address of Redis.
    pub fn redis(&self) -> SocketAddr {
        Self::here(self.layout.redis_port())
    }

    /// The brokers, as a client of Kafka wants them: addresses separated by commas, in the order of their numbers.
    pub fn bootstrap(&self) -> String {
        let here = |number| Self::here(self.layout.broker_port(number)).to_string();
        (1..=BROKERS).map(here).collect::<Vec<_>>().join(",")
    }

    /// Address of Cassandra.
    pub fn cassandra(&self) -> SocketAddr {
        Self::here(self.layout.cassandra_port())
    }

    /// The S3 server.
    pub fn s3(&self) -> S3Contact {
        S3Contact {
            addr: Self::here(self.layout.s3_port()),
            access_key: S3_ACCESS_KEY,
            secret_key: S3_SECRET_KEY,
        }
    }

    /// The conditioned links, all of them neutral; `None` where there are none.
    pub(super) async fn links(&self, observer: &Observer) -> Result<Option<Links>, EngineError> {
        if self.plan.is_empty() {
            return Ok(None);
        }
        let api = Self::here(self.layout.toxiproxy_port());
        let opened = self.ready(TOXIPROXY, async || {
            let route = |backend| self.layout.route(backend);
            Ok(Links::open(&self.plan, api, route, observer).await?)
        });
        opened.await.map(Some)
    }

    /// Asks a backend (`redis`, `cassandra`, `s3`, `kafka-1` to `kafka-3`) until it answers its own protocol, since a
    /// connection alone proves nothing; after 90 s its last log lines are the error.
    pub async fn ready<T>(
        &self,
        backend: &str,
        ask: impl AsyncFn() -> Result<T, PortError>,
    ) -> Result<T, EngineError> {
        let began = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => {
                    let seconds = began.elapsed().as_secs_f32();
                    tracing::info!(backend, seconds, "The backend is ready.");
                    return Ok(answer);
                }
                Err(error) if began.elapsed() >= READY => {
                    let name = self.layout.name(backend);
                    let log = self.engine.last_lines(&name).await;
                    let why = error.to_string();
                    return Err(EngineError::NotReady { name, after: READY, why, log });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Ends a backend by SIGKILL; it keeps its data.
    pub async fn kill(&self, backend: &str) -> Result<(), EngineError> {
        self.engine.kill(&self.layout.name(backend)).await
    }

    /// Starts a backend that was ended.
    pub async fn revive(&self, backend: &str) -> Result<(), EngineError> {
        self.engine.start(&self.layout.name(backend)).await
    }

    /// CPU time of each container; one that does not run keeps what it had. Toxiproxy is the harness's and named so.
    pub async fn cpu(&self) -> Vec<ThreadCpu> {
        let toxiproxy = (!self.plan.is_empty()).then_some(TOXIPROXY);
        let mut used = self.used.lock().await;
        let mut all = Vec::with_capacity(BACKENDS.len());
        for backend in BACKENDS.into_iter().chain(toxiproxy) {
            let known = used.entry(backend).or_default();
            let ns = match known.account.as_deref().and_then(account::used_ns) {
                Some(ns) => Some(ns),
                None => self.counted_anew(backend, known).await,
            };
            if let Some(ns) = ns.filter(|ns| *ns > 0) {
                if ns < known.now {
                    known.before += known.now;
                }
                known.now = ns;
            }
            let whose = if backend == TOXIPROXY { "storm" } else { "chat" };
            let (thread, cpu_ns) = (format!("{whose}-{backend}"), known.before + known.now);
            all.push(ThreadCpu { thread, cpu_ns, apart: true });
        }
        all
    }

    /// CPU time of a start that is not known yet: from the kernel, or from the engine where the kernel's account is out of sight. One
    /// that does not run uses none.
    async fn counted_anew(&self, backend: &str, known: &mut Used) -> Option<u64> {
        let name = self.layout.name(backend);
        let (pid, id) = self.engine.process(&name).await?;
        known.account = account::of(pid, &id);
        match known.account.as_deref().and_then(account::used_ns) {
            Some(ns) => Some(ns),
            None => self.engine.cpu_ns(&name).await,
        }
    }

    /// What each server says of its version.
    pub(super) async fn versions(&self) -> BTreeMap<String, String> {
        let toxiproxy = (!self.plan.is_empty()).then_some(TOXIPROXY);
        let servers = BACKENDS.into_iter().chain(toxiproxy);
        versions::of(&self.engine, &self.layout, servers).await
    }

    /// Writes the logs of all containers that carry the name of the run.
    pub(super) async fn save_logs(&self, folder: &Path) {
        self.engine.save_logs(&self.layout, folder).await;
    }

    /// Removes everything; what cannot be removed is said, and left to the sweeper.
    pub async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock().await);
        let gone = running.into_iter().map(|container| async move {
            if let Err(error) = container.rm().await {
                tracing::warn!(%error, "A container could not be removed.");
            }
        });
        future::join_all(gone).await;
        if let Err(error) = self.engine.remove_network(&self.layout.network()).await {
            tracing::warn!(%error, "A network could not be removed.");
        }
    }
}
