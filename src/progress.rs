//! The status of a run: one block redrawn each second on a terminal, `key=value` lines off it.
use std::fmt::{self, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Off a terminal, a status line is written this often.
const LINE_EACH: Duration = Duration::from_secs(10);
/// Off a terminal, after [`LONG_RUN`], a status line is written this often.
const LINE_EACH_LONG: Duration = Duration::from_mins(1);
/// From here on a run is long.
const LONG_RUN: Duration = Duration::from_mins(10);

/// What one node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeMark {
    /// Serves.
    Running,
    /// Paused or draining.
    Waiting,
    /// Killed, vanished or stopped.
    Down,
}

/// One second of a run.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Time since the run began.
    pub run: Duration,
    /// The phase, or the window of an experiment.
    pub phase: String,
    /// Time in the phase.
    pub elapsed: Duration,
    /// Length of the phase, or its limit.
    pub length: Option<Duration>,
    /// Sends that were due in the last second.
    pub offered: u64,
    /// Sends written in the last second.
    pub written: u64,
    /// Deliveries surfaced in the last second.
    pub delivered: u64,
    /// 99th percentile of the delivered response time in the last second.
    pub p99: Option<Duration>,
    /// 99th percentile of how late the generator fired in the last second.
    pub lag: Option<Duration>,
    /// Accepted and not yet delivered.
    pub owed: u64,
    /// Every node in order.
    pub nodes: Vec<NodeMark>,
    /// Gates met so far, of how many.
    pub gates: Option<(usize, usize)>,
}

/// Draws the status of one run on stderr.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    bar: Option<ProgressBar>,
    output: Output,
    head: String,
    next_line: Duration,
}

impl Progress {
    /// Begins. `head` is what identifies the run: name, substrate, seed, run id, and every setting that differs from its
    /// default.
    pub fn start(output: &Output, head: &[(&str, String)]) -> Self {
        let bar = (output.terminal && !output.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template("{msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        let progress = Self {
            quiet: output.quiet,
            head: head
                .iter()
                .map(|(key, value)| format!("{key} {value}"))
                .collect::<Vec<_>>()
                .join("  "),
            bar,
            output: output.clone(),
            next_line: Duration::ZERO,
        };
        if progress.bar.is_none() {
            progress.line("run", head);
        }
        progress
    }

    /// Shows one second. Off a terminal most of them are left out.
    pub fn status(&mut self, status: &Status) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}\n{}", self.head, Screen(status)));
        } else if status.run >= self.next_line {
            self.next_line =
                status.run + if status.run < LONG_RUN { LINE_EACH } else { LINE_EACH_LONG };
            self.line("status", &fields(status));
        }
    }

    /// Shows something that happened: a phase change, a fault, a gate that changed its state.
    pub fn event(&self, what: &str, fields: &[(&str, String)]) {
        if let Some(bar) = &self.bar {
            bar.println(key_value(what, fields));
        } else {
            self.line(what, fields);
        }
    }

    /// Ends: the block is removed, and the last words are written: verdict, report, the command that repeats the run.
    pub fn finish(self, fields: &[(&str, String)]) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.line("end", fields);
    }

    fn line(&self, what: &str, fields: &[(&str, String)]) {
        if !self.quiet {
            self.output.talk(&key_value(what, fields));
        }
    }
}

fn key_value(what: &str, fields: &[(&str, String)]) -> String {
    let mut line = what.to_owned();
    for (key, value) in fields {
        let quoted = value.is_empty() || value.contains([' ', '"', '=']);
        let written =
            if quoted { write!(line, " {key}={value:?}") } else { write!(line, " {key}={value}") };
        written.expect("writing to a string cannot fail");
    }
    line
}

fn fields(status: &Status) -> Vec<(&'static str, String)> {
    let running = status.nodes.iter().filter(|mark| **mark == NodeMark::Running).count();
    let mut fields = vec![
        ("phase", status.phase.clone()),
        ("at", seconds(status.elapsed)),
        ("offered", status.offered.to_string()),
        ("written", status.written.to_string()),
        ("delivered", status.delivered.to_string()),
    ];
    if let Some(p99) = status.p99 {
        fields.push(("p99_ms", millis(p99)));
    }
    if let Some(lag) = status.lag {
        fields.push(("lag_ms", millis(lag)));
    }
    fields.push(("owed", status.owed.to_string()));
    fields.push(("nodes", format!("{running}/{}", status.nodes.len())));
    if let Some((met, all)) = status.gates {
        fields.push(("gates", format!("{met}/{all}")));
    }
    fields
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// The block drawn on a terminal.
struct Screen<'a>(&'a Status);

impl fmt::Display for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        write!(f, "{}  {}", status.phase, clock(status.elapsed))?;
        if let Some(length) = status.length {
            write!(f, "/{}", clock(length))?;
        }
        write!(
            f,
            "  offered {}  written {}  delivered {}",
            short(status.offered),
            short(status.written),
            short(status.delivered)
        )?;
        if let Some(p99) = status.p99 {
            write!(f, "  p99 {}ms", millis(p99))?;
        }
        if let Some(lag) = status.lag {
            write!(f, "  lag {}ms", millis(lag))?;
        }
        let running = status.nodes.iter().filter(|mark| **mark == NodeMark::Running).count();
        write!(f, "  owed {}  nodes {running}/{} ", short(status.owed), status.nodes.len())?;
        for mark in &status.nodes {
            f.write_char(match mark {
                NodeMark::Running => '●',
                NodeMark::Waiting => '◐',
                NodeMark::Down => '○',
            })?;
        }
        if let Some((met, all)) = status.gates {
            write!(f, "  gates {met}/{all}")?;
        }
        Ok(())
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

fn short(n: u64) -> String {
    match n {
        0..=999 => n.to_string(),
        1_000..=999_999 => format!("{}.{}k", n / 1_000, n % 1_000 / 100),
        _ => format!("{}.{}M", n / 1_000_000, n % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            run: Duration::from_secs(80),
            phase: "steady".into(),
            elapsed: Duration::from_secs(72),
            length: Some(Duration::from_mins(2)),
            offered: 18_000,
            written: 18_000,
            delivered: 23_412,
            p99: Some(Duration::from_millis(61)),
            lag: Some(Duration::from_micros(400)),
            owed: 1_204,
            nodes: vec![NodeMark::Running, NodeMark::Waiting, NodeMark::Down],
            gates: Some((6, 6)),
        }
    }

    #[test]
    fn block_is_readable_without_its_symbols() {
        assert_eq!(
            Screen(&status()).to_string(),
            "steady  1m12s/2m00s  offered 18.0k  written 18.0k  delivered 23.4k  p99 61.0ms  lag 0.4ms  owed 1.2k  nodes 1/3 ●◐○  gates 6/6"
        );
    }

    #[test]
    fn line_off_a_terminal_is_key_value() {
        assert_eq!(
            key_value("status", &fields(&status())),
            "status phase=steady at=72s offered=18000 written=18000 delivered=23412 p99_ms=61.0 lag_ms=0.4 owed=1204 nodes=1/3 gates=6/6"
        );
        assert_eq!(key_value("fault", &[("why", "a b".into())]), "fault why=\"a b\"");
    }
}
