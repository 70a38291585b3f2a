//! What the engine does to one container: signals, freezing, its log.
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, LogsOptionsBuilder,
};
use futures_util::StreamExt as _;

use super::engine::{Engine, EngineError, refused};
use super::leftovers::Kind;
use super::recipe::Layout;

/// A log is cut after so many bytes.
const LOG_MAX: usize = 16 * 1024 * 1024;
/// So begins the last line of a log that is not whole.
pub const LOG_CUT: &str = "(cut here";
/// The engine has so long to hand a log over.
pub(super) const LOG_LIMIT: Duration = Duration::from_secs(10);

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

    /// Lets a paused container go on; one that runs already is let be.
    pub async fn unpause(&self, name: &str) -> Result<(), EngineError> {
        let done = self.docker.unpause_container(name).await;
        let done = done.map_err(refused("resume a container"));
        if done.is_err() {
            let options = None::<InspectContainerOptions>;
            let found = self.docker.inspect_container(name, options).await.ok();
            let state = found.and_then(|found| found.state).unwrap_or_default();
            if state.running == Some(true) && state.paused == Some(false) {
                return Ok(());
            }
        }
        done
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

    /// Writes the logs of all containers of a run to a folder, which is made; each is named as its container without the run. One
    /// that cannot be written is said, and the others are written all the same.
    pub(super) async fn save_logs(&self, layout: &Layout, folder: &Path) {
        if let Err(error) = std::fs::create_dir_all(folder) {
            tracing::warn!(%error, folder = %folder.display(), "There is no folder for the logs of containers.");
            return;
        }
        let listed = match self.containers_of(&layout.run).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "The logs of containers could not be written.");
                return;
            }
        };
        let prefix = layout.name("");
        for name in listed {
            let short = name.strip_prefix(&prefix).unwrap_or(&name);
            if let Err(error) = self.save_log(&name, &folder.join(format!("{short}.log"))).await {
                tracing::warn!(%error, name, "The log of a container could not be written.");
            }
        }
    }

    /// Names of all containers of a run.
    async fn containers_of(&self, run: &str) -> Result<Vec<String>, EngineError> {
        let mut all = self.labelled().await?;
        all.retain(|one| one.kind == Kind::Container && one.run == run);
        Ok(all.into_iter().map(|one| one.name).collect())
    }

    /// Writes what a container said on both of its streams to a file. A log that is not whole ends with a line that begins with
    /// [`LOG_CUT`]: of more than 16 MiB the rest is missing, as is what the engine did not hand over.
    async fn save_log(&self, name: &str, file: &Path) -> Result<(), EngineError> {
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

    pub(super) async fn log(&self, name: &str) -> Vec<u8> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut pieces = self.docker.logs(name, Some(options));
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = match piece {
                Ok(piece) => piece.into_bytes(),
                Err(error) => {
                    text.extend_from_slice(format!("\n{LOG_CUT}: {error})\n").as_bytes());
                    break;
                }
            };
            if text.len() + piece.len() > LOG_MAX {
                text.extend_from_slice(format!("\n{LOG_CUT}, after 16 MiB)\n").as_bytes());
                break;
            }
            text.extend_from_slice(&piece);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;

    #[tokio::test]
    async fn a_log_that_cannot_be_written_keeps_no_other_from_being_written() {
        let engine = Scripted::start(|request| {
            let body = if request.contains("/containers/json") {
                let of = |name: &str, run: &str| {
                    format!(
                        r#"{{"Names": ["/chatstorm-{run}-{name}"], "Labels": {{"chatstorm.run": "{run}"}}}}"#
                    )
                };
                format!("[{}, {}, {}]", of("a", "r"), of("b", "r"), of("c", "other"))
            } else if request.contains("/networks") {
                "[]".to_owned()
            } else {
                String::new()
            };
            (200, body)
        });
        let folder = std::env::temp_dir().join(format!("chatstorm-logs-{}", std::process::id()));
        // Where the first log would lie is a folder.
        std::fs::create_dir_all(folder.join("a.log")).unwrap();
        let layout = Layout { run: "r".to_owned(), base_port: 7_000 };
        engine.engine().save_logs(&layout, &folder).await;
        assert!(folder.join("b.log").is_file());
        assert!(!folder.join("c.log").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_log_that_the_engine_does_not_hand_over_says_that_it_is_not_whole() {
        let engine = Scripted::start(|_| (500, r#"{"message": "no such driver"}"#.to_owned()));
        let said = String::from_utf8(engine.engine().log("chatstorm-r-a").await).unwrap();
        assert!(said.lines().last().unwrap().starts_with(LOG_CUT), "{said}");
    }
}
