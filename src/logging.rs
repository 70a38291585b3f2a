//! Logs of the process on stderr: warnings by default, less with `-q`, more with `-v`.
use tracing_subscriber::EnvFilter;

use crate::output::Output;

/// Installs the logger. A second call in one process, as tests make it, keeps the first.
pub(crate) fn install(output: &Output) {
    let level = match (output.quiet, output.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    // A driver tells of every attempt to connect, which is what waiting for a backend consists of; what fails in the end is an error
    // of ours.
    let drivers = if output.verbose < 2 { ",scylla=off,librdkafka=off,rdkafka=off" } else { "" };
    let logger = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{level}{drivers}")))
        .with_ansi(output.color)
        .with_writer(std::io::stderr)
        .finish();
    drop(tracing::subscriber::set_global_default(logger));
}
