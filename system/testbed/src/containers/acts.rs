//! What the engine does to one container: signals, freezing, its network, its log.
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, LogsOptionsBuilder,
};
use futures_util::StreamExt as _;

use super::engine::{Engine, EngineError, refused};
use super::leftovers::Kind;

/// A log is cut after so many bytes.
const LOG_MAX: usize = 16 * 1024 * 1024;
/// The engine has so long to hand a log over.
const LOG_LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Sends a signal, by name, to the first process of a container.
    pub async fn signal(&self, name: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = self.docker.kill_container(name, Some(options)).await;
        sent.map_err(refused("signal a container"))
    }

    /// Stops the execution of a container; its sockets stay open.
    pub async fn pause(&self, name: &str) -> Result<(), EngineError> {
        self.docker.pause_container(name).await.map_err(refused("pause a container"))
    }

    /// Lets a paused container go on.
    pub async fn unpause(&self, name: &str) -> Result<(), EngineError> {
        self.docker.unpause_container(name).await.map_err(refused("resume a container"))
    }

    /// Takes a container from a network: nothing reaches it, and nothing leaves it, from now on.
    pub async fn disconnect(&self, network: &str, name: &str) -> Result<(), EngineError> {
        let request = NetworkDisconnectRequest { container: name.to_owned(), force: None };
        let done = self.docker.disconnect_network(network, request).await;
        done.map_err(refused("take a container from its network"))
    }

    /// Gives a container its network back.
    pub async fn reconnect(&self, network: &str, name: &str) -> Result<(), EngineError> {
        let request = NetworkConnectRequest {
            container: name.to_owned(),
            ..NetworkConnectRequest::default()
        };
        let done = self.docker.connect_network(network, request).await;
        done.map_err(refused("connect a container to its network"))
    }

    /// Whether a container runs, paused or not; one that is not there does not.
    pub async fn runs(&self, name: &str) -> Result<bool, EngineError> {
        let options = None::<InspectContainerOptions>;
        match self.docker.inspect_container(name, options).await {
            Ok(found) => Ok(found.state.and_then(|state| state.running).unwrap_or(false)),
            Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(refused("look at a container")(error)),
        }
    }

    /// Names of all containers of a run.
    pub async fn containers_of(&self, run: &str) -> Result<Vec<String>, EngineError> {
        let mut all = self.labelled().await?;
        all.retain(|one| one.kind == Kind::Container && one.run == run);
        Ok(all.into_iter().map(|one| one.name).collect())
    }

    /// Writes what a container said on both of its streams to a file; a log of more than 16 MiB is cut, and says so.
    pub async fn save_log(&self, name: &str, file: &Path) -> Result<(), EngineError> {
        let said = tokio::time::timeout(LOG_LIMIT, self.log(name)).await;
        let said = said.map_err(|_| EngineError::Refused {
            act: "hand a log over".to_owned(),
            why: format!("no end within {LOG_LIMIT:?}"),
        })?;
        let path = file.to_owned();
        let written = tokio::task::spawn_blocking(move || std::fs::write(path, said)).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map_err(|error| EngineError::Refused {
            act: format!("write `{}`", file.display()),
            why: error.to_string(),
        })
    }

    async fn log(&self, name: &str) -> Vec<u8> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut pieces = self.docker.logs(name, Some(options));
        let mut text = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            let piece = piece.into_bytes();
            if text.len() + piece.len() > LOG_MAX {
                text.extend_from_slice(b"\n(cut here, after 16 MiB)\n");
                break;
            }
            text.extend_from_slice(&piece);
        }
        text
    }
}
