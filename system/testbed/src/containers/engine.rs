//! The container engine, as far as testcontainers does not speak to it: what it has, networks, signals, logs, leftovers.
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as BollardError;
use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{
    InspectContainerOptions, LogsOptionsBuilder, StartContainerOptions, StatsOptionsBuilder,
};
use futures_util::StreamExt as _;

use super::images::Images;
use super::leftovers::{self, Owner};
use crate::port::PortTrouble;

/// An engine that does not answer within this is not there.
const ANSWER: Duration = Duration::from_secs(5);
/// Log lines of a container that are shown when it does not become ready.
const LAST_LINES: &str = "15";
/// Bytes of those lines.
const LOG_BYTES: usize = 8 * 1024;

/// What is missing, and what cures it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers.
    #[error("no container engine answers: {0}")]
    NoEngine(String),
    /// It is too old.
    #[error("the engine {version} speaks API {api}, and 1.41 is the oldest that was ever tried")]
    OldApi {
        /// Its version.
        version: String,
        /// The newest API that it speaks.
        api: String,
    },
    /// It puts a process of its own in front of published ports.
    #[error(
        "the engine publishes ports through a proxy of its own, which keeps and closes connections in place of the containers"
    )]
    PortProxy,
    /// Too little memory is free.
    #[error("{free_mib} MiB of memory are free, and {wanted_mib} MiB have to be")]
    NoMemory {
        /// Free, MiB.
        free_mib: u64,
        /// Wanted, MiB.
        wanted_mib: u64,
    },
    /// The engine has no addresses for a further network.
    #[error("the engine has no addresses for a further network: {0}")]
    NoNetwork(String),
    /// Images are not there.
    #[error("images are missing: {}", .0.join(", "))]
    NoImages(Vec<String>),
    /// A port that a backend would be published on.
    #[error(transparent)]
    Port(#[from] PortTrouble),
    /// More conditioned links than listeners fit.
    #[error("{wanted} links are to be conditioned, and there are ports for {room}")]
    TooManyLinks {
        /// One for each node and conditioned backend.
        wanted: usize,
        /// How many fit.
        room: usize,
    },
    /// The image of the chat nodes was built from another binary than this one.
    #[error("the image `{image}` holds another build of chatstorm than this one")]
    OtherNode {
        /// Its reference.
        image: String,
        /// This binary.
        binary: String,
    },
    /// Containers or networks of a run are still there.
    #[error("containers or networks of other runs are still there: {}", .0.join(", "))]
    Leftovers(Vec<String>),
    /// The engine refused something.
    #[error("the engine refused to {act}: {why}")]
    Refused {
        /// What was asked.
        act: String,
        /// Its answer.
        why: String,
    },
    /// A container did not become ready.
    #[error("`{name}` is not ready after {after:?}: {why}; its last lines:\n{log}")]
    NotReady {
        /// Which container.
        name: String,
        /// How long was waited.
        after: Duration,
        /// What the last attempt said.
        why: String,
        /// Its last log lines.
        log: String,
    },
}

impl EngineError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::NoEngine(_) => "start one: `system/testbed/images/engine`".to_owned(),
            Self::OldApi { .. } => "install Docker 20.10 or newer".to_owned(),
            Self::PortProxy => {
                "stop that engine and run `system/testbed/images/engine`, or set `\"userland-proxy\": false` in `/etc/docker/daemon.json` and restart it".to_owned()
            }
            Self::NoMemory { .. } => "end what needs it, or take a larger machine".to_owned(),
            Self::NoNetwork(_) => "`docker network prune` removes networks that nobody uses".to_owned(),
            Self::NoImages(names) => {
                format!("build them: `system/testbed/images/build {}`", names.join(" "))
            }
            Self::Port(trouble) => trouble.cure().to_owned(),
            Self::Leftovers(_) => {
                "`chatstorm sweep --yes` removes those of runs that are over; wait for one that is under way".to_owned()
            }
            Self::OtherNode { binary, .. } => {
                format!("build it from this one: `CHATSTORM_BINARY={binary} system/testbed/images/build node`")
            }
            Self::TooManyLinks { .. } => {
                "fewer nodes, or faults on one backend only".to_owned()
            }
            Self::Refused { .. } | Self::NotReady { .. } => {
                "`docker ps -a` and `docker logs` say more".to_owned()
            }
        }
    }
}

/// A connection to the engine. Calls have the client's limit of two minutes each.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) docker: Docker,
}

impl Engine {
    /// Connects to the engine that `DOCKER_HOST` or the usual socket names.
    pub async fn connect() -> Result<Self, EngineError> {
        let said = |error: BollardError| EngineError::NoEngine(words(&error));
        let docker = Docker::connect_with_defaults().map_err(said)?;
        // The client's own version is newer than what most engines speak.
        let negotiated = tokio::time::timeout(ANSWER, docker.negotiate_version()).await;
        let docker = negotiated
            .map_err(|_| EngineError::NoEngine("no answer within 5 s".to_owned()))?
            .map_err(said)?;
        Ok(Self { docker })
    }

