//! The container engine as the command line meets it: images, one call, and what outlives a killed run.
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use chat_testbed::containers::Images;
use chat_testbed::containers::engine::EngineError;

use crate::exit::Edge;

/// The images of this command: the environment may name others.
pub(crate) fn images() -> Images {
    Images::with(|variable| std::env::var(variable).ok())
}

/// Asks the engine something, on a runtime for this one call; what is missing becomes an error with its cure.
pub(crate) fn on_engine<T>(ask: impl AsyncFnOnce() -> Result<T, EngineError>) -> Result<T, Edge> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Edge::no_start("no runtime").caused_by(error))?;
    runtime.block_on(ask()).map_err(|error| {
        let cure = error.cure();
        Edge::no_start(error.to_string()).hint(cure)
    })
}

/// A process of its own that removes everything of a run once this process is gone, however it ended.
pub(crate) struct Deadman(Child);

impl Deadman {
    /// Starts it; what the run begins to leave behind from now on is covered.
    pub(crate) fn start(run: &str) -> Result<Self, Edge> {
        // It holds the read end of a pipe whose only writer is this process. A group of its own keeps Ctrl-C from it.
        Command::new("/proc/self/exe")
            .args(["sweep", "--deadman", run])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|error| {
                Edge::no_start("the sweeper of containers did not start").caused_by(error)
            })
    }
}

impl Drop for Deadman {
    fn drop(&mut self) {
        // Told that all was taken down it looks once, and ends within the engine's answering time.
        if let Some(mut pipe) = self.0.stdin.take()
            && let Err(error) = pipe.write_all(b"over")
        {
            tracing::warn!(%error, "The sweeper of containers was gone already.");
        }
        if let Err(error) = self.0.wait() {
            tracing::warn!(%error, "The sweeper of containers was lost.");
        }
    }
}
