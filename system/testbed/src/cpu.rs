//! CPU time by thread, so that a report can say who used the machine.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chat_control::inspect::ThreadCpu;

/// CPU time of threads that have ended, by name.
#[derive(Debug, Default)]
pub(crate) struct CpuLedger {
    ended: Mutex<BTreeMap<String, u64>>,
}

impl CpuLedger {
    /// Called by a thread as its last act.
    pub(crate) fn this_thread_ends(&self) {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let ns = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec).unwrap_or(0);
        let name = std::thread::current().name().unwrap_or("").to_owned();
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += ns;
    }

    /// CPU time of all threads of the process by name, ended nodes included. Threads of one name are added up.
    pub(crate) fn threads(&self) -> Vec<ThreadCpu> {
        let mut all = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let path = task.path();
            let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
            let Ok(stat) = std::fs::read_to_string(path.join("schedstat")) else { continue };
            let Some(ns) = stat.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok())
            else {
                continue;
            };
            *all.entry(name.trim().to_owned()).or_default() += ns;
        }
        all.into_iter().map(|(thread, cpu_ns)| ThreadCpu { thread, cpu_ns, apart: false }).collect()
    }
}
