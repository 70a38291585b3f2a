//! The outcome of one check, with its evidence.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verdict::{Reason, Verdict};

/// Violations localised in a report; all are in the record.
pub const SHOWN: usize = 10;

/// What a check ended as.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Held in every case exercised.
    Pass,
    /// The plan never feeds its subject.
    NotApplicable,
    /// Nothing can be said.
    Inconclusive,
    /// Broken.
    Fail,
}

impl Outcome {
    /// What it contributes to the verdict.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Pass | Self::NotApplicable => Verdict::Pass,
            Self::Inconclusive => Verdict::Inconclusive,
            Self::Fail => Verdict::Fail,
        }
    }
}

/// One violation, localised: everything that is known about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Violation {
    /// What happened, in one sentence.
    pub what: String,
    /// Message number, as stream and k.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Sending device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Device it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Node the device was connected to, with the connection epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// When, milliseconds since the run's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Window of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Faults active then.
    pub faults: Vec<String>,
    /// Every observation known.
    pub observed: Vec<String>,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Name of the invariant or validity check.
    pub id: String,
    /// What it demands.
    pub demands: String,
    /// What it ended as.
    pub outcome: Outcome,
    /// Why nothing can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Cases exercised.
    pub cases: u64,
    /// Violations.
    pub violations: u64,
    /// Figures and bounds the outcome rests on, in words.
    pub basis: Vec<String>,
    /// Why a pass is weak.
    pub weak: Vec<String>,
    /// The first violations, localised.
    pub evidence: Vec<Violation>,
}

impl Finding {
    pub(crate) fn new(id: &str, demands: &str) -> Self {
        Self {
            id: id.to_owned(),
            demands: demands.to_owned(),
            outcome: Outcome::Pass,
            reason: None,
            cases: 0,
            violations: 0,
            basis: Vec::new(),
            weak: Vec::new(),
            evidence: Vec::new(),
        }
    }

    pub(crate) fn cases(mut self, cases: u64) -> Self {
        self.cases += cases;
        self
    }

    pub(crate) fn basis(mut self, basis: impl Into<String>) -> Self {
        self.basis.push(basis.into());
        self
    }

    /// Adds a violation; only the first ones are drawn.
    pub(crate) fn violation(&mut self, draw: impl FnOnce() -> Violation) {
        self.violations += 1;
        self.outcome = Outcome::Fail;
        if self.evidence.len() < SHOWN {
            self.evidence.push(draw());
        }
    }

    /// Adds violations of which no more is known than their number.
    pub(crate) fn violations(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.violations += count;
            self.outcome = Outcome::Fail;
            if self.evidence.len() < SHOWN {
                self.evidence.push(Violation { what: what.to_owned(), ..Violation::default() });
            }
        }
    }

    /// Nothing can be said, unless facts convict.
    pub(crate) fn unless_convicted(&mut self, reason: Reason) {
        if self.outcome != Outcome::Fail {
            self.outcome = Outcome::Inconclusive;
            self.reason.get_or_insert(reason);
        }
    }

    pub(crate) fn not_applicable(mut self, why: &str) -> Self {
        if self.outcome == Outcome::Pass {
            self.outcome = Outcome::NotApplicable;
            self.basis.push(why.to_owned());
        }
        self
    }

    /// A check that was fed and met no case can never pass.
    pub(crate) fn closed(mut self) -> Self {
        if self.outcome == Outcome::Pass && self.cases == 0 {
            self.outcome = Outcome::Inconclusive;
            self.reason = Some(Reason::TooFewSamples);
        }
        self
    }
}
