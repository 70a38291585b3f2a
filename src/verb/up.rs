//! `up`: starts the system and keeps it up until a signal.
use storm_workload::catalog::SCENARIOS;
use storm_workload::{Overrides, Plan};

use crate::exit::{Edge, Exit};
use crate::output::Output;
use crate::signals::Signals;
use crate::{preflight, run, variants};

/// The scenario whose system is started; its load is not.
const SYSTEM: &str = "smoke";

/// Stays until Ctrl-C, which stops the system and succeeds.
pub(crate) fn up(output: &Output) -> Result<Exit, Edge> {
    let overrides =
        Overrides { sets: vec!["system.timers=default".to_owned()], ..Overrides::default() };
    let plan = Plan::resolve(SYSTEM, &SCENARIOS, &overrides, &variants::names())
        .map_err(|errors| Edge::internal(errors.render(false)))?;
    preflight::raise_descriptors()?;
    let signals = Signals::install()?;
    run::up(&plan, output, &signals)?;
    Ok(Exit::Pass)
}
