//! Memory of an idle device with its socket, client end only: the server runs in a process of its own.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no figure")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use chat_client::Policies;
use chat_protocol::limits::Timers;
use storm_load::Stats;
use support::{Stub, until};

const SOCKETS: u32 = 4_000;

fn main() {
    if std::env::args().any(|argument| argument == "--serve") {
        let stub = Stub::start(false);
        println!("{}", stub.address);
        std::io::stdout().flush().unwrap();
        // The server ends when its parent closes the pipe.
        let mut line = String::new();
        drop(std::io::stdin().read_line(&mut line));
        stub.stop();
        return;
    }
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("--serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let text = format!(
        "format: 1\nname: t\nseed: 3\n\
         population: {{users: {SOCKETS}, community: 500, online: 1.0, devices: {{1: 1.0}}}}\n\
         sessions: {{connect: 2k/s}}\n\
         streams: {{chat: {{rate: 1/s, deadline: 10s, payload: {{const: 48B}}}}}}\n\
         phases: [{{name: steady, role: steady, for: 10s, load: {{hold: 1.0}}}}, \
         {{name: drain, role: drain, until: settled, limit: 10s}}]\n"
    );
    let address = address.trim().parse().unwrap();
    let (engine, _) = support::engine(address, &text, 1, &Timers::DEFAULT, Policies::default());
    engine.provision();
    until(&engine, "provisioned", |stats| stats.provisioned >= u64::from(SOCKETS));
    let before = resident();
    engine.connect();
    until(&engine, "connected (are there descriptors for all sockets?)", Stats::all_connected);
    settle();
    let after = resident();
    let kib = after.saturating_sub(before) as f64 / 1_024.0 / f64::from(SOCKETS);
    let bytes = after.saturating_sub(before) / u64::from(SOCKETS);
    println!(
        "idle socket, client end: {bytes} bytes ({kib:.2} KiB, bound 8) over {SOCKETS} sockets"
    );
    drop(engine.stop());
    drop(server.stdin.take());
    server.wait().unwrap();
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// What connecting left behind is freed by now.
#[expect(clippy::disallowed_methods, reason = "the main thread waits for others")]
fn settle() {
    std::thread::sleep(Duration::from_millis(500));
}
