//! The verdict lattice, the closed list of reasons, and the exit code.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run or a check ends as. Merged by maximum.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that was asked was shown.
    Pass,
    /// Nothing can be said, for a stated reason.
    Inconclusive,
    /// A promise was broken.
    Fail,
}

impl Verdict {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Inconclusive => "Inconclusive",
            Self::Fail => "Fail",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $name:literal $about:literal $cure:literal;)*) => {
        /// Why nothing can be said.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum Reason {
            $(#[doc = $about] $variant,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// One sentence for `explain`.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),* }
            }

            /// What to do about it.
            pub const fn cure(self) -> &'static str {
                match self { $(Self::$variant => $cure),* }
            }
        }
    };
}

reasons! {
    NotWitnessed "not-witnessed" "A fault was not seen to bite, or stopped biting: it proves nothing."
        "Give the fault more load or more time to bite, or ask less of its witness.";
    NotHealed "not-healed" "A fault was not seen to be gone, or something was left behind."
        "Read what the fault left behind; give the heal window more time.";
    SteadyNotEstablished "steady-not-established" "The steady state did not hold before the method, so no fault was injected."
        "Run the scenario without the experiment first, or on a smaller scale.";
    GeneratorSaturated "generator-saturated" "The generator was the limit: it did not keep its own schedule."
        "Lower the load or free the host; the guards say what was short.";
    HostBusy "host-busy" "Others took the cores while something was late: that is not the system's doing."
        "Free the host and run it again; the guard `host_cpu` says how much others took.";
    ControlMismatch "control-mismatch" "The steady window and the control run's differ, or they are not the same plan, binary and host."
        "Run it again on a quiet host: control and run must see the same steady state.";
    NoControl "no-control" "There is no control run to compare with."
        "Ask for a control run with `control: same-seed`.";
    NoFinalPhase "no-final-phase" "The drain or the final reads did not complete, so nothing may claim `no loss`."
        "Give the drain more time; Z3 says what was missing.";
    TooFewSamples "too-few-samples" "There are fewer samples than the check needs."
        "Run longer or on a larger scale, or lower `min_samples` of the gate.";
    ClockUnbounded "clock-unbounded" "Time stamps contradict each other."
        "Run it again; if it stays, the host's clock cannot be trusted.";
    ObserverLost "observer-lost" "An observer could not look."
        "Z3 says which observer, and why.";
    WorkerLost "worker-lost" "A generator process was lost."
        "Z3 says why; the run folder has the log.";
    Stopped "stopped" "The run was stopped before its end."
        "Let it run to its end.";
}

/// Exit code of the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Pass.
    Pass,
    /// Nothing can be said.
    Inconclusive,
    /// Stopped by a signal or a stop condition.
    Stopped,
    /// A gate was missed.
    Gate,
    /// An invariant was broken.
    Invariant,
}

impl Exit {
    /// The worst that was met: an invariant outweighs a gate, a gate a stop, a stop an inconclusive run.
    pub fn worst(met: impl IntoIterator<Item = (Self, bool)>) -> Self {
        let met = met.into_iter().filter(|(_, met)| *met);
        met.map(|(exit, _)| exit).max().unwrap_or(Self::Pass)
    }

    /// The process exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Gate => 10,
            Self::Invariant => 11,
            Self::Inconclusive => 12,
            Self::Stopped => 13,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides() {
        assert_eq!(Verdict::Pass.max(Verdict::Inconclusive).max(Verdict::Fail), Verdict::Fail);
        let worst = [Exit::Invariant, Exit::Gate, Exit::Stopped, Exit::Inconclusive];
        for (at, code) in [11, 10, 13, 12, 0].into_iter().enumerate() {
            // Everything from here down was met, nothing above.
            let met = (0..).zip(worst).map(|(rank, exit)| (exit, at <= rank));
            assert_eq!(Exit::worst(met).code(), code);
        }
    }

    #[test]
    fn every_reason_has_the_word_it_is_written_as() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
            assert!(reason.about().ends_with('.') && reason.cure().ends_with('.'));
        }
    }
}
