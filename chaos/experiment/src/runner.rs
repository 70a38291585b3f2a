//! One run through all its phases: the method, healing that always runs, the recovery watch, the drain, the final reads.
//!
//! The runner decides only when a phase ends. What it saw goes out as facts; verdicts are the judge's business.
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use chat_control::Control;
use chat_protocol::{ConvId, UserId};
use storm_faults::Bed;
use storm_record::facts::{Fact, FinalPhase, Mark, Stopped, WindowBegan};
use storm_workload::plan::{Condition, End, Phase, Plan, Window};
use tokio::time::{Instant, MissedTickBehavior};

use crate::file::{Recovery, ResolvedStep};
use crate::load::{Load, LoadError, Pulse};
use crate::method::Method;
use crate::notes::{Notes, StopSwitch};
use crate::recovery::RecoveryWatch;
use crate::watch::{WallClock, Watch};

/// How often the end of an open phase is looked for.
const TICK: Duration = Duration::from_millis(100);
/// How often the system is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The consumer group whose end of reading the final reads wait for.
const HISTORY_GROUP: &str = "history-writer";
/// How long history may lag at the end: the bound of M10.
const HISTORY_LIMIT: Duration = Duration::from_mins(1);

/// What one run consists of.
pub struct Run<'a> {
    /// The plan with all its windows.
    pub plan: &'a Plan,
    /// The method; empty for a scenario and for a control run.
    pub steps: &'a [ResolvedStep],
    /// What counts as recovered; `None` watches nothing.
    pub recovery: Option<&'a Recovery>,
    /// How long nothing may move before the drain counts as done.
    pub quiet: Duration,
    /// The load.
    pub load: &'a dyn Load,
    /// The system's panel.
    pub control: &'a dyn Control,
    /// What faults reach.
    pub bed: &'a Bed,
    /// Where facts go.
    pub notes: &'a dyn Notes,
    /// Who may stop the run.
    pub stop: &'a StopSwitch,
    /// Judges the steady window when it ends: whether faults may be injected.
    pub steady_holds: &'a (dyn Fn() -> bool + Sync),
    /// Told once a second where the run is.
    pub progress: &'a (dyn Fn(Progress<'_>) + Sync),
    /// Wall clock of the system.
    pub wall: WallClock,
}

/// Where a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Phase.
    pub phase: &'a Phase,
    /// Time since the phase began.
    pub passed: Duration,
    /// The load.
    pub pulse: Pulse,
}

/// Why a run did not get to its end. Facts noted until then stay.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The load could not start.
    #[error("the load could not start")]
    Load(#[source] LoadError),
    /// The devices of the plan were not connected in time.
    #[error("{connected} of {planned} devices were connected within {limit:?}")]
    NeverConnected {
        /// Connected.
        connected: u64,
        /// Planned.
        planned: u64,
        /// The phase's limit.
        limit: Duration,
    },
}

