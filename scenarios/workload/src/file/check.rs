//! What makes a scenario impossible, each reason at its place in the file.

use super::{
    DEADLINE_MAX, DEVICES_MAX, DEVICES_PER_USER_MAX, FORMAT, Load, PAYLOAD_MAX, PAYLOAD_MIN,
    PhaseRole, Scenario, window_names,
};
use crate::distribution::{Distribution, shares_fault};
use crate::document::{Document, FileError};
use crate::gate::{GateContext, check_gates};
use crate::units::Time;

impl Scenario {
    /// Everything impossible about a scenario that could be read.
    pub fn check(&self, doc: &Document, variants: &[&str]) -> Vec<FileError> {
        let mut errors = self.system.check(doc, "system", variants);
        let mut wrong = |path: &str, message: String, help: &str| {
            let error = doc.error_at(path, message);
            errors.push(if help.is_empty() { error } else { error.with_help(help) });
        };
        if self.format != FORMAT {
            wrong("format", format!("format {} is unknown", self.format), "write `format: 1`");
        }
        self.check_population(&mut wrong);
        if self.streams.is_empty() {
            wrong(
                "streams",
                "nothing is sent: there is no stream".to_owned(),
                "add one, for example `chat: {rate: 500/s}`",
            );
        }
        for (name, stream) in &self.streams {
            let at = |key: &str| format!("streams.{name}.{key}");
            if stream.rate.0 == 0 {
                wrong(
                    &at("rate"),
                    "a rate of 0 sends nothing".to_owned(),
                    "leave the stream out or use `load: none`",
                );
            }
            if stream.deadline.0 == 0 || stream.deadline > DEADLINE_MAX {
                wrong(
                    &at("deadline"),
                    format!("a deadline lies above 0 s and at most at {DEADLINE_MAX}"),
                    "",
                );
            }
            if let Some(fault) = stream.payload.fault() {
                wrong(&at("payload"), fault, "");
            } else if stream.payload.largest() > PAYLOAD_MAX
                || stream.payload.largest() < PAYLOAD_MIN
            {
                wrong(
                    &at("payload"),
                    "the largest body must be from 48 B to 64 KiB".to_owned(),
                    "",
                );
            }
        }
        if let Some(fault) = self.sessions.away.fault() {
            wrong("sessions.away", fault, "");
        } else if self.sessions.away.smallest() == 0 && self.sessions.churn.0 > 0 {
            // A log-normal cannot be bounded below; its draws are lifted to a tenth of a second when planned.
            if !matches!(self.sessions.away, Distribution::Lognormal(_)) {
                wrong(
                    "sessions.away",
                    "a device must stay away for some time".to_owned(),
                    "for example `uniform: {min: 5s, max: 20s}`",
                );
            }
        }
        if self.sessions.connect.0 < 1_000_000 {
            wrong(
                "sessions.connect",
                "fewer than one connection a second".to_owned(),
                "for example `800/s`",
            );
        }
        if self.guards.lag_p99.0 == 0 {
            wrong("guards.lag_p99", "the lag guard cannot be 0".to_owned(), "the default is 5ms");
        }
        self.check_phases(&mut wrong);
        let names: Vec<&str> = self.phases.iter().map(|p| p.name.as_str()).collect();
        let windows = window_names(&names);
        errors.extend(check_gates(
            doc,
            "slo",
            &self.slo,
            &GateContext {
                windows: &windows,
                baselines: &names,
                deadline: self.deadline_max(),
                lag_p99: self.guards.lag_p99,
            },
        ));
        errors
    }

    /// The longest deadline of the streams.
    pub fn deadline_max(&self) -> Time {
        self.streams.values().map(|s| s.deadline).max().unwrap_or(DEADLINE_MAX)
    }

