//! What can be typed. Nothing is looked up or checked here beyond its form; [`crate::verb`] does that.
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use storm_experiment::file::Substrate;

/// Load testing and chaos engineering for a complete simulated chat system.
#[derive(Debug, Parser)]
#[command(
    name = "chatstorm",
    version,
    about = "Load testing and chaos engineering for a complete simulated chat system, with a verdict that can be trusted.",
    before_help = "Example: chatstorm run gateway-kill --scale ci",
    after_help = AFTER_HELP,
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Args {
    /// What every verb knows.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0 pass                3 cannot start        12 inconclusive
  1 internal error     10 gate missed         13 stopped
  2 usage, bad file    11 invariant broken
  `chatstorm explain 11` says more, also about metrics, invariants, faults and terms.

Status line of a run:
  offered    sends due in the last second         p99    delivered, from the intended start
  written    sends written to sockets             lag    how late the generator fired, p99
  delivered  deliveries surfaced on devices       owed   accepted and not yet delivered
  nodes      running of all: ● runs, ◐ paused or draining, ○ down
  gates      met so far, of all";

/// What every verb knows.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Form of the data on stdout.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, env = "CHATSTORM_FORMAT")]
    #[arg(value_name = "text|json", hide_possible_values = true, hide_env_values = true)]
    pub format: Format,
    /// Only data and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log more on stderr; twice for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colour; `auto` obeys `NO_COLOR`
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, env = "CHATSTORM_COLOR")]
    #[arg(value_name = "auto|always|never", hide_possible_values = true, hide_env_values = true)]
    pub color: Color,
}

/// Form of the data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// When text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a scenario or an experiment, judge it, write the reports.
    #[command(before_help = "Example: chatstorm run messenger-18k --set streams.chat.rate=5.4k/s")]
    Run(RunArgs),
    /// Show what `run` would do, and start nothing.
    #[command(before_help = "Example: chatstorm plan gateway-kill --scale ci")]
    Plan(PlanArgs),
    /// Start the system, with a device that answers, and keep it up until Ctrl-C.
    Up,
    /// Judge and draw stored runs again; nothing is run.
    #[command(before_help = "Example: chatstorm report latest")]
    Report(ReportArgs),
    /// A guided gateway kill of two minutes at 500 messages a second.
    Demo(DemoArgs),
    /// What is there: scenarios, experiments, faults, invariants, metrics, variants, stored runs.
    #[command(before_help = "Example: chatstorm list experiments")]
    List(ListArgs),
    /// Explain a metric, term, fault, invariant, variant, verdict reason or exit code.
    #[command(before_help = "Example: chatstorm explain M9")]
    Explain(ExplainArgs),
    /// Print a JSON Schema.
    #[command(before_help = "Example: chatstorm schema experiment")]
    Schema(SchemaArgs),
    /// List containers and networks that runs left behind; `--yes` removes those whose run is over.
    #[cfg(feature = "containers")]
    Sweep(SweepArgs),
    /// Run one chat node of a system whose backends are somewhere else; SIGTERM drains it. `run --substrate containers` starts these.
    #[cfg(feature = "containers")]
    #[command(before_help = "Example: chatstorm node --role gateway --spec node.json")]
    Node(NodeArgs),
    /// Check this machine: cores, descriptors, ports, loopback, wake-up lag, disk.
    Doctor,
}

/// A file and what is changed in it.
#[derive(Clone, Debug, ClapArgs)]
pub struct FileArgs {
    /// A path to a YAML file, or a name of the catalog (`chatstorm list`).
    pub file: String,
    /// Multiply rates and population, for example 0.3, or the preset `ci`: short timers, 500 sends a second, 300 in containers.
    #[arg(long, value_name = "FACTOR|ci", help_heading = "What is run")]
    pub scale: Option<String>,
    /// Override one leaf of the file; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE", help_heading = "What is run")]
    pub sets: Vec<String>,
    /// The number all randomness derives from; the file's own by default.
    #[arg(long, value_name = "N", help_heading = "What is run")]
    pub seed: Option<u64>,
    /// Length of the steady phase, for example 20s.
    #[arg(long = "for", value_name = "TIME", help_heading = "What is run")]
    pub steady: Option<String>,
    /// One arm of an experiment, by name.
    #[arg(long, value_name = "NAME", help_heading = "What is run")]
    pub arm: Option<String>,
    /// Where the system stands: in this process, or in containers, with Kafka, Redis, Cassandra and an S3 server.
    #[arg(long, value_enum, default_value_t = SubstrateName::Embedded, value_name = "NAME", help_heading = "What is run")]
    pub substrate: SubstrateName,
}

