//! What this process and its neighbours take from the host, read from `/proc`; where that is missing, nothing is noted.
use std::fs;

use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};
use storm_record::facts::{HostFact, MemoryFact};

/// The kernel counts time of cores in ticks of a hundredth of a second, whatever its own tick is.
const TICK_NS: u64 = 10_000_000;

/// Memory of this process.
pub(crate) fn memory(at_ns: u64) -> Option<MemoryFact> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(MemoryFact { at_ns, resident: pages * 4096 })
}

/// Use of the cores that this process may run on. The system may have parts outside of the process, which used `apart_ns`.
pub(crate) fn cores(at_ns: u64, apart_ns: u64) -> Option<HostFact> {
    let may = sched_getaffinity(Some(getpid())).ok()?;
    let (cores, busy_ns) = busy(&fs::read_to_string("/proc/stat").ok()?, &may)?;
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let own_ns =
        u64::try_from(own.tv_sec).ok()? * 1_000_000_000 + u64::try_from(own.tv_nsec).ok()?;
    Some(HostFact { at_ns, cores, busy_ns, own_ns: own_ns + apart_ns })
}

/// How many of the cores are listed, and how long they were not idle. Columns as in `proc_stat(5)`: user, nice, system, idle, iowait,
/// irq, softirq, steal; guest time is part of user time.
fn busy(stat: &str, may: &CpuSet) -> Option<(u32, u64)> {
    let (mut cores, mut ticks) = (0, 0_u64);
    for line in stat.lines() {
        let mut columns = line.split_whitespace();
        let core = columns.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
        if !core.is_some_and(|core| core < CpuSet::MAX_CPU && may.is_set(core)) {
            continue;
        }
        for (at, column) in columns.take(8).enumerate() {
            let column: u64 = column.parse().ok()?;
            if at != 3 && at != 4 {
                ticks += column;
            }
        }
        cores += 1;
    }
    (cores > 0).then_some((cores, ticks * TICK_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
cpu  30 3 9 300 6 0 3 3 0 0
cpu0 10 1 2 100 4 0 1 2 0 0
cpu1 20 2 7 200 2 0 2 1 0 0
intr 1 2 3
";

    fn set(cores: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        for core in cores {
            set.set(*core);
        }
        set
    }

    #[test]
    fn only_cores_that_the_process_may_run_on_count_and_only_while_busy() {
        assert_eq!(busy(STAT, &set(&[0])), Some((1, 16 * TICK_NS)));
        assert_eq!(busy(STAT, &set(&[0, 1, 2])), Some((2, 48 * TICK_NS)));
    }

    #[test]
    fn a_host_that_lists_none_of_them_says_nothing() {
        assert_eq!(busy(STAT, &set(&[7])), None);
        assert_eq!(busy("cpu0 ten", &set(&[0])), None);
    }

    #[test]
    fn this_host_was_busy_for_as_long_as_this_process_ran() {
        let seen = cores(5, 0).unwrap();
        assert!(seen.cores > 0 && seen.busy_ns > 0 && seen.own_ns > 0);
        assert!(memory(5).unwrap().resident > 0);
    }
}
