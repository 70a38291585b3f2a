//! What the chat system on containers costs above the backends it stands on, measured one after the other on one machine.
//!
//! `cargo bench --features containers --bench bare_backends -- RATE` first runs `messenger-18k` at RATE direct sends a second (1,000
//! without one) on the substrate `containers`. Its report says what the system asked of its backends: records a batch, rows a request,
//! items a script, and how many of each a second. Then fresh backends, started by the same recipes, are asked exactly that by a bare
//! client: no sockets, no sessions, no order, nothing remembered. The ratio is CPU time of everything (generator, nodes, backends) to CPU
//! time of the bare backends and their client, over a steady state of the same length after a warm-up of the same length. Beside it
//! stand the latencies of the bare calls: what the system's own can at best be. What no report counts is not asked: routes, leases, lists of
//! devices, snapshots; receipts go to the messages' topic. So the ratio holds the price of those too.
//!
//! With `alone` instead of a rate, it asks relay queues and history one after the other, in batches of the size that they are meant for,
//! and says what an item costs the server.
//!
//! It needs what a run on containers needs: an engine, the images, and a node image made from the binary of this build.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
mod alone;
mod bare;
mod drive;
mod set;
mod targets;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use storm_judge::Report;

use set::Backends;

/// Sends a second, unless the command line says another number.
const RATE: u32 = 1_000;
/// Warm-up of either side under load; of the system as its file has it.
const WARM_UP: Duration = Duration::from_secs(15);
/// What is measured of either side.
const STEADY: Duration = Duration::from_secs(15);

fn main() {
    // Cargo adds `--bench`.
    let asked = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if asked.as_deref() == Some("alone") {
        runtime.block_on(alone());
        return;
    }
    let rate = asked.map_or(RATE, |rate| rate.parse().expect("`alone`, or sends a second"));
    let folder = tempfile::tempdir().expect("a folder for the run");
    let report = whole(rate, &folder.path().join("run"));
    println!("whole         {rate} sends a second asked, verdict {}", report.verdict.name());
    for group in &report.cpu {
        println!("  {:<11} {:6.3} cores", group.group, group.cores);
    }
    for row in &report.batches {
        println!(
            "  {:<11} {:6.2} {}, {:.1} a second",
            row.backend, row.mean, row.unit, row.a_second
        );
    }
    let whole: f64 = report.cpu.iter().map(|group| group.cores).sum();
    println!("  together    {whole:6.3} cores");
    let asked = bare::Asked::of(&report).expect("the report says what each backend got");
    let bare = runtime.block_on(bare(&asked));
    println!("ratio         {:7.3}", whole / bare);
}

/// Asks bare backends the same, and answers the cores of all of it.
async fn bare(asked: &bare::Asked) -> f64 {
    let backends = Backends::start().await;
    let bare = bare::run(&backends, asked, WARM_UP, STEADY).await;
    backends.stop().await;
    println!("bare          the same of each backend");
    println!("  {:<11} {:6.3} cores", "client", bare.client);
    let sum: f64 = bare.backends.values().sum();
    println!("  {:<11} {sum:6.3} cores", "backends");
    for (backend, cores) in &bare.backends {
        println!("    {backend:<16} {cores:6.3}");
    }
    let together = bare.client + sum;
    println!("  together    {together:6.3} cores");
    for call in &bare.calls {
        println!(
            "  {:<11} {:6.1} calls a second, p50 {:.1} ms, p99 {:.1} ms, {} failed",
            call.what,
            call.a_second,
            call.p50.as_secs_f64() * 1e3,
            call.p99.as_secs_f64() * 1e3,
            call.failed
        );
    }
    together
}

/// Asks one backend at a time.
async fn alone() {
    let backends = Backends::start().await;
    let all = alone::run(&backends).await;
    backends.stop().await;
    println!("alone         one backend at a time");
    for alone::Alone { calls, server_us, script_us } in all {
        let script = script_us.map(|us| format!(", scripts {us:.1} us")).unwrap_or_default();
        println!(
            "  {:<11} {:6.0} items a second, {server_us:.1} us of the server's CPU an item{script}, {} failed",
            calls.what, calls.items_a_second, calls.failed
        );
    }
}

/// Runs the system, by the binary of this build, and reads its report.
fn whole(rate: u32, out: &Path) -> Report {
    let status = Command::new(env!("CARGO_BIN_EXE_chatstorm"))
        .args(["run", "messenger-18k", "--substrate", "containers", "--quiet"])
        .args(["--set", &format!("streams.chat.rate={rate}/s")])
        .args(["--for", &format!("{}s", STEADY.as_secs())])
        .arg("--out")
        .arg(out)
        .stdout(Stdio::null())
        .status()
        .expect("the binary of this build starts");
    let report = std::fs::read(out.join("report.json"));
    let report =
        report.unwrap_or_else(|error| panic!("no report ({error}): the run said {status}"));
    serde_json::from_slice(&report).expect("a report")
}

/// CPU time of this process.
fn process_cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or(0),
        u32::try_from(spent.tv_nsec).unwrap_or(0),
    )
}
