//! The plan: a scenario resolved to plain numbers. After this step nothing about the input can go wrong.

mod lower;
mod phase;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::catalog::Catalog;
use crate::document::{Document, FileErrors};
use crate::file::{
    Guards, Intent, Load, PhaseRole, PopulationSpec, Scenario, SessionsSpec, Until, read_scenario,
};
use crate::gate::Gate;
use crate::population::Population;
use crate::scale::{Ci, Scale, Shrink, shrink};
use crate::schedule::COUNT_MAX;
use crate::system::SystemSpec;
use crate::units::Time;

use lower::{loads, lower_phase, segments};
pub use phase::{Condition, End, FaultWindows, Phase, PhaseStream, StreamPlan, Window};

/// Longest run: nanoseconds stay far inside the arithmetic of the schedule.
const RUN_MAX: Time = Time::seconds(7 * 24 * 3600);

/// What the command line changes about a file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `a.b.c=value` arguments in order.
    pub sets: Vec<String>,
    /// Smaller than written.
    pub scale: Option<Scale>,
    /// Another seed.
    pub seed: Option<u64>,
    /// Length of the steady phase, after scaling.
    pub steady_for: Option<Time>,
    /// Limit of the drain phase.
    pub drain_limit: Option<Time>,
    /// What `--scale ci` does otherwise than its preset.
    pub ci: Ci,
    /// Partitions of the log where the file names none.
    pub partitions: Option<u32>,
}

/// A scenario with every value resolved. Treat it as read-only: its tables are computed once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the scenario.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// What it is for.
    pub intent: Intent,
    /// All randomness derives from this.
    pub seed: u64,
    /// `1`, a factor or `ci`.
    pub scale: String,
    /// Sources of figures.
    pub cite: BTreeMap<String, String>,
    /// The system.
    pub system: SystemSpec,
    /// Who uses it.
    pub population: PopulationSpec,
    /// How devices come and go.
    pub sessions: SessionsSpec,
    /// What is sent; a message number names a stream by its place here.
    pub streams: Vec<StreamPlan>,
    /// The windows in order; the last one drains.
    pub phases: Vec<Phase>,
    /// What must hold.
    pub gates: Vec<Gate>,
    /// Limits under which figures count.
    pub guards: Guards,
    #[serde(skip)]
    people: OnceLock<Arc<Population>>,
}

impl Plan {
    /// Resolves a scenario by catalog name or path. `variants` are the names that `system.variants` may hold.
    ///
    /// # Errors
    /// Everything wrong with the file, its parents and the overrides, at once.
    pub fn resolve(
        name: &str,
        catalog: &Catalog,
        overrides: &Overrides,
        variants: &[&str],
    ) -> Result<Self, FileErrors> {
        let mut doc = read_scenario(name, catalog)?;
        for argument in &overrides.sets {
            doc.set_argument(argument)?;
        }
        Ok(Self::resolve_document(&doc, overrides, variants)?.0)
    }

    /// Resolves a document whose leaves are already overridden; `overrides.sets` is not looked at. Also says by how much it shrank.
    ///
    /// # Errors
    /// Everything wrong with the document, at once.
    pub fn resolve_document(
        doc: &Document,
        overrides: &Overrides,
        variants: &[&str],
    ) -> Result<(Self, Shrink), FileErrors> {
        let (scenario, mut errors) = doc.decode_partly::<Scenario>();
        let checked = scenario.as_ref().map(|scenario| scenario.check(doc, variants));
        errors.extend(checked.into_iter().flatten());
        FileErrors::check(errors)?;
        let mut scenario = scenario.expect("a document without errors has a scenario");
        if let Some(partitions) = overrides.partitions
            && doc.get("system.log.partitions").is_none()
        {
            scenario.system.log.partitions = partitions;
        }
        let shrunk = overrides
            .scale
            .map_or(Shrink::NONE, |scale| shrink(&mut scenario, scale, overrides.ci));
        let scale = overrides.scale.map_or_else(|| "1".to_owned(), |scale| scale.to_string());
        if let Some(seed) = overrides.seed {
            scenario.seed = seed;
        }
        for phase in &mut scenario.phases {
            match (phase.role, overrides.steady_for, overrides.drain_limit) {
                (PhaseRole::Steady, Some(len), _) => phase.for_ = Some(len),
                (PhaseRole::Drain, _, Some(limit)) => {
                    (phase.for_, phase.until, phase.limit) =
                        (None, Some(Until::Settled), Some(limit));
                }
                _ => {}
            }
        }
        let plan = Self::lower(scenario, scale);
        plan.check_size(doc)?;
        Ok((plan, shrunk))
    }

