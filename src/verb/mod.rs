//! One file a verb; each takes what was typed and gives back an exit code.
mod demo;
mod doctor;
mod explain;
mod list;
#[cfg(feature = "containers")]
mod node;
mod plan;
mod report;
mod run;
mod schema;
#[cfg(feature = "containers")]
mod sweep;
mod up;

use crate::args::Command;
use crate::exit::{Edge, Exit};
use crate::output::Output;

/// Does what was asked for.
pub(crate) fn dispatch(command: Command, output: &Output) -> Result<Exit, Edge> {
    match command {
        Command::Run(args) => run::run(&args, output),
        Command::Plan(args) => plan::plan(&args, output),
        Command::Up => up::up(output),
        Command::Report(args) => report::report(&args, output),
        Command::Demo(args) => demo::demo(&args, output),
        Command::List(args) => list::list(&args, output),
        Command::Explain(args) => explain::explain(&args, output),
        Command::Schema(args) => schema::schema(&args, output),
        #[cfg(feature = "containers")]
        Command::Sweep(args) => sweep::sweep(&args, output),
        #[cfg(feature = "containers")]
        Command::Node(args) => node::node(&args, output),
        Command::Doctor => doctor::doctor(output),
    }
}
