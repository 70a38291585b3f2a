//! Where the system of a run stands: in this process, or on backends in containers.
use chat_testbed::BackendsKind;
use storm_experiment::file::Substrate;

#[cfg(feature = "containers")]
use crate::containers;
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
    containers::on_engine(async || {
        chat_testbed::containers::preflight(&containers::images(), chat_testbed::BASE_PORT).await
    })
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
                images: containers::images(),
            })
        }
        // Refused by the preflight.
        #[cfg(not(feature = "containers"))]
        Substrate::Containers => BackendsKind::Embedded,
    }
}
