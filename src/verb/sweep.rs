//! `sweep`: containers and networks that runs left behind.
use std::fmt::Write as _;
use std::io::Read as _;
use std::time::Duration;

use chat_testbed::containers::engine::{Engine, EngineError};
use chat_testbed::containers::leftovers::{Kind, Leftover};
use tokio::time::Instant;

use crate::args::SweepArgs;
use crate::containers::on_engine;
use crate::exit::{Edge, Exit};
use crate::output::Output;

/// An engine that was asked to make a container makes it, though who asked is dead: one may come this long after the last.
const STILL_COMES: Duration = Duration::from_secs(2);
/// How often the sweeper of a run looks meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// An engine that still makes and refuses things after this is left alone.
const SWEPT_WITHIN: Duration = Duration::from_secs(30);

/// Lists, or removes, what is left; exit 0 when nothing is.
pub(crate) fn sweep(args: &SweepArgs, output: &Output) -> Result<Exit, Edge> {
    if let Some(run) = &args.deadman {
        // Whatever ends the run ends the pipe: this is all that is waited for. A run that came to its end writes a word before.
        let mut word = Vec::new();
        drop(std::io::stdin().lock().read_to_end(&mut word));
        let quiet = if word.is_empty() { STILL_COMES } else { Duration::ZERO };
        return on_engine(async || {
            until_quiet(&Engine::connect().await?, run, quiet).await.map(|()| Exit::Pass)
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

/// Removes what is of a run until nothing of it was found for as long as `quiet`. What cannot be removed yet, since the engine is still
/// making it, is tried again with the next look.
async fn until_quiet(engine: &Engine, run: &str, quiet: Duration) -> Result<(), EngineError> {
    let (limit, mut found) = (Instant::now() + SWEPT_WITHIN, Instant::now());
    loop {
        let looked = clear_run(engine, run).await;
        let now = Instant::now();
        match looked {
            Ok(false) if quiet <= now.saturating_duration_since(found) => return Ok(()),
            Ok(false) => {}
            Err(error) if limit <= now => return Err(error),
            Ok(true) | Err(_) => found = now,
        }
        if limit <= now {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Removes what is of a run, and answers whether there was anything.
async fn clear_run(engine: &Engine, run: &str) -> Result<bool, EngineError> {
    let mut listed = engine.labelled().await?;
    listed.retain(|left| left.run == run);
    engine.remove(&listed).await?;
    Ok(!listed.is_empty())
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
