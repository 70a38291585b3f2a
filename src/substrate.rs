//! Where the system of a run stands: in this process, or in containers.
use std::net::SocketAddr;
use std::path::Path;

use chat_testbed::{BackendsKind, Config};
use storm_experiment::file::{ResolvedExperiment, Substrate};
use storm_load::engine::OnThread;
use storm_workload::scale::Ci;
use storm_workload::units::{Rate, Time};

#[cfg(feature = "containers")]
use crate::containers;
use crate::exit::Edge;
use crate::files::Resolved;

/// Folder of the logs of containers in that of a run.
#[cfg(feature = "containers")]
const LOGS: &str = "nodes";

/// Partitions of the log where no file names any: real brokers pay for batches, so few of them suit a host that holds everything.
pub const fn partitions(substrate: Substrate) -> Option<u32> {
    match substrate {
        Substrate::Embedded => None,
        Substrate::Containers => Some(3),
    }
}

/// What `--scale ci` does otherwise than its preset. Virtual machines compile as they go, so the first seconds of load are slower than
/// what follows, and a steady state of three seconds differs from run to run. Backends, nodes and generator share two cores, where a
/// lower rate leaves a latency that is the same from run to run (`docs/decisions.md`, 56).
pub const fn ci(substrate: Substrate) -> Ci {
    match substrate {
        Substrate::Embedded => Ci { rate: None, users: None, window: None },
        Substrate::Containers => {
            Ci { rate: Some(Rate::per_second(300)), users: None, window: Some(Time::seconds(10)) }
        }
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

/// Where a system listens on this host, backends left out.
pub fn addresses(substrate: Substrate, config: &Config) -> Vec<SocketAddr> {
    match substrate {
        Substrate::Embedded => config.addresses(),
        #[cfg(feature = "containers")]
        Substrate::Containers => {
            [config.addresses(), chat_testbed::containers::doors(config)].concat()
        }
        // Refused by the preflight.
        #[cfg(not(feature = "containers"))]
        Substrate::Containers => config.addresses(),
    }
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
                logs: Some(folder.join(LOGS)),
            }))
        }
        // Refused by the preflight.
        #[cfg(not(feature = "containers"))]
        Substrate::Containers => BackendsKind::Embedded,
    }
}

/// Remembers the panics of nodes that are processes of their own: their logs are written when the testbed has stopped.
#[cfg_attr(not(feature = "containers"), expect(unused_variables, reason = "every node was here"))]
pub fn remember_panics(substrate: Substrate, folder: &Path, nodes: &[String]) {
    match substrate {
        Substrate::Embedded => {}
        #[cfg(feature = "containers")]
        Substrate::Containers => crate::panics::remember_logs(&folder.join(LOGS), nodes),
        #[cfg(not(feature = "containers"))]
        Substrate::Containers => {}
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
