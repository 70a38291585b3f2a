//! `report RUN...`: judges stored runs again and draws their reports anew. Nothing is run.
use std::path::Path;

use storm_judge::Report;
use storm_record::store::RunFolder;

use crate::args::{Format, ReportArgs};
use crate::exit::{Edge, Exit};
use crate::output::Output;
use crate::runs;

/// Reports every run that was named; the exit code is the worst verdict's.
pub(crate) fn report(args: &ReportArgs, output: &Output) -> Result<Exit, Edge> {
    let mut exit = Exit::Pass;
    for run in &args.runs {
        let folder = runs::find(run)?;
        let record = RunFolder::open(&folder).read().map_err(|error| {
            Edge::usage(format!("`{}` holds no record that can be read", folder.display()))
                .caused_by(error)
        })?;
        let report = storm_judge::judge(&record).map_err(|error| {
            Edge::usage(format!("the plan of `{}` is not one of this version", folder.display()))
                .caused_by(error)
        })?;
        exit = exit.merge(show(&report, &folder, output)?);
    }
    Ok(exit)
}

/// Writes the reports of a judged run into its folder, shows it in the form that was asked for, and gives its exit code.
fn show(report: &Report, folder: &Path, output: &Output) -> Result<Exit, Edge> {
    storm_render::write_all(report, folder).map_err(|error| {
        Edge::internal(format!("reports cannot be written into `{}`", folder.display()))
            .caused_by(error)
    })?;
    let text = match output.format {
        Format::Json => storm_render::json::json(report).map_err(|error| {
            Edge::internal("the report cannot be written as JSON").caused_by(error)
        })?,
        Format::Text => storm_render::terminal::text(report, output.color),
    };
    output.data(&text)?;
    Ok(Exit::from_code(report.exit_code))
}
