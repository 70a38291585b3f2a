//! What a system in containers will take, from what such systems took: figures of a two-core host and three log partitions, read from
//! reports of runs and from `docker stats` under load. A balancer is taken for a gateway: none was measured.
use std::fmt::Write as _;

use serde::Serialize;
use storm_experiment::file::ResolvedExperiment;
use storm_workload::Plan;

/// Containers of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// What they are.
    pub name: &'static str,
    /// How many.
    pub count: u32,
    /// Memory of each under load, MiB.
    pub memory_mib: u32,
}

/// What a system in containers will take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Its containers.
    pub containers: Vec<Kind>,
    /// Memory of all, MiB.
    pub memory_mib: u32,
    /// Cores of the backends at the plan's rate, in thousandths.
    pub backends_milli: u64,
    /// Cores of the chat nodes, in thousandths.
    pub nodes_milli: u64,
    /// Cores of the load generator, in thousandths.
    pub generator_milli: u64,
    /// Whether the rate is within those that were measured; beyond them the last slope goes on.
    pub measured: bool,
    /// Seconds from the start of the first container until devices connect.
    pub start_s: u32,
}

/// Thousandths of a core by sends a second, of backends, nodes and generator: one run at 5, the medians of 57 runs at 300 and of 21 at
/// 500. Brokers and Cassandra pay for batches, so a low rate costs nearly what a high one does.
const CORES: [(u64, [u64; 3]); 3] =
    [(5, [340, 180, 90]), (300, [910, 410, 170]), (500, [1_050, 440, 210])];
/// Devices began to connect 24.2 to 25.6 s after the start, in three runs.
const START_S: u32 = 25;
/// Ports behind which a Toxiproxy stands where a fault conditions them.
const CONDITIONED: [&str; 4] = ["registry", "relay_queue", "history", "tables"];

impl Footprint {
    /// That of a plan, and of the experiment around it.
    pub fn of(plan: &Plan, experiment: Option<&ResolvedExperiment>) -> Self {
        let spec = &plan.system;
        let services = u32::try_from(spec.service_nodes().len()).unwrap_or(u32::MAX);
        let steps = experiment.into_iter().flat_map(|experiment| &experiment.steps);
        let mut ports =
            steps.filter_map(|step| step.fault.port()).flat_map(storm_faults::spec::Port::names);
        let toxiproxy = ports.any(|port| CONDITIONED.contains(port));
        let kind = |name, count, memory_mib| Kind { name, count, memory_mib };
        let mut containers = vec![
            kind("kafka", 3, 230),
            kind("cassandra", 1, 670),
            kind("redis", 1, 7),
            kind("s3", 1, 10),
            kind("toxiproxy", u32::from(toxiproxy), 7),
            kind("gateway", spec.gateways, 18),
            kind("services", services, 24),
            kind("balancer", spec.balancers, 18),
        ];
        containers.retain(|kind| kind.count > 0);
        let rate = plan.estimates().sends_per_s;
        let [backends_milli, nodes_milli, generator_milli] = cores(rate);
        Self {
            memory_mib: containers.iter().map(|kind| kind.count * kind.memory_mib).sum(),
            containers,
            backends_milli,
            nodes_milli,
            generator_milli,
            measured: rate <= CORES[CORES.len() - 1].0,
            start_s: START_S,
        }
    }

    /// In the form of the plan's summary.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "containers, by what such systems took on a host of two cores")?;
        for Kind { name, count, memory_mib } in &self.containers {
            writeln!(text, "  {name:<12} {count}, {memory_mib} MiB each")?;
        }
        let cores = |milli: u64| format!("{}.{:02}", milli / 1_000, milli % 1_000 / 10);
        let all = self.backends_milli + self.nodes_milli + self.generator_milli;
        writeln!(text, "  memory       {} MiB", self.memory_mib)?;
        writeln!(
            text,
            "  processor    {} cores: backends {}, nodes {}, generator {}{}",
            cores(all),
            cores(self.backends_milli),
            cores(self.nodes_milli),
            cores(self.generator_milli),
            if self.measured { "" } else { "; beyond what was measured" }
        )?;
        writeln!(text, "  start        {} s", self.start_s)
    }
}

/// Between the two nearest measured rates, on from the last two, and no less than at the first.
fn cores(rate: u64) -> [u64; 3] {
    let upper =
        CORES.iter().position(|(known, _)| rate <= *known).unwrap_or(CORES.len() - 1).max(1);
    let ((from, low), (to, high)) = (CORES[upper - 1], CORES[upper]);
    let between =
        |low: u64, high: u64| low + (high - low) * rate.saturating_sub(from) / (to - from);
    std::array::from_fn(|at| between(low[at], high[at]))
}
