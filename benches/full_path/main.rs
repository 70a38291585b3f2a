//! What the chat system costs above the framing of its messages, measured in one run.
//!
//! `cargo bench --bench full_path` first runs a WebSocket relay that stores nothing, then the load of `messenger-18k` against the
//! whole system, generator and judge included. Both carry one message to one device with 200 bytes of body, so that the frames
//! are the same ones. A figure is CPU time of the whole process a message, and its limit the messages a second that the cores of
//! this machine could carry at that price. The ratio of the limits is to be at least 0.2.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
mod framing;

use std::time::Duration;

use chatstorm::args::{Color, FileArgs, Format, Global, SubstrateName};
use chatstorm::output::Output;
use chatstorm::run::Wish;
use chatstorm::signals::Signals;
use rustix::time::{ClockId, clock_gettime};
use storm_judge::Report;
use tokio_util::sync::CancellationToken;

/// Devices on both sides of the comparison: as many as `messenger-18k` has users.
const SOCKETS: usize = 3_000;
/// How long the relay is measured.
const FRAMING: Duration = Duration::from_secs(10);
/// How long the system is measured.
const STEADY: &str = "20s";
/// What makes a send of `messenger-18k` one message to one device that is there: the frames of the relay.
const CHANGES: [&str; 4] = [
    "population.devices={1: 1.0}",
    "population.online=1.0",
    "sessions.churn=0/min",
    "streams.chat.payload={const: 200B}",
];
/// The least share of the framing-only limit.
const RATIO_MIN: f64 = 0.2;

fn main() {
    chatstorm::preflight::raise_descriptors().expect("descriptors for both ends of the sockets");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as f64;
    let limit = |us_a_message: f64| cores * 1e6 / us_a_message;

    let relay = framing::run(SOCKETS, FRAMING);
    let framing_us = relay.cpu.as_secs_f64() * 1e6 / relay.messages.max(1) as f64;
    let rate = relay.messages as f64 / relay.wall.as_secs_f64();
    println!(
        "framing only  {framing_us:7.2} us a message, limit {:8.0} a second ({rate:.0} measured)",
        limit(framing_us)
    );

    let report = full();
    for group in &report.cpu {
        println!(
            "  {:<11} {:7.2} us a message, busiest thread {}",
            group.group, group.us_a_send, group.busiest
        );
    }
    let full_us: f64 = report.cpu.iter().map(|group| group.us_a_send).sum();
    println!(
        "full path     {full_us:7.2} us a message, limit {:8.0} a second, verdict {}",
        limit(full_us),
        report.verdict.name()
    );
    println!("ratio         {:7.3} (at least {RATIO_MIN})", framing_us / full_us);
}

/// Runs the headline load against the whole system, in this process.
fn full() -> Report {
    let output =
        Output::new(&Global { format: Format::Text, quiet: true, verbose: 0, color: Color::Never });
    let file = FileArgs {
        file: "messenger-18k".to_owned(),
        scale: None,
        sets: CHANGES.map(str::to_owned).to_vec(),
        seed: None,
        steady: Some(STEADY.to_owned()),
        arm: None,
        substrate: SubstrateName::Embedded,
    };
    let resolved = chatstorm::files::resolve(&file, &output)
        .expect("the shipped scenario takes these changes");
    let folder = tempfile::tempdir().expect("a folder for the run");
    let wish = Wish {
        resolved: &resolved,
        substrate: storm_experiment::file::Substrate::Embedded,
        shards: None,
        out: Some(folder.path().join("run")),
        command: "cargo bench --bench full_path".to_owned(),
    };
    // Nobody stops a benchmark gracefully; a signal just ends it.
    let signals = Signals { stop: CancellationToken::new(), leave: CancellationToken::new() };
    chatstorm::run::judged(&wish, &output, &signals).expect("the system runs")
}

/// CPU time of this process.
fn process_cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or(0),
        u32::try_from(spent.tv_nsec).unwrap_or(0),
    )
}
