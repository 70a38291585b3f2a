//! Conditions that end a run early: heal, drain and judge follow, and the exit code is 13 unless something broke.
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use storm_experiment::notes::StopSwitch;
use storm_experiment::runner::Progress;
use storm_workload::plan::Window;

/// Lag p99 above which the generator is lost.
const LAG_MAX_NS: u64 = 50_000_000;
/// For so many looks in a row.
const LAG_LOOKS: u32 = 5;
/// The panic lever: while this file exists, no run goes on.
const LEVER: &str = "target/chatstorm/STOP";

/// Looks at the stop conditions once a second.
pub(super) struct Stops<'a> {
    stop: &'a StopSwitch,
    lagging: Mutex<u32>,
}

impl<'a> Stops<'a> {
    pub(super) fn new(stop: &'a StopSwitch) -> Self {
        Self { stop, lagging: Mutex::new(0) }
    }

    pub(super) fn look(&self, progress: &Progress<'_>, alive: bool) {
        if self.stop.is_stopped() {
            return;
        }
        if !alive {
            self.stop.stop("a thread of the load generator died");
        }
        if Path::new(LEVER).exists() {
            self.stop.stop(format!("the panic lever `{LEVER}` is set"));
        }
        let loaded = !matches!(progress.phase.window, Window::Drain);
        let mut lagging = self.lagging.lock().unwrap_or_else(PoisonError::into_inner);
        *lagging = if loaded && progress.pulse.lag_p99_ns > LAG_MAX_NS { *lagging + 1 } else { 0 };
        if *lagging >= LAG_LOOKS {
            self.stop.stop("the generator was more than 50 ms late for 5 s");
        }
    }
}
