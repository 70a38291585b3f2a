//! All reports of a run into its folder.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use storm_judge::Report;

use crate::json::json;
use crate::junit::junit;
use crate::markdown::markdown;

/// The report for programs.
pub const JSON: &str = "report.json";
/// The report for test runners.
pub const JUNIT: &str = "junit.xml";
/// The report for people.
pub const MARKDOWN: &str = "report.md";

/// A report that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The report has no JSON form.
    #[error("the report has no JSON form")]
    Json(#[from] serde_json::Error),
    /// The report has no `JUnit` form.
    #[error("the report has no JUnit form")]
    Junit(#[from] quick_junit::SerializeError),
}

/// Writes `report.json`, `junit.xml` and `report.md`; what was there is replaced.
pub fn write(report: &Report, folder: &Path) -> Result<(), WriteError> {
    for (name, text) in
        [(JSON, json(report)?), (JUNIT, junit(report)?), (MARKDOWN, markdown(report))]
    {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| WriteError::Io { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;

    #[test]
    fn writing_twice_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        write(&kit::failed(), folder.path()).unwrap();
        let first = fs::read(folder.path().join(JSON)).unwrap();
        write(&kit::failed(), folder.path()).unwrap();
        assert_eq!(first, fs::read(folder.path().join(JSON)).unwrap());
    }

    #[test]
    fn folder_that_is_gone_is_an_error_with_its_path() {
        let error = write(&kit::passed(), Path::new("no/such/folder")).unwrap_err();
        assert_eq!(error.to_string(), "cannot write `no/such/folder/report.json`");
    }
}