    fn check_population(&self, wrong: &mut impl FnMut(&str, String, &str)) {
        let population = &self.population;
        if population.users < 2 {
            wrong("population.users", "a chat needs two users".to_owned(), "");
        }
        if population.community < 2 {
            wrong("population.community", "a community needs two users".to_owned(), "");
        }
        if let Some(fault) = shares_fault(population.devices.values()) {
            wrong("population.devices", fault, "for example `{1: 0.75, 2: 0.20, 3: 0.05}`");
        }
        if population.devices.keys().any(|n| *n == 0 || *n > DEVICES_PER_USER_MAX) {
            wrong(
                "population.devices",
                format!("a user has from 1 to {DEVICES_PER_USER_MAX} devices"),
                "",
            );
        }
        let devices: u64 = population
            .devices
            .iter()
            .map(|(n, share)| u64::from(*n) * share.of(u64::from(population.users)))
            .sum();
        if devices > DEVICES_MAX {
            wrong(
                "population.users",
                format!("{devices} devices are more than the {DEVICES_MAX} of one process"),
                "",
            );
        }
        if population.online.of(u64::from(population.users)) == 0 {
            wrong("population.online", "nobody is online, so nobody can send".to_owned(), "");
        }
        if let Some(fault) = population.contacts.fault() {
            wrong("population.contacts", fault, "");
        } else if population.contacts.largest() == 0 {
            wrong("population.contacts", "nobody has a contact to write to".to_owned(), "");
        }
    }

    fn check_phases(&self, wrong: &mut impl FnMut(&str, String, &str)) {
        let mut steady = 0;
        for (ix, phase) in self.phases.iter().enumerate() {
            let at = |key: &str| {
                if key.is_empty() { format!("phases.{ix}") } else { format!("phases.{ix}.{key}") }
            };
            if self.phases[..ix].iter().any(|p| p.name == phase.name) {
                wrong(&at("name"), format!("two phases are named `{}`", phase.name), "");
            }
            if ["fault", "heal", "recovery", "control", "step"].contains(&phase.name.as_str()) {
                wrong(
                    &at("name"),
                    format!("`{}` is a word of experiments", phase.name),
                    "choose another name",
                );
            }
            match (phase.for_, phase.until, phase.limit) {
                (Some(len), None, None) if len.0 > 0 => {}
                (None, Some(_), Some(limit)) if limit.0 > 0 => {}
                (Some(_), None, Some(_)) => {
                    wrong(&at("limit"), "`limit` belongs to `until`".to_owned(), "remove it");
                }
                (None, Some(_), None) => {
                    wrong(
                        &at(""),
                        "`until` needs a `limit`".to_owned(),
                        "for example `limit: 60s`",
                    );
                }
                (Some(_), Some(_), _) => wrong(
                    &at(""),
                    "`for` and `until` exclude each other".to_owned(),
                    "keep one of them",
                ),
                (None, None, _) => wrong(
                    &at(""),
                    "the phase has no length".to_owned(),
                    "give it `for: 30s`, or `until` with a `limit`",
                ),
                _ => wrong(&at(""), "a phase cannot last 0 s".to_owned(), ""),
            }
            let sends = match phase.load {
                Load::None => false,
                Load::Hold(factor) => factor.0 > 0,
                Load::Ramp(ramp) => ramp.from.0 > 0 || ramp.to.0 > 0,
            };
            match phase.role {
                PhaseRole::Steady => {
                    steady += 1;
                    if !sends {
                        wrong(
                            &at("load"),
                            "the steady phase sends nothing".to_owned(),
                            "write `load: {hold: 1.0}`",
                        );
                    }
                    if phase.for_.is_none() {
                        wrong(
                            &at(""),
                            "the steady phase needs a fixed length".to_owned(),
                            "write `for: 60s`",
                        );
                    }
                }
                PhaseRole::Drain => {
                    if sends {
                        wrong(
                            &at("load"),
                            "nothing is sent while draining".to_owned(),
                            "write `load: none`",
                        );
                    }
                    if ix + 1 != self.phases.len() {
                        wrong(&at("role"), "the drain phase is the last one".to_owned(), "");
                    }
                }
                PhaseRole::WarmUp | PhaseRole::Stress => {}
            }
        }
        if steady != 1 {
            wrong(
                "phases",
                format!("{steady} phases have the role `steady`"),
                "there is exactly one",
            );
        }
        if self.phases.last().is_none_or(|p| p.role != PhaseRole::Drain) {
            wrong(
                "phases",
                "the last phase must drain, or nothing could claim that no message is lost"
                    .to_owned(),
                "end with `{name: drain, role: drain, until: settled, limit: 60s}`",
            );
        }
    }
}
