//! The resolved experiment in words, for `chatstorm plan`.

use std::fmt::Write as _;

use super::check::nodes_of;
use super::resolve::ResolvedExperiment;

impl ResolvedExperiment {
    /// Hypothesis, plan and method, one fact a line. Starts nothing.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        self.write_summary(&mut out).expect("writing to a string cannot fail");
        out
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "{}", self.name)?;
        if let Some(arm) = &self.arm {
            write!(out, "  arm {arm}")?;
        }
        writeln!(out, "\n  hypothesis   {}", self.hypothesis)?;
        writeln!(
            out,
            "  control      {}",
            if self.control == super::Control::None { "none" } else { "same seed, run first" }
        )?;
        out.push_str(&self.plan.summary());
        writeln!(out, "method")?;
        for step in &self.steps {
            let hold = step
                .hold
                .map_or_else(|| "until the heal phase".to_owned(), |hold| format!("for {hold}"));
            let spec = serde_json::to_string(&step.fault).expect("a fault is plain data");
            writeln!(out, "  {:<12} at {} {hold}  {spec}", step.id, step.at)?;
            if let Some(role) = step.fault.node().and_then(|node| node.role) {
                writeln!(out, "    drawn from {}", nodes_of(&self.plan, role).join(" "))?;
            }
            if let Some(devices) = step.fault.devices() {
                let online = u64::from(self.plan.population().online_devices());
                writeln!(out, "    {} of {online} devices", devices.wanted(online))?;
            }
            for gate in &step.expect {
                let bound =
                    gate.min.or(gate.max).map_or_else(String::new, |bound| bound.to_string());
                let sign = if gate.min.is_some() { ">=" } else { "<=" };
                let bound = match (gate.max_factor, &gate.baseline) {
                    (Some(factor), Some(baseline)) => format!("{factor} x {baseline}"),
                    _ => bound,
                };
                writeln!(
                    out,
                    "    expect     {} {} {} {sign} {bound} over {}",
                    gate.name,
                    gate.metric,
                    gate.stat.name(),
                    gate.over()
                )?;
            }
        }
        writeln!(
            out,
            "recovery\n  within {} for {}, on time >= {} and p99 <= {} x control",
            self.recovery.within,
            self.recovery.hold,
            self.recovery.on_time,
            self.recovery.latency_factor
        )
    }
}
