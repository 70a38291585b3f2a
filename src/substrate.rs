//! Where the system of a run stands: in this process, or on backends in containers.
use chat_testbed::BackendsKind;
use storm_experiment::file::Substrate;

use crate::exit::Edge;
use crate::files::Resolved;

/// The word for a substrate in files, flags and reports.
pub const fn name(substrate: Substrate) -> &'static str {
    match substrate {
        Substrate::Embedded => "embedded",
        Substrate::Containers => "containers",
    }
}

/// Refuses what cannot run there, before anything is started.
pub fn preflight(substrate: Substrate, resolved: &Resolved) -> Result<(), Edge> {
    if let Resolved::Experiment(experiment) = resolved
        && !experiment.substrates.contains(&substrate)
    {
        let names: Vec<_> = experiment.substrates.iter().map(|one| name(*one)).collect();
        return Err(Edge::usage(format!(
            "`{}` does not run on the substrate `{}`",
            experiment.name,
            name(substrate)
        ))
        .hint(format!("it runs on: {}", names.join(", "))));
    }
    match substrate {
        Substrate::Embedded => Ok(()),
        Substrate::Containers => containers(),
    }
}

#[cfg(not(feature = "containers"))]
fn containers() -> Result<(), Edge> {
    Err(Edge::no_start("this build has no substrate `containers`")
        .hint("build it in: `cargo build --release --features containers`"))
}

#[cfg(feature = "containers")]
fn containers() -> Result<(), Edge> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Edge::no_start("no runtime").caused_by(error))?;
    runtime
        .block_on(chat_testbed::containers::preflight(&images(), chat_testbed::BASE_PORT))
        .map_err(|error| {
            let cure = error.cure();
            Edge::no_start(error.to_string()).hint(cure)
        })
}

#[cfg(feature = "containers")]
pub(crate) fn images() -> chat_testbed::containers::Images {
    chat_testbed::containers::Images::with(|variable| std::env::var(variable).ok())
}

/// What the testbed is told; `run` marks everything that is started in containers.
#[cfg_attr(not(feature = "containers"), expect(unused_variables, reason = "nothing to mark"))]
pub fn backends(substrate: Substrate, run: &str) -> BackendsKind {
    match substrate {
        Substrate::Embedded => BackendsKind::Embedded,
        #[cfg(feature = "containers")]
        Substrate::Containers => {
            BackendsKind::Containers(chat_testbed::containers::ContainersConfig {
                run: run.to_owned(),
                images: images(),
            })
        }
        // Refused by the preflight.
        #[cfg(not(feature = "containers"))]
        Substrate::Containers => BackendsKind::Embedded,
    }
}

/// A process of its own that removes everything of a run once this process is gone, however it ended.
#[cfg(feature = "containers")]
pub struct Deadman(std::process::Child);

#[cfg(feature = "containers")]
impl Deadman {
    /// Starts it; what the run begins to leave behind from now on is covered.
    pub fn start(run: &str) -> Result<Self, Edge> {
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};
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

#[cfg(feature = "containers")]
impl Drop for Deadman {
    fn drop(&mut self) {
        // Its pipe ends, it finds nothing, and it ends within the engine's answering time.
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            tracing::warn!(%error, "The sweeper of containers was lost.");
        }
    }
}