    /// The same plan with the windows of an experiment between its last loaded phase and `drain`, each holding the steady load.
    #[must_use]
    pub fn with_windows(mut self, windows: FaultWindows) -> Self {
        let load = self.steady().map_or(Load::None, |phase| phase.load);
        let drain =
            self.phases.iter().position(|p| p.window == Window::Drain).unwrap_or(self.phases.len());
        let phase = |window: Window, end: End| Phase {
            name: window.name().to_owned(),
            window,
            end,
            load,
            from_ns: None,
            streams: Vec::new(),
        };
        let until = |condition, limit| End::Until { condition, limit };
        let inserted = [
            phase(Window::Fault, End::After(windows.fault)),
            phase(Window::Heal, until(Condition::Healed, windows.heal)),
            phase(Window::Recovery, until(Condition::Recovered, windows.recovery)),
        ];
        self.phases.splice(drain..drain, inserted);
        self.number();
        self
    }

    fn lower(scenario: Scenario, scale: String) -> Self {
        let streams = scenario
            .streams
            .into_iter()
            .map(|(name, s)| StreamPlan {
                name,
                rate: s.rate,
                arrival: s.arrival,
                deadline: s.deadline,
                payload: s.payload,
            })
            .collect();
        let mut plan = Self {
            name: scenario.name,
            about: scenario.about,
            intent: scenario.intent,
            seed: scenario.seed,
            scale,
            cite: scenario.cite,
            system: scenario.system,
            population: scenario.population,
            sessions: scenario.sessions,
            streams,
            phases: scenario.phases.iter().map(lower_phase).collect(),
            gates: scenario.slo,
            guards: scenario.guards,
            people: OnceLock::new(),
        };
        plan.number();
        plan
    }

    /// Gives every phase its place on the load clock and every intent its number.
    fn number(&mut self) {
        let mut next_k = vec![0_u64; self.streams.len()];
        let mut clock: Option<u64> = None;
        for phase in &mut self.phases {
            let sends = loads(phase.load).1 > 0;
            if sends && clock.is_none() {
                clock = Some(0);
            }
            phase.from_ns = clock;
            let len = phase.end.longest().0;
            clock = clock.map(|at| at.saturating_add(len));
            phase.streams.clear();
            if !sends {
                continue;
            }
            for ((stream, ix), first_k) in self.streams.iter().zip(0_u16..).zip(&mut next_k) {
                let segments = segments(stream.rate, phase.load, len);
                let count = segments.iter().map(|s| s.count).sum();
                phase.streams.push(PhaseStream { stream: ix, first_k: *first_k, count, segments });
                *first_k += count;
            }
        }
        self.people = OnceLock::new();
    }

    fn check_size(&self, doc: &Document) -> Result<(), FileErrors> {
        let mut errors = Vec::new();
        let total: u64 = self.phases.iter().fold(0, |sum, p| p.end.longest().0.saturating_add(sum));
        if total > RUN_MAX.0 {
            errors
                .push(doc.error_at("phases", format!("the run would last longer than {RUN_MAX}")));
        }
        for (ix, phase) in self.phases.iter().enumerate() {
            if phase.streams.iter().any(|s| s.count > COUNT_MAX) {
                let message = format!("more than {COUNT_MAX} sends of one stream in one phase");
                errors.push(
                    doc.error_at(&format!("phases.{ix}"), message)
                        .with_help("make the phase shorter or the rate lower"),
                );
            }
        }
        if self.streams.len() > usize::from(u16::MAX) {
            errors.push(doc.error_at("streams", "more than 65,535 streams"));
        }
        FileErrors::check(errors)
    }

    /// The people of the plan, computed at the first call.
    pub fn population(&self) -> &Arc<Population> {
        self.people.get_or_init(|| {
            Arc::new(Population::new(
                self.seed,
                &self.population,
                &self.sessions,
                self.load_end_ns(),
            ))
        })
    }

    /// The phase with the role `steady`.
    pub fn steady(&self) -> Option<&Phase> {
        self.phases.iter().find(|p| p.window == Window::Steady)
    }

    /// Where the drain phase begins on the load clock; from there on every device is planned to be connected.
    pub fn load_end_ns(&self) -> u64 {
        let drain = self.phases.iter().find(|p| p.window == Window::Drain);
        drain.and_then(|p| p.from_ns).unwrap_or(u64::MAX)
    }

    /// Which of `shards` owns a user and so fires its intents: whole communities.
    pub fn shard_of(&self, user: u32, shards: u32) -> u32 {
        self.population().shard_of(user, shards)
    }

    /// Message numbers of a stream over the whole run, those of open phases up to their limits.
    pub fn numbers_of(&self, stream: u16) -> u64 {
        self.phases
            .iter()
            .flat_map(|p| &p.streams)
            .filter(|s| s.stream == stream)
            .map(|s| s.count)
            .sum()
    }

    /// The longest deadline of the streams.
    pub fn deadline_max(&self) -> Time {
        self.streams.iter().map(|s| s.deadline).max().unwrap_or(Time(0))
    }

    /// Hash over everything resolved, the seed included: equal hashes mean the same run.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a plan is plain data");
        let digest = Sha256::digest(&json);
        digest.iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
            use std::fmt::Write as _;
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
            hex
        })
    }
}