    /// Version of the engine and of its API.
    pub async fn version(&self) -> Result<(String, String), EngineError> {
        let version = self.docker.version().await.map_err(refused("say its version"))?;
        Ok((version.version.unwrap_or_default(), version.api_version.unwrap_or_default()))
    }

    /// Refuses a start without its images. Names are those of the build script.
    pub async fn expect_images(&self, images: &Images) -> Result<(), EngineError> {
        let mut missing = Vec::new();
        for (name, reference) in images.all() {
            match self.docker.inspect_image(reference).await {
                Ok(_) => {}
                Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => {
                    missing.push(name.to_owned());
                }
                Err(error) => return Err(refused("look at its images")(error)),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(EngineError::NoImages(missing)) }
    }

    /// Refuses a start beside what carries our label; nothing is touched.
    pub async fn expect_no_leftovers(&self) -> Result<(), EngineError> {
        let left = self.labelled().await?;
        let names: Vec<_> = left.into_iter().map(|one| one.name).collect();
        if names.is_empty() { Ok(()) } else { Err(EngineError::Leftovers(names)) }
    }

    /// Makes the network of a run; what it publishes is bound to 127.0.0.1.
    pub async fn make_network(&self, name: &str, run: &str) -> Result<(), EngineError> {
        let binding = "com.docker.network.bridge.host_binding_ipv4".to_owned();
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(binding, "127.0.0.1".to_owned())])),
            labels: Some(HashMap::from([
                (leftovers::RUN.to_owned(), run.to_owned()),
                (leftovers::OWNER.to_owned(), Owner::this_process().label()),
            ])),
            ..NetworkCreateRequest::default()
        };
        self.docker.create_network(request).await.map(drop).map_err(|error| {
            let why = words(&error);
            if why.contains("address pool") {
                return EngineError::NoNetwork(why);
            }
            refused("make a network")(error)
        })
    }

    /// Ends a container by SIGKILL; it stays there, with its data.
    pub async fn kill(&self, name: &str) -> Result<(), EngineError> {
        self.signal(name, "SIGKILL").await
    }

    /// Starts a container that was ended.
    pub async fn start(&self, name: &str) -> Result<(), EngineError> {
        let options = None::<StartContainerOptions>;
        self.docker.start_container(name, options).await.map_err(refused("start a container"))
    }

    /// CPU time of a container since its last start, nanoseconds; `None` when the engine does not say.
    pub async fn cpu_ns(&self, name: &str) -> Option<u64> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut answer = std::pin::pin!(self.docker.stats(name, Some(options)));
        answer.next().await?.ok()?.cpu_stats?.cpu_usage?.total_usage
    }

    /// The first process of a container that runs, as the engine counts processes, and the container's id.
    pub(super) async fn process(&self, name: &str) -> Option<(i64, String)> {
        let options = None::<InspectContainerOptions>;
        let found = self.docker.inspect_container(name, options).await.ok()?;
        let pid = found.state?.pid.filter(|pid| *pid > 0)?;
        Some((pid, found.id?))
    }

    /// The last lines of a container's log.
    pub async fn last_lines(&self, name: &str) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LAST_LINES).build();
        let mut lines = self.docker.logs(name, Some(options));
        let mut text = String::new();
        while let Some(Ok(line)) = lines.next().await {
            if text.len() >= LOG_BYTES || write!(text, "{line}").is_err() {
                break;
            }
        }
        text
    }
}

/// What is gone already needs no removing.
pub(super) fn gone(done: Result<(), BollardError>, act: &str) -> Result<(), EngineError> {
    match done {
        Err(BollardError::DockerResponseServerError { status_code: 404, .. }) | Ok(()) => Ok(()),
        Err(error) => Err(refused(act)(error)),
    }
}

pub(super) fn refused(act: &str) -> impl Fn(BollardError) -> EngineError {
    move |error| EngineError::Refused { act: act.to_owned(), why: words(&error) }
}

/// What the engine said, without the wrapper's words.
fn words(error: &BollardError) -> String {
    match error {
        BollardError::DockerResponseServerError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::EngineError;

    #[tokio::test]
    async fn engine_without_addresses_for_a_network_is_told_apart_from_one_that_refuses() {
        let refused_with = async |why: &str| {
            let body = format!(r#"{{"message": "{why}"}}"#);
            let engine = Scripted::start(move |_| (500, body.clone()));
            engine.engine().make_network("chatstorm-r", "r").await.unwrap_err()
        };
        let full = refused_with("all predefined address pools have been fully subnetted").await;
        assert!(matches!(&full, EngineError::NoNetwork(_)), "{full}");
        assert!(full.cure().contains("docker network prune"));
        let other = refused_with("permission denied").await;
        assert!(matches!(&other, EngineError::Refused { .. }), "{other}");
    }
}
