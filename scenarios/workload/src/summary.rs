//! What `chatstorm plan` prints: rates, exact counts, sockets, estimates.

use std::fmt::Write as _;

use crate::plan::{End, Plan};
use crate::units::MILLION;

/// Descriptors of a process that no socket accounts for: log, stores, listeners, reports.
const DESCRIPTORS_BASE: u64 = 256;
/// CPU a message over all components that the system is built for, in microseconds.
const CPU_US_A_MESSAGE: u64 = 50;
/// Memory of both ends of an idle socket in one process, in KiB.
const SOCKET_KIB: u64 = 16;
/// Bytes of one in-flight record of the generator.
const IN_FLIGHT_BYTES: u64 = 40;

/// Figures derived from a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Estimates {
    /// Sends a second at load 1.0.
    pub sends_per_s: u64,
    /// Deliveries to devices a second at load 1.0, other devices of the sender included, as far as the plan has them online.
    pub deliveries_per_s: u64,
    /// All devices.
    pub devices: u64,
    /// Devices connected by plan.
    pub sockets: u64,
    /// File descriptors: both ends of every socket live in one process, a balancer doubles them.
    pub descriptors: u64,
    /// Memory of the sockets in KiB.
    pub socket_kib: u64,
    /// Memory of the generator's in-flight records in bytes.
    pub in_flight_bytes: u64,
    /// Cores needed at load 1.0, in thousandths.
    pub cores_milli: u64,
}

impl Plan {
    /// The figures behind the summary.
    pub fn estimates(&self) -> Estimates {
        let people = self.population();
        let rate: u64 = self.streams.iter().map(|s| s.rate.0).sum::<u64>() / MILLION;
        let sockets = u64::from(people.online_devices());
        let devices = u64::from(people.devices());
        let users = u64::from(people.users()).max(1);
        // A send reaches the devices of its recipient and the other devices of its sender.
        let per_send_milli = sockets * 1000 / users + (devices * 1000 / users).saturating_sub(1000);
        let links = sockets * (1 + u64::from(self.system.balancers));
        let in_flight: u64 = self
            .streams
            .iter()
            .map(|s| {
                s.rate.count_in(s.deadline).next_power_of_two().saturating_mul(IN_FLIGHT_BYTES)
            })
            .sum();
        Estimates {
            sends_per_s: rate,
            deliveries_per_s: rate * per_send_milli / 1000,
            devices,
            sockets,
            descriptors: DESCRIPTORS_BASE + 2 * links,
            socket_kib: links * SOCKET_KIB,
            in_flight_bytes: in_flight,
            cores_milli: rate * CPU_US_A_MESSAGE / 1000,
        }
    }

    /// The plan in words, one fact a line, for `chatstorm plan`.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        self.write_summary(&mut out).expect("writing to a string cannot fail");
        out
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let e = self.estimates();
        writeln!(
            out,
            "{}  seed {}  scale {}  plan {}",
            self.name,
            self.seed,
            self.scale,
            self.hash()
        )?;
        if !self.about.is_empty() {
            writeln!(out, "  {}", self.about)?;
        }
        let services: Vec<String> =
            self.system.service_nodes().into_iter().map(|n| n.name).collect();
        writeln!(out, "system")?;
        writeln!(
            out,
            "  nodes        {}",
            [self.system.balancer_names(), self.system.gateway_names(), services]
                .concat()
                .join(" ")
        )?;
        if !self.system.variants.is_empty() {
            writeln!(out, "  variants     {}", self.system.variants.join(" "))?;
        }
        let people = self.population();
        writeln!(out, "population")?;
        writeln!(
            out,
            "  users        {} in {} communities, {} planned offline until drain",
            people.users(),
            people.communities(),
            people.users() as usize - people.online_users().len()
        )?;
        writeln!(out, "  devices      {}, {} connected by plan", e.devices, e.sockets)?;
        writeln!(out, "load")?;
        for stream in &self.streams {
            writeln!(
                out,
                "  {:<12} {} {:?}, deadline {}, {} numbers in all",
                stream.name,
                stream.rate,
                stream.arrival,
                stream.deadline,
                self.numbers_of(self.stream_ix(&stream.name))
            )?;
        }
        writeln!(
            out,
            "  sends        {}/s at load 1.0, about {} deliveries/s",
            e.sends_per_s, e.deliveries_per_s
        )?;
        writeln!(out, "phases")?;
        for phase in &self.phases {
            let length = match phase.end {
                End::After(len) => format!("for {len}"),
                End::Until { condition, limit } => {
                    format!("until {}, at most {limit}", format!("{condition:?}").to_lowercase())
                }
            };
            writeln!(
                out,
                "  {:<12} {:<8} {length:<32} {} sends",
                phase.name,
                phase.window.name(),
                phase.count()
            )?;
        }
        writeln!(out, "gates")?;
        for gate in &self.gates {
            let mut rule = String::new();
            if let Some(min) = gate.min {
                write!(rule, ">= {min}")?;
            }
            if let Some(max) = gate.max {
                write!(rule, "<= {max}")?;
            }
            if let (Some(factor), Some(baseline)) = (gate.max_factor, &gate.baseline) {
                write!(rule, "<= {factor} x {baseline}")?;
            }
            writeln!(
                out,
                "  {:<12} {} {} {rule} over {}",
                gate.name,
                gate.metric,
                gate.stat.name(),
                gate.over()
            )?;
        }
        writeln!(out, "estimates")?;
        writeln!(
            out,
            "  sockets      {}, {} descriptors, {} MiB",
            e.sockets,
            e.descriptors,
            e.socket_kib / 1024
        )?;
        writeln!(out, "  in flight    {} MB of records", e.in_flight_bytes / 1_000_000)?;
        writeln!(
            out,
            "  processor    {}.{} cores at {CPU_US_A_MESSAGE} us a message",
            e.cores_milli / 1000,
            e.cores_milli % 1000 / 100
        )
    }

    fn stream_ix(&self, name: &str) -> u16 {
        let ix = self.streams.iter().position(|s| s.name == name).unwrap_or(0);
        u16::try_from(ix).unwrap_or(u16::MAX)
    }
}
