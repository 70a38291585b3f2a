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
    let logger = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_ansi(output.color)
        .with_writer(std::io::stderr)
        .finish();
    drop(tracing::subscriber::set_global_default(logger));
}
