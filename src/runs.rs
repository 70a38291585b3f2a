//! Run folders: where they lie, which of them is meant.
use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::Edge;

/// Where runs are stored unless `--out` says otherwise, below the present folder.
pub const RUNS: &str = "target/chatstorm/runs";
/// The link to the newest run.
pub const LATEST: &str = "latest";
/// The report of a run, below its folder.
pub const REPORT: &str = "report.json";

/// One stored run.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its id, which is its folder's name.
    pub id: String,
    /// The verdict of its report, or why there is none.
    pub verdict: String,
}

/// A run id: the time of the start (UTC) and four hexadecimal digits that tell apart runs of one second, for example
/// `20261121-063522-7f3a`.
pub fn id(wall_ms: u64, salt: u16) -> String {
    let (days, second) = (wall_ms / 86_400_000, wall_ms / 1_000 % 86_400);
    // Civil date of a day number, for dates from 1970 on: years begin in March here, so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{salt:04x}")
}

/// The folder of a run id.
pub fn folder(run_id: &str) -> PathBuf {
    Path::new(RUNS).join(run_id)
}

/// The folder of a run given as a path, an id or `latest`.
pub fn find(run: &str) -> Result<PathBuf, Edge> {
    let candidates = [folder(run), PathBuf::from(run)];
    let found = candidates.iter().find(|path| path.is_dir()).cloned();
    found.ok_or_else(|| {
        let hint = if run == LATEST {
            "run something first, for example `chatstorm run smoke`"
        } else {
            "`chatstorm list runs` shows what is stored"
        };
        Edge::usage(format!("there is no run `{run}`")).hint(hint)
    })
}

/// All stored runs, oldest first. Run ids begin with their time, so their order is that of their names.
pub fn stored() -> Result<Vec<Stored>, Edge> {
    let entries = match fs::read_dir(RUNS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Edge::internal(format!("`{RUNS}` cannot be read")).caused_by(error));
        }
    };
    let mut runs: Vec<Stored> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| Stored {
            id: entry.file_name().to_string_lossy().into_owned(),
            verdict: verdict(&entry.path()),
        })
        .collect();
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(runs)
}

fn verdict(folder: &Path) -> String {
    let word = fs::read(folder.join(REPORT))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .and_then(|report| report.get("verdict").and_then(|v| v.as_str().map(str::to_owned)));
    word.unwrap_or_else(|| "no report; `chatstorm report` judges what the run left".into())
}

/// Points `latest` at a run folder that lies below [`RUNS`]; others are left alone.
pub fn point_latest(run_folder: &Path) -> Result<(), Edge> {
    let Some(id) = run_folder.strip_prefix(RUNS).ok().filter(|id| id.components().count() == 1)
    else {
        return Ok(());
    };
    let link = folder(LATEST);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(
                Edge::internal(format!("`{}` cannot be replaced", link.display())).caused_by(error)
            );
        }
        _ => {}
    }
    std::os::unix::fs::symlink(id, &link).map_err(|error| {
        Edge::internal(format!("`{}` cannot be made", link.display())).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_id_begins_with_its_time() {
        assert_eq!(id(0, 0), "19700101-000000-0000");
        assert_eq!(id(951_782_400_000, 0xab), "20000229-000000-00ab");
        assert_eq!(id(1_795_242_922_000, 0x7f3a), "20261121-063522-7f3a");
    }

    #[test]
    fn unknown_run_is_a_usage_error_with_a_hint() {
        let edge = find("no-such-run").unwrap_err();
        assert_eq!(edge.exit, crate::exit::Exit::Usage);
        assert!(edge.to_string().contains("chatstorm list runs"));
    }
}
