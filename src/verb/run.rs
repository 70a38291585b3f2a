//! `run FILE`: runs a scenario or an experiment, judges it and writes its reports.
use crate::args::RunArgs;
use crate::exit::{Edge, Exit};
use crate::files;
use crate::output::Output;
use crate::run::{self, Wish};
use crate::signals::Signals;

/// Runs what was named.
pub(crate) fn run(args: &RunArgs, output: &Output) -> Result<Exit, Edge> {
    let resolved = files::resolve(&args.file, output)?;
    let signals = Signals::install()?;
    let wish = Wish {
        resolved: &resolved,
        substrate: args.file.substrate.into(),
        shards: args.shards.map(|shards| u32::try_from(shards.get()).unwrap_or(u32::MAX)),
        out: args.out.clone(),
        command: args.repeat(resolved.plan().seed),
    };
    run::run(&wish, output, &signals)
}
