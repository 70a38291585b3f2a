//! The chatstorm command line: reads what was typed, calls the layer that does it, prints, and ends with a documented code.
//!
//! It holds no measuring, no judging and no chat code. stdout is data, stderr is talk.
//!
//! - [`args`] what can be typed; start here.
//! - [`exit`] the exit codes and the one error of the edge.
//! - [`variants`] the known-bad variants.
//! - [`progress`] the status of a run, redrawn on a terminal and `key=value` off it.
//! - [`signals`] the first signal stops, the second leaves.
//! - [`output`] where text goes, in which form and colour.
//! - [`panics`] a crash of any thread is remembered, and no run passes after it.
//! - [`files`] a path or a catalog name becomes a scenario or an experiment.
//! - [`run`] from a resolved file to a verdict.
//! - [`runs`] the folders of stored runs.
//! - [`substrate`] where the system of a run stands; `containers` (with the feature) the engine's side of it, `precedence` who goes
//!   first beside it.
//! - [`preflight`] what this machine must have before a plan is started.
//! - [`words`] what `explain` and `list` know.
//! - [`verb`] one file a verb.
pub mod args;
#[cfg(feature = "containers")]
mod containers;
pub mod exit;
pub mod files;
pub mod footprint;
mod logging;
pub mod output;
pub mod panics;
#[cfg(feature = "containers")]
mod precedence;
pub mod preflight;
pub mod progress;
pub mod run;
pub mod runs;
pub mod signals;
pub mod substrate;
pub mod variants;
pub mod verb;
pub mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use exit::Exit;
use output::Output;

/// Runs one command line from its arguments (the program's name first) to its exit code.
pub fn command_line(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are data and succeed, everything else is a usage error. A closed pipe is no error.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Pass };
            drop(error.print());
            return exit.into();
        }
    };
    let output = Output::new(&args.global);
    logging::install(&output);
    panics::remember();
    match verb::dispatch(args.command, &output) {
        Ok(exit) => exit.into(),
        Err(edge) => {
            output.error(&edge);
            edge.exit.into()
        }
    }
}
