//! Conditions that end a run early: heal, drain and judge follow, and the exit code is 13 unless something broke.
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use storm_experiment::notes::StopSwitch;
use storm_experiment::runner::Progress;
use storm_workload::plan::Window;

use crate::preflight::{self, LEVER};

/// Lag p99 above which the generator is lost.
const LAG_MAX_NS: u64 = 50_000_000;
/// For so many looks in a row.
const LAG_LOOKS: u32 = 5;
/// Free disk below which a run ends while its record can still be completed. A start asks for four times as much.
const DISK_FLOOR: u64 = 256 << 20;
/// The file in a run folder that ends that run.
const STOP_FILE: &str = "stop";

/// What the run knows of itself at a look.
#[derive(Clone, Copy)]
pub(super) struct Health {
    /// The load generator's threads run.
    pub(super) generator: bool,
    /// The record takes what it is given.
    pub(super) record: bool,
}

/// Looks at the stop conditions once a second.
pub(super) struct Stops<'a> {
    stop: &'a StopSwitch,
    folder: &'a Path,
    lagging: Mutex<u32>,
}

impl<'a> Stops<'a> {
    pub(super) fn new(stop: &'a StopSwitch, folder: &'a Path) -> Self {
        Self { stop, folder, lagging: Mutex::new(0) }
    }

    pub(super) fn look(&self, progress: &Progress<'_>, health: Health) {
        if self.stop.is_stopped() {
            return;
        }
        let loaded = !matches!(progress.phase.window, Window::Drain);
        let mut lagging = self.lagging.lock().unwrap_or_else(PoisonError::into_inner);
        *lagging = if loaded && progress.pulse.lag_p99_ns > LAG_MAX_NS { *lagging + 1 } else { 0 };
        if let Some(why) = self.why(*lagging, health) {
            self.stop.stop(why);
        }
    }

    fn why(&self, lagging: u32, health: Health) -> Option<String> {
        if !health.generator {
            return Some("a thread of the load generator died".to_owned());
        }
        if !health.record {
            return Some("the record cannot be written".to_owned());
        }
        if lagging >= LAG_LOOKS {
            return Some("the generator was more than 50 ms late for 5 s".to_owned());
        }
        if let Ok(free) = preflight::free_bytes(self.folder)
            && free < DISK_FLOOR
        {
            return Some(format!("the run folder has {} MiB of disk left", free >> 20));
        }
        if !descriptors_left() {
            return Some("more than 95 % of the descriptors are in use".to_owned());
        }
        [self.folder.join(STOP_FILE).as_path(), Path::new(LEVER)]
            .into_iter()
            .find(|file| file.exists())
            .map(|file| format!("the file `{}` asks for it", file.display()))
    }
}

/// Whether a new descriptor still lies in the first 95 % of what this process may have: numbers are given out from the lowest.
fn descriptors_left() -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return true };
    let Ok(probe) = rustix::fs::open("/dev/null", OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    let number = std::os::fd::AsRawFd::as_raw_fd(&probe);
    u64::try_from(number).is_ok_and(|number| number < limit - limit / 20)
}
