//! The load engine as the experiment runner and the faults see it.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use storm_experiment::load::{BlastRadius, Load, LoadError, Pulse};
use storm_faults::{DevicePlace, Devices};
use storm_load::{BlastSet, Engine, Evidence, RunClock};
use storm_record::facts::AcceptGap;
use storm_workload::Plan;
use storm_workload::population::Population;
use tokio::time::Instant;

/// All tokens are there at the latest after this long.
const PROVISION_LIMIT: Duration = Duration::from_mins(1);
/// How often progress of provisioning is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// An engine that runs one plan.
pub(super) struct Drive {
    clock: RunClock,
    people: Arc<Population>,
    /// `None` once it was stopped.
    engine: Mutex<Option<Engine>>,
}

impl Drive {
    pub(super) fn new(engine: Engine, clock: RunClock, plan: &Plan) -> Self {
        Self { clock, people: Arc::clone(plan.population()), engine: Mutex::new(Some(engine)) }
    }

    /// Ends the load; `None` when a thread of the engine died or it was stopped before.
    pub(super) fn stop(&self) -> Option<Evidence> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        engine.and_then(Engine::stop)
    }

    /// Whether the engine's threads run.
    pub(super) fn alive(&self) -> bool {
        self.with(Engine::alive).unwrap_or(false)
    }

    fn with<T>(&self, look: impl FnOnce(&Engine) -> T) -> Option<T> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
    }
}

#[async_trait]
impl Load for Drive {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    async fn provision(&self) -> Result<(), LoadError> {
        self.with(Engine::provision);
        let deadline = Instant::now() + PROVISION_LIMIT;
        loop {
            let Some(stats) = self.with(Engine::stats) else {
                return Err(LoadError("the engine has ended".to_owned()));
            };
            if stats.devices > 0 && stats.provisioned >= stats.devices {
                return Ok(());
            }
            if stats.unprovisioned > 0 || Instant::now() >= deadline {
                let (got, all) = (stats.provisioned, stats.devices);
                return Err(LoadError(format!("{got} of {all} devices got an access token")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn begin(&self, phase: usize) -> u64 {
        let at_ns = self.clock.now_ns();
        self.with(|engine| {
            engine.begin_phase(phase, at_ns);
            if phase == 0 {
                engine.connect();
            }
        });
        at_ns
    }

    fn pulse(&self) -> Pulse {
        let Some(stats) = self.with(Engine::stats) else { return Pulse::default() };
        Pulse {
            connected: stats.connected.min(stats.caught_up),
            planned: stats.planned,
            offered: stats.offered,
            written: stats.written,
            accepted: stats.accepted,
            delivered: stats.delivered,
            owed: stats.owed,
            in_flight: stats.in_flight,
            lag_p99_ns: stats.lag_p99_ns,
            delivered_p99_ns: stats.delivered_p99_ns,
        }
    }

    fn blast(&self, radius: Option<BlastRadius>) {
        let dense = |device: &u64| {
            let device = chat_protocol::DeviceId(*device);
            let user = u32::try_from(device.user().0).ok()?;
            self.people.device(user, device.index()).map(|ix| ix.0)
        };
        let set = radius.map(|radius| BlastSet {
            devices: radius.devices.iter().filter_map(dense).collect(),
            nodes: radius.nodes,
        });
        self.with(|engine| engine.set_blast(set.as_ref()));
    }

    fn settled(&self, quiet: Duration) -> bool {
        let quiet_ns = u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX);
        self.with(|engine| engine.stats().settled(quiet_ns)).unwrap_or(false)
    }

    fn still(&self, quiet: Duration) -> bool {
        let quiet_ns = u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX);
        self.with(|engine| engine.stats().still(quiet_ns)).unwrap_or(false)
    }

    fn accept_gaps(&self) -> Vec<AcceptGap> {
        self.with(Engine::accept_gaps).unwrap_or_default()
    }
}

impl Devices for Drive {
    fn list(&self) -> Vec<DevicePlace> {
        let mut all: Vec<_> = self
            .with(Engine::devices)
            .unwrap_or_default()
            .into_iter()
            .map(|view| DevicePlace {
                device: view.device.0,
                connected: view.node.is_some(),
                node: view.node.map(|node| node.to_string()),
            })
            .collect();
        all.sort_by_key(|place| place.device);
        all
    }
}
