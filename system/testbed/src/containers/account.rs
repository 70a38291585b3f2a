//! CPU time of a container from the kernel's own account, where the engine runs on this host: the engine takes a second to answer
//! for several containers at once, and a look at the system waits for it.
use std::path::{Path, PathBuf};

/// Where the kernel shows control groups.
const ROOT: &str = "/sys/fs/cgroup";

/// Where the CPU time of a container is counted whose first process and id these are; `None` where that cannot be seen from here. An
/// engine may count processes otherwise than this host, so only a control group that bears the id is the container's.
pub(super) fn of(pid: i64, id: &str) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    places(&groups, id).into_iter().find(|place| used_ns(place).is_some())
}

/// Every place that may have the account, for what `/proc/PID/cgroup` says: version 1 by controller, version 2 alone or beside it.
fn places(groups: &str, id: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        if id.is_empty() || !group.contains(id) {
            continue;
        }
        let group = group.trim_start_matches('/');
        let place = |folder: &str, file: &str| Path::new(ROOT).join(folder).join(group).join(file);
        if controllers.split(',').any(|controller| controller == "cpuacct") {
            places.extend([place(controllers, "cpuacct.usage"), place("cpuacct", "cpuacct.usage")]);
        } else if controllers.is_empty() {
            places.extend([place("", "cpu.stat"), place("unified", "cpu.stat")]);
        }
    }
    places
}

/// Nanoseconds of CPU time that an account shows.
pub(super) fn used_ns(place: &Path) -> Option<u64> {
    read(&std::fs::read_to_string(place).ok()?)
}

/// Version 1 shows nanoseconds, version 2 a line of microseconds among others.
fn read(account: &str) -> Option<u64> {
    account.trim().parse().ok().or_else(|| {
        let line = account.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        line.trim().parse::<u64>().ok()?.checked_mul(1_000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_both_versions_are_found_and_read() {
        let first = places("4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n", "abc");
        assert_eq!(first[0], Path::new("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpuacct.usage"));
        assert_eq!(read("123456789\n"), Some(123_456_789));
        let second = places("0::/system.slice/docker-abc.scope\n", "abc");
        assert_eq!(second[0], Path::new("/sys/fs/cgroup/system.slice/docker-abc.scope/cpu.stat"));
        assert_eq!(read("usage_usec 42\nuser_usec 40\n"), Some(42_000));
        assert_eq!((read(""), places("nonsense", "abc").len()), (None, 0));
    }

    #[test]
    fn another_process_of_the_same_number_has_an_account_that_is_not_taken() {
        let groups = "4:cpu,cpuacct:/user/somebody\n0::/user.slice/somebody.scope\n";
        assert!(places(groups, "abc").is_empty());
        assert!(places(groups, "").is_empty(), "the engine gave no id");
        assert_eq!(of(i64::from(std::process::id()), "no such container"), None);
    }
}
