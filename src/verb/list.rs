//! `list`: what is there, one line each.
use serde::Serialize;
use storm_judge::invariant;
use storm_workload::metrics::{Metric, Unit};

use crate::args::{Format, ListArgs, Topic};
use crate::exit::{Edge, Exit};
use crate::files;
use crate::output::Output;
use crate::runs;
use crate::variants::VARIANTS;
use crate::words::faults::FAULTS;

/// One line of a list.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    about: String,
    /// What `--arm` takes; experiments only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arms: Vec<String>,
}

impl Line {
    fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self { name: name.into(), about: about.into(), arms: Vec::new() }
    }
}

/// Lists one topic, or all but the runs.
pub(crate) fn list(args: &ListArgs, output: &Output) -> Result<Exit, Edge> {
    let all = [
        Topic::Scenarios,
        Topic::Experiments,
        Topic::Faults,
        Topic::Invariants,
        Topic::Metrics,
        Topic::Variants,
    ];
    let topics = args.topic.as_ref().map_or(all.as_slice(), std::slice::from_ref);
    match (output.format, args.topic) {
        // The table of variants is data for the documentation page, so it is given whole.
        (Format::Json, Some(Topic::Variants)) => output.json(&VARIANTS)?,
        (Format::Json, Some(topic)) => output.json(&lines(topic)?)?,
        (Format::Json, None) => {
            let mut object = serde_json::Map::new();
            for topic in topics {
                let value = serde_json::to_value(lines(*topic)?)
                    .map_err(|error| Edge::internal("cannot write JSON").caused_by(error))?;
                object.insert(title(*topic).to_lowercase(), value);
            }
            output.json(&object)?;
        }
        (Format::Text, one) => {
            let blocks: Vec<String> = topics
                .iter()
                .map(|topic| block(*topic, one.is_none()))
                .collect::<Result<_, _>>()?;
            output.data(&blocks.join("\n"))?;
        }
    }
    Ok(Exit::Pass)
}

/// The lines of one topic, below its title where there are several.
fn block(topic: Topic, titled: bool) -> Result<String, Edge> {
    let lines = lines(topic)?;
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let (head, indent) =
        if titled { (format!("{}:\n", title(topic)), "  ") } else { (String::new(), "") };
    let lines = lines.iter().map(|line| {
        let arms = match line.arms.as_slice() {
            [] => String::new(),
            arms => format!(" (arms: {})", arms.join(", ")),
        };
        format!("{indent}{:width$}  {}{arms}\n", line.name, line.about)
    });
    Ok(std::iter::once(head).chain(lines).collect())
}

const fn title(topic: Topic) -> &'static str {
    match topic {
        Topic::Scenarios => "Scenarios",
        Topic::Experiments => "Experiments",
        Topic::Faults => "Faults",
        Topic::Invariants => "Invariants",
        Topic::Metrics => "Metrics",
        Topic::Variants => "Variants",
        Topic::Runs => "Runs",
    }
}

fn lines(topic: Topic) -> Result<Vec<Line>, Edge> {
    Ok(match topic {
        Topic::Scenarios => {
            files::scenarios()?.into_iter().map(|(name, about)| Line::new(name, about)).collect()
        }
        Topic::Experiments => {
            let experiments = files::experiments()?.into_iter();
            experiments.map(|(name, about, arms)| Line { name, about, arms }).collect()
        }
        Topic::Faults => FAULTS.iter().map(|fault| Line::new(fault.name, fault.does)).collect(),
        Topic::Invariants => invariant::ALL
            .iter()
            .map(|word| Line::new(word.id, format!("{}: {}", word.title, word.demands)))
            .collect(),
        Topic::Metrics => Metric::ALL
            .iter()
            .map(|metric| {
                let unit = match metric.unit() {
                    Unit::Time => "time",
                    Unit::Share => "share",
                    Unit::Count => "count",
                    Unit::Index => "number",
                };
                Line::new(metric.name(), format!("{unit:<7} {}", metric.about()))
            })
            .collect(),
        Topic::Variants => VARIANTS
            .iter()
            .map(|v| Line::new(v.name, format!("{} ({}, {})", v.does, v.place(), v.convicted_by)))
            .collect(),
        Topic::Runs => {
            runs::stored()?.into_iter().map(|run| Line::new(run.id, run.verdict)).collect()
        }
    })
}
