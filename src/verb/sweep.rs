//! `sweep`: containers and networks that runs left behind.
use std::fmt::Write as _;
use std::io::Read as _;

use chat_testbed::containers::engine::{Engine, EngineError};
use chat_testbed::containers::leftovers::{Kind, Leftover};

use crate::args::SweepArgs;
use crate::containers::on_engine;
use crate::exit::{Edge, Exit};
use crate::output::Output;

/// Lists, or removes, what is left; exit 0 when nothing is.
pub(crate) fn sweep(args: &SweepArgs, output: &Output) -> Result<Exit, Edge> {
    if let Some(run) = &args.deadman {
        // Whatever ends the run ends the pipe: this is all that is waited for.
        let mut nothing = Vec::new();
        drop(std::io::stdin().lock().read_to_end(&mut nothing));
        let of_run = |left: &Leftover| left.run == *run;
        return on_engine(async || {
            clear(&Engine::connect().await?, of_run).await.map(|_| Exit::Pass)
        });
    }
    let over = |left: &Leftover| !left.owned;
    let (listed, left) = on_engine(async || {
        let engine = Engine::connect().await?;
        let listed = engine.labelled().await?;
        let left = if args.yes { clear(&engine, over).await? } else { listed.clone() };
        Ok((listed, left))
    })?;
    let mut text = String::new();
    for one in &listed {
        let kind = match one.kind {
            Kind::Container => "container",
            Kind::Network => "network",
        };
        let fate = match (one.owned, left.contains(one)) {
            (true, _) => "in use",
            (false, true) => "left",
            (false, false) => "removed",
        };
        writeln!(text, "{kind:<10} {fate:<8} {}", one.name)
            .map_err(|error| Edge::internal("no text").caused_by(error))?;
    }
    output.data(&text)?;
    Ok(if left.iter().any(over) { Exit::Internal } else { Exit::Pass })
}

/// Removes what fits, and answers what is there afterwards.
async fn clear(
    engine: &Engine,
    fits: impl Fn(&Leftover) -> bool,
) -> Result<Vec<Leftover>, EngineError> {
    let mut listed = engine.labelled().await?;
    listed.retain(&fits);
    engine.remove(&listed).await?;
    engine.labelled().await
}
