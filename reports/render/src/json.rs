//! `report.json`: the report as it is, so that judging a stored run again gives the same bytes.
use storm_judge::Report;

/// The report as JSON, with a line end.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}