impl Run<'_> {
    /// Runs all phases. A stop ends the load, heals, drains and reads as the plan's end would.
    pub async fn run(&self) -> Result<(), RunError> {
        self.load.provision().await.map_err(RunError::Load)?;
        let watch = tokio::sync::Mutex::new(Watch::new(
            self.control,
            self.plan.population(),
            self.notes,
            self.wall,
        ));
        let method = Method::new(
            self.steps,
            self.bed,
            (self.load, self.plan.population()),
            self.notes,
            self.stop,
        );
        let baseline = Mutex::new(Vec::new());
        let mut steady_held = true;
        let drain = self.plan.phases.len().saturating_sub(1);
        for (ix, phase) in self.plan.phases.iter().enumerate() {
            let skip = self.stop.is_stopped() || !steady_held;
            if skip && ix != drain && phase.window != Window::Heal {
                continue;
            }
            let at_ns = self.load.begin(ix);
            let number = u16::try_from(ix).unwrap_or(u16::MAX);
            let began = WindowBegan {
                phase: number,
                name: phase.name.clone(),
                window: phase.window,
                at_ns,
            };
            self.notes.note(Fact::Window(began));
            let started = Instant::now();
            let looks = self.look_each_second(phase, started, &watch, &baseline);
            let body = self.body(phase, started, &method, &baseline);
            let ended = tokio::select! {
                ended = body => ended,
                never = looks => never,
            };
            ended?;
            if phase.window == Window::Steady && !self.steps.is_empty() && !self.stop.is_stopped() {
                steady_held = (self.steady_holds)();
                self.notes.note(Fact::Mark(Mark::Steady {
                    held: steady_held,
                    at_ns: self.load.now_ns(),
                }));
            }
        }
        if let Some(why) = self.stop.why() {
            self.notes.note(Fact::Stopped(Stopped { why, at_ns: self.load.now_ns() }));
        }
        self.final_reads(&mut *watch.lock().await).await;
        Ok(())
    }

    async fn body(
        &self,
        phase: &Phase,
        started: Instant,
        method: &Method<'_>,
        baseline: &Mutex<Vec<Pulse>>,
    ) -> Result<(), RunError> {
        let limit = Duration::from_nanos(phase.end.longest().0);
        let deadline = started + limit;
        match (phase.window, phase.end) {
            (Window::Fault, _) => method.run(started, deadline).await,
            (Window::Heal, _) => {
                let within = deadline.max(Instant::now() + Duration::from_secs(1));
                method.heal_all(within).await;
                self.notes.note(Fact::Mark(Mark::AllHealed { at_ns: self.load.now_ns() }));
            }
            (Window::Recovery, _) => {
                let steady = baseline.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut watch = RecoveryWatch::new(self.recovery, &steady);
                let recovered =
                    self.until(deadline, |now| watch.recovered(now, self.load.pulse())).await;
                tracing::debug!(recovered, "The recovery watch ended.");
            }
            (_, End::After(_)) => {
                self.until(deadline, |_| false).await;
            }
            (_, End::Until { condition: Condition::Connected, .. }) => {
                let all = |pulse: Pulse| pulse.planned > 0 && pulse.connected >= pulse.planned;
                let connected = self.until(deadline, |_| all(self.load.pulse())).await;
                let pulse = self.load.pulse();
                if !connected && !self.stop.is_stopped() && !all(pulse) {
                    let Pulse { connected, planned, .. } = pulse;
                    return Err(RunError::NeverConnected { connected, planned, limit });
                }
            }
            (_, End::Until { condition: Condition::Settled, .. }) => {
                // A stopped run drains too, so the switch is not looked at here.
                let settled = wait(deadline, |_| self.load.settled(self.quiet)).await;
                self.notes.note(Fact::Mark(Mark::Drained { settled, at_ns: self.load.now_ns() }));
            }
            (_, End::Until { .. }) => {
                self.until(deadline, |_| (self.steady_holds)()).await;
            }
        }
        Ok(())
    }

    /// Waits until a condition holds, the deadline, or a stop. Answers whether the condition held.
    async fn until(&self, deadline: Instant, condition: impl FnMut(Instant) -> bool) -> bool {
        tokio::select! {
            held = wait(deadline, condition) => held,
            () = self.stop.stopped() => false,
        }
    }

    /// Never ends by itself; the phase's body does.
    async fn look_each_second(
        &self,
        phase: &Phase,
        started: Instant,
        watch: &tokio::sync::Mutex<Watch<'_>>,
        baseline: &Mutex<Vec<Pulse>>,
    ) -> Result<(), RunError> {
        let mut each = tokio::time::interval(LOOK);
        each.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            each.tick().await;
            watch.lock().await.look(self.load.now_ns()).await;
            let pulse = self.load.pulse();
            if phase.window == Window::Steady {
                baseline.lock().unwrap_or_else(PoisonError::into_inner).push(pulse);
            }
            (self.progress)(Progress { phase, passed: started.elapsed(), pulse });
        }
    }

    /// Reads what the system is left with; without it nothing may claim "no loss".
    async fn final_reads(&self, watch: &mut Watch<'_>) {
        // A message that was lost keeps the drain from settling. The drain's whole time having passed without a move is what
        // convicts the system of it; a drain that still moved convicts nobody.
        let drained = self.load.still(self.quiet);
        // History may lag; what it holds is compared once it says that it has read everything.
        let read_up = wait_for_history(self.control, Instant::now() + HISTORY_LIMIT).await;
        let at_ns = self.load.now_ns();
        watch.look(at_ns).await;
        for gap in self.load.accept_gaps() {
            self.notes.note(Fact::AcceptGap(gap));
        }
        let mut missing = Vec::new();
        if !drained {
            let pulse = self.load.pulse();
            missing.push(format!(
                "{} of {} devices connected, {} deliveries owed, {} sends without an answer",
                pulse.connected, pulse.planned, pulse.owed, pulse.in_flight
            ));
        }
        if !read_up {
            missing
                .push(format!("history did not reach the end of the log within {HISTORY_LIMIT:?}"));
        }
        if !watch.queues(at_ns, true).await {
            missing.push("the relay queues could not be read".to_owned());
        }
        if !watch.history(at_ns, &conversations(self.plan)).await {
            missing.push("history could not be read".to_owned());
        }
        let read = missing.len() == usize::from(!drained);
        self.notes.note(Fact::Final(FinalPhase {
            drained,
            read,
            missing,
            at_ns: self.load.now_ns(),
        }));
    }
}

/// Waits until no partition has records that the history writer has not committed.
async fn wait_for_history(control: &dyn Control, deadline: Instant) -> bool {
    loop {
        let lags = control.lags().await.unwrap_or_default();
        let behind = lags.iter().any(|lag| lag.group == HISTORY_GROUP && lag.position < lag.end);
        if !lags.is_empty() && !behind {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Looks each tick until the condition holds or the deadline is over.
async fn wait(deadline: Instant, mut condition: impl FnMut(Instant) -> bool) -> bool {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = tokio::select! {
            now = tick.tick() => now,
            () = tokio::time::sleep_until(deadline) => return condition(Instant::now()),
        };
        if condition(now) {
            return true;
        }
    }
}

/// Every conversation that the plan may use, sorted.
pub fn conversations(plan: &Plan) -> Vec<ConvId> {
    let people = plan.population();
    let user = |number: u32| UserId(u64::from(number));
    let mut all: Vec<_> = (0..people.users())
        .flat_map(|a| {
            people.contacts_of(a).iter().filter_map(move |b| ConvId::direct(user(a), user(*b)))
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}
