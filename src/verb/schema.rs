//! `schema`: the JSON Schema of a file format.
use crate::args::{SchemaArgs, SchemaOf};
use crate::exit::{Edge, Exit};
use crate::output::Output;

/// Prints one schema.
pub(crate) fn schema(args: &SchemaArgs, output: &Output) -> Result<Exit, Edge> {
    let mut text = match args.of {
        SchemaOf::Scenario => storm_workload::file::scenario_schema(),
        SchemaOf::Experiment => storm_experiment::file::experiment_schema(),
        SchemaOf::Report => {
            serde_json::to_string_pretty(&storm_judge::report::schema()).map_err(|error| {
                Edge::internal("the schema cannot be written as JSON").caused_by(error)
            })?
        }
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    output.data(&text)?;
    Ok(Exit::Pass)
}