/// Arguments of `run`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RunArgs {
    /// What is run.
    #[command(flatten)]
    pub file: FileArgs,
    /// Generator shards; one for every four cores by default.
    #[arg(long, value_name = "N", help_heading = "How it is run")]
    pub shards: Option<NonZeroUsize>,
    /// Folder of the run; `target/chatstorm/runs/<run id>` by default.
    #[arg(long, value_name = "FOLDER", help_heading = "How it is run")]
    pub out: Option<PathBuf>,
}

/// A substrate as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SubstrateName {
    /// In this process.
    Embedded,
    /// In containers: nodes and backends.
    Containers,
}

impl From<SubstrateName> for Substrate {
    fn from(name: SubstrateName) -> Self {
        match name {
            SubstrateName::Embedded => Self::Embedded,
            SubstrateName::Containers => Self::Containers,
        }
    }
}

impl RunArgs {
    /// The command that repeats this run with the seed it had, in a folder of its own.
    pub fn repeat(&self, seed: u64) -> String {
        let file = &self.file;
        let mut words = vec!["chatstorm".to_owned(), "run".to_owned(), quoted(&file.file)];
        for (flag, value) in
            [("--scale", &file.scale), ("--for", &file.steady), ("--arm", &file.arm)]
        {
            words.extend(value.iter().flat_map(|value| [flag.to_owned(), quoted(value)]));
        }
        words.extend(file.sets.iter().flat_map(|set| ["--set".to_owned(), quoted(set)]));
        words.extend(["--seed".to_owned(), seed.to_string()]);
        if file.substrate == SubstrateName::Containers {
            words.extend(["--substrate".to_owned(), "containers".to_owned()]);
        }
        words.extend(self.shards.iter().flat_map(|n| ["--shards".to_owned(), n.to_string()]));
        words.join(" ")
    }
}

/// A word as a shell takes it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Arguments of `sweep`.
#[cfg(feature = "containers")]
#[derive(Clone, Debug, ClapArgs)]
pub struct SweepArgs {
    /// Remove what is listed.
    #[arg(long)]
    pub yes: bool,
    /// Wait for the end of standard input, then remove everything of this run: a run's own protection against its sudden end.
    #[arg(long, value_name = "RUN", hide = true)]
    pub deadman: Option<String>,
}

/// Arguments of `node`.
#[cfg(feature = "containers")]
#[derive(Clone, Debug, ClapArgs)]
pub struct NodeArgs {
    /// What it hosts: `gateway` or `balancer` alone, or any of `sessions`, `messaging`, `relay`, `history`.
    #[arg(long = "role", value_name = "ROLE", num_args = 1.., required = true)]
    pub roles: Vec<String>,
    /// A JSON file: its name and ports, the system's settings, where the backends are.
    #[arg(long, value_name = "FILE")]
    pub spec: PathBuf,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, ClapArgs)]
pub struct PlanArgs {
    /// What is planned.
    #[command(flatten)]
    pub file: FileArgs,
}

/// Arguments of `demo`.
#[derive(Clone, Debug, ClapArgs)]
pub struct DemoArgs {
    /// The number all randomness derives from.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Arguments of `report`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ReportArgs {
    /// Run folders, run ids, or `latest`.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
}

/// Arguments of `list`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ListArgs {
    /// One topic; all but the runs when left out.
    #[arg(value_enum)]
    pub topic: Option<Topic>,
}

/// What `list` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// Shipped scenarios.
    Scenarios,
    /// Shipped experiments.
    Experiments,
    /// Faults an experiment can use.
    Faults,
    /// What may never break, and what makes a run count.
    Invariants,
    /// Series a gate can name.
    Metrics,
    /// Known-bad variants.
    Variants,
    /// Stored runs.
    Runs,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ExplainArgs {
    /// The word: `11`, `M9`, `message.delivered`, `kill`, `no-final-phase`, `fold`.
    #[arg(required = true, value_name = "WORD")]
    pub words: Vec<String>,
}

/// Arguments of `schema`.
#[derive(Clone, Debug, ClapArgs)]
pub struct SchemaArgs {
    /// Of what.
    #[arg(value_enum)]
    pub of: SchemaOf,
}

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Scenario files.
    Scenario,
    /// Experiment files.
    Experiment,
    /// `report.json`.
    Report,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn command_that_repeats_a_run_reads_back_as_the_same_arguments() {
        let typed = [
            "run",
            "gateway-kill",
            "--scale",
            "ci",
            "--set",
            "system.variants=[sessions.no_lease]",
            "--arm",
            "silent",
        ];
        let Command::Run(run) =
            Args::try_parse_from([&["chatstorm"], &typed[..]].concat()).unwrap().command
        else {
            unreachable!("`run` was typed")
        };
        assert_eq!(
            run.repeat(7),
            "chatstorm run gateway-kill --scale ci --arm silent --set 'system.variants=[sessions.no_lease]' --seed 7"
        );
    }
}
