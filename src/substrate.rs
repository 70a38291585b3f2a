//! Where the system of a run stands: in this process, or on backends in containers.
use std::path::Path;

use chat_testbed::BackendsKind;
use storm_experiment::file::{ResolvedExperiment, Substrate};
use storm_load::engine::OnThread;

#[cfg(feature = "containers")]
use crate::containers;
use crate::exit::Edge;
use crate::files::Resolved;

/// Partitions of the log where no file names any: real brokers pay for batches, so few of them suit a host that holds everything.
pub const fn partitions(substrate: Substrate) -> Option<u32> {
    match substrate {
        Substrate::Embedded => None,
        Substrate::Containers => Some(3),
    }
}

/// Refuses what cannot run there, before anything is started.
pub fn preflight(substrate: Substrate, resolved: &Resolved) -> Result<(), Edge> {
    if let Resolved::Experiment(experiment) = resolved
        && !experiment.substrates.contains(&substrate)
    {
        let names: Vec<_> = experiment.substrates.iter().map(|one| one.name()).collect();
        return Err(Edge::usage(format!(
            "`{}` does not run on the substrate `{}`",
            experiment.name,
            substrate.name()
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
        let images = containers::images();
        chat_testbed::containers::preflight(&images, chat_testbed::BASE_PORT).await?;
        chat_testbed::containers::preflight_nodes(&images).await
    })
}

/// What the testbed is told. `run` marks everything that is started in containers, their logs go below `folder`, and links that an
/// experiment conditions are made so that they can be.
#[cfg_attr(not(feature = "containers"), expect(unused_variables, reason = "nothing to mark"))]
pub fn backends(
    substrate: Substrate,
    run: &str,
    folder: &Path,
    experiment: Option<&ResolvedExperiment>,
) -> BackendsKind {
    match substrate {
        Substrate::Embedded => BackendsKind::Embedded,
        #[cfg(feature = "containers")]
        Substrate::Containers => {
            BackendsKind::Containers(Box::new(chat_testbed::containers::ContainersConfig {
                run: run.to_owned(),
                images: containers::images(),
                conditioned: experiment.map(conditioned).unwrap_or_default(),
                logs: Some(folder.join("nodes")),
            }))
        }
        // Refused by the preflight.
        #[cfg(not(feature = "containers"))]
        Substrate::Containers => BackendsKind::Embedded,
    }
}

/// The backends whose links a method conditions.
#[cfg(feature = "containers")]
fn conditioned(
    experiment: &ResolvedExperiment,
) -> std::collections::BTreeSet<chat_testbed::containers::Backend> {
    let ports = experiment.steps.iter().filter_map(|step| step.fault.port());
    let names = ports.flat_map(storm_faults::spec::Port::names);
    names.filter_map(|name| chat_testbed::containers::Backend::of_port(name)).collect()
}

/// What the generator's threads do as they begin: on a host that is full of others they have to come first.
pub fn on_generator_thread(substrate: Substrate) -> Option<OnThread> {
    match substrate {
        Substrate::Embedded => None,
        #[cfg(feature = "containers")]
        Substrate::Containers => crate::precedence::of_generator(),
        #[cfg(not(feature = "containers"))]
        Substrate::Containers => None,
    }
}
