//! `doctor`: can this machine carry a run? One line a check, each with its cure.
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::args::Format;
use crate::exit::{Edge, Exit};
use crate::output::Output;
use crate::preflight::{self, DISK_NEEDED};

/// How long the wake-up lag is watched.
const WATCH: Duration = Duration::from_secs(2);
/// The generator's scheduler sleeps at most this long.
const NAP: Duration = Duration::from_millis(1);
/// Descriptors of `messenger-18k`: both ends of every socket, nodes and files.
const DESCRIPTORS_WANTED: u64 = 16_384;
/// Descriptors of any run at `--scale ci`.
const DESCRIPTORS_NEEDED: u64 = 4_096;
/// The listeners of the default system: balancer, gateways, service nodes.
const PORTS: [u16; 6] = [7_080, 7_101, 7_102, 7_103, 7_201, 7_202];
/// Free disk for an hour of records.
const DISK_WANTED: u64 = 4 << 30;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Missing,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: String) -> Self {
        Self { name, state: State::Ok, found, cure: None }
    }

    fn text(&self) -> String {
        let cure =
            self.cure.as_ref().map(|cure| format!("{:22}cure: {cure}\n", "")).unwrap_or_default();
        format!("{:<8} {:<12} {}\n{cure}", self.state.word(), self.name, self.found)
    }

    fn not_ok(name: &'static str, state: State, found: String, cure: impl Into<String>) -> Self {
        Self { name, state, found, cure: Some(cure.into()) }
    }
}

/// Runs all checks. Something missing is exit 3, warnings are not.
pub(crate) fn doctor(output: &Output) -> Result<Exit, Edge> {
    let checks = [
        cores(),
        descriptors(),
        ports(),
        loopback(),
        wake_up_lag(),
        disk(Path::new(".")),
        #[cfg(feature = "containers")]
        engine(),
    ];
    match output.format {
        Format::Json => output.json(&checks)?,
        Format::Text => {
            let lines: Vec<String> = checks.iter().map(Check::text).collect();
            output.data(&lines.concat())?;
        }
    }
    let missing = checks.iter().any(|check| check.state == State::Missing);
    Ok(if missing { Exit::NoStart } else { Exit::Pass })
}

fn cores() -> Check {
    let name = "cores";
    match thread::available_parallelism().map_or(1, usize::from) {
        1 => Check::not_ok(
            name,
            State::Warning,
            "1".into(),
            "generator and system share it; use `--scale ci`, or two cores",
        ),
        n => Check::ok(name, n.to_string()),
    }
}

fn descriptors() -> Check {
    let name = "descriptors";
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let found = format!("{} now, at most {}", shown(limit.current), shown(limit.maximum));
    let cure = format!(
        "raise the hard limit: `ulimit -Hn {DESCRIPTORS_WANTED}`, or `nofile` in the limits of the login or container"
    );
    if hard < DESCRIPTORS_NEEDED {
        Check::not_ok(name, State::Missing, found, cure)
    } else if hard < DESCRIPTORS_WANTED {
        Check::not_ok(name, State::Warning, found, cure)
    } else {
        Check::ok(name, found)
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".into(), |n| n.to_string())
}

fn ports() -> Check {
    let name = "ports";
    let trouble = PORTS.iter().find_map(|port| {
        chat_testbed::expect_port(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).err()
    });
    match trouble {
        None => {
            let (first, last) = (PORTS[0], PORTS[PORTS.len() - 1]);
            Check::ok(name, format!("{} free on 127.0.0.1, {first} to {last}", PORTS.len()))
        }
        Some(trouble) => Check::not_ok(name, State::Missing, trouble.to_string(), trouble.cure()),
    }
}

fn loopback() -> Check {
    let name = "loopback";
    let aliases = (2..=4_u8)
        .filter(|host| TcpListener::bind((Ipv4Addr::new(127, 0, 0, *host), 0)).is_ok())
        .count();
    if aliases == 3 {
        Check::ok(name, "127.0.0.2 to 127.0.0.4 can be bound".into())
    } else {
        let cure =
            "above 20,000 sockets a run needs addresses beside 127.0.0.1: add loopback aliases";
        Check::not_ok(name, State::Warning, format!("{aliases} of 3 aliases can be bound"), cure)
    }
}

fn wake_up_lag() -> Check {
    let name = "wake-up lag";
    let naps = usize::try_from(WATCH.as_millis() / NAP.as_millis()).unwrap_or(usize::MAX);
    let begin = now_ns();
    let mut lags = Vec::with_capacity(naps);
    while Duration::from_nanos(now_ns() - begin) < WATCH && lags.len() < naps {
        let before = now_ns();
        thread::park_timeout(NAP);
        lags.push(
            (now_ns() - before).saturating_sub(u64::try_from(NAP.as_nanos()).unwrap_or(u64::MAX)),
        );
    }
    lags.sort_unstable();
    let p99_us = lags.get(lags.len() * 99 / 100).copied().unwrap_or(0) / 1_000;
    let found = format!(
        "p99 {}.{} ms over {} naps of 1 ms",
        p99_us / 1_000,
        p99_us % 1_000 / 100,
        lags.len()
    );
    if p99_us <= 2_000 {
        Check::ok(name, found)
    } else {
        let cure = "something else uses the cores; a run on this machine may end inconclusive (`generator-saturated`)";
        Check::not_ok(name, State::Warning, found, cure)
    }
}

fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn disk(folder: &Path) -> Check {
    let name = "disk";
    let cure = "free some, or give another folder with `--out`";
    match preflight::free_bytes(folder) {
        Ok(free) => {
            let found =
                format!("{}.{} GiB free here", free >> 30, ((free & ((1 << 30) - 1)) * 10) >> 30);
            if free < DISK_NEEDED {
                Check::not_ok(name, State::Missing, found, cure)
            } else if free < DISK_WANTED {
                Check::not_ok(name, State::Warning, found, cure)
            } else {
                Check::ok(name, found)
            }
        }
        Err(error) => {
            Check::not_ok(name, State::Warning, format!("free space cannot be read: {error}"), cure)
        }
    }
}

/// The container engine, its images, and what runs left behind. Only `--substrate containers` needs them.
#[cfg(feature = "containers")]
fn engine() -> Check {
    use chat_testbed::containers::{engine::Engine, preflight, preflight_nodes};
    let found = crate::containers::on_engine(async || {
        let version = Engine::connect().await?.version().await?;
        let images = crate::containers::images();
        preflight(&images, chat_testbed::BASE_PORT).await?;
        preflight_nodes(&images).await.map(|()| version)
    });
    let name = "containers";
    match found {
        Ok((version, api)) => Check::ok(name, format!("engine {version}, API {api}, all images")),
        Err(edge) => {
            let (message, cure) = edge.into_words();
            Check::not_ok(name, State::Warning, message, cure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_is_missing_and_names_the_cure() {
        let check =
            Check::not_ok("ports", State::Missing, "taken".into(), "end what listens there");
        assert_eq!(check.state.word(), "missing");
        assert!(check.cure.is_some());
    }

    #[test]
    fn disk_of_an_existing_folder_is_read() {
        assert!(disk(Path::new("/")).found.contains("GiB"));
    }
}
