//! What this machine must have before a plan is started; every refusal names its cure.
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::Edge;
use crate::files::Resolved;

/// Free disk below which no run is started.
pub const DISK_NEEDED: u64 = 1 << 30;

/// Refuses a plan that needs more descriptors than this process may have.
pub fn descriptors(resolved: &Resolved) -> Result<(), Edge> {
    let needed = resolved.plan().estimates().descriptors + resolved.descriptors_of_faults();
    // A tenth stays free for what no estimate sees.
    let wanted = needed.saturating_add(needed / 10);
    match getrlimit(Resource::Nofile).maximum {
        Some(hard) if hard < wanted => Err(Edge::no_start(format!(
            "the plan needs {wanted} descriptors, and this process may have {hard}"
        ))
        .hint(format!("raise the hard limit (`ulimit -Hn {wanted}`), or use a smaller `--scale`"))),
        _ => Ok(()),
    }
}

/// Raises the soft limit of descriptors to the hard one; a run calls it before it opens sockets.
pub fn raise_descriptors() -> Result<(), Edge> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).map_err(
        |error| Edge::no_start("the limit of descriptors cannot be raised").caused_by(error),
    )
}

/// The panic lever, below the present folder: while this file exists no run begins and none goes on.
pub const LEVER: &str = "target/chatstorm/STOP";

/// Refuses everything while the panic lever is set.
pub fn lever() -> Result<(), Edge> {
    if Path::new(LEVER).exists() {
        return Err(Edge::no_start(format!("the panic lever `{LEVER}` is set"))
            .hint("remove the file when runs may begin again"));
    }
    Ok(())
}

/// Free disk where a folder lies.
pub fn free_bytes(folder: &Path) -> rustix::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses a folder without room for a record.
pub fn disk(folder: &Path) -> Result<(), Edge> {
    let free = free_bytes(folder).map_err(|error| {
        Edge::no_start(format!("free space of `{}` cannot be read", folder.display()))
            .caused_by(error)
    })?;
    if free < DISK_NEEDED {
        return Err(Edge::no_start(format!(
            "`{}` has {} MiB free, and a run needs 1 GiB",
            folder.display(),
            free >> 20
        ))
        .hint("free some, or give another folder with `--out`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_that_does_not_exist_cannot_hold_a_run() {
        assert_eq!(disk(Path::new("no/such/folder")).unwrap_err().exit.code(), 3);
    }
}
