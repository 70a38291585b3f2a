//! `node`: one chat node in a process of its own.
use std::error::Error as _;
use std::net::SocketAddr;

use chat_testbed::process::{self, NodeSpec, ProcessError, SpecError, Stop};
use serde::Serialize;

use crate::args::NodeArgs;
use crate::exit::{Edge, Exit};
use crate::output::Output;
use crate::preflight;
use crate::signals::Signals;

/// The one line on stdout, once the node serves.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    ready: &'a str,
    addr: SocketAddr,
}

/// Stays until it is drained: the first SIGTERM begins that, the second one ends the node at once.
pub(crate) fn node(args: &NodeArgs, output: &Output) -> Result<Exit, Edge> {
    let spec = NodeSpec::read(&args.spec).map_err(|error| spec_edge(&error))?;
    preflight::raise_descriptors()?;
    let signals = Signals::install()?;
    let stop = Stop { drain: signals.stop.clone(), now: signals.leave.clone() };
    let ready = |addr| {
        let line = serde_json::to_string(&Ready { ready: &spec.name, addr });
        // Whoever started it looks through its door; a closed pipe is no reason to end.
        if let Ok(line) = line
            && let Err(edge) = output.data(&format!("{line}\n"))
        {
            tracing::warn!(%edge, "The ready line could not be written.");
        }
    };
    match process::run(&spec, &args.roles, &stop, ready) {
        Ok(()) => Ok(Exit::Pass),
        Err(ProcessError::Spec(error)) => Err(spec_edge(&error)),
        Err(error @ ProcessError::Ended) => Err(Edge::internal(error.to_string())),
        Err(error) => Err(Edge::no_start(format!("node `{}` did not start", spec.name))
            .caused_by(error)
            .hint("its backends and the names of its network have to be there before it is")),
    }
}

/// What, where, and what to do; the cause in one line, since it is about a file.
fn spec_edge(error: &SpecError) -> Edge {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Edge::usage(format!("{error}{cause}")).hint(error.cure())
}
