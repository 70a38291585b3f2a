//! `demo`: a narrated gateway kill of about two minutes at 500 messages a second.
use storm_experiment::file::Substrate;

use crate::args::{DemoArgs, FileArgs, SubstrateName};
use crate::exit::{Edge, Exit};
use crate::files;
use crate::output::Output;
use crate::run::{self, Wish};
use crate::signals::Signals;

/// What is shown, as changes of the shipped experiment: a thousand users, 500 messages a second, no control run.
const CHANGES: [&str; 8] = [
    "streams.chat.rate=500/s",
    "population.users=1000",
    "control=none",
    "windows.steady=15s",
    "windows.fault=45s",
    "method.kill-one.at=5s",
    "method.kill-one.for=20s",
    "method.kill-one.witness={}",
];

const STORY: &str = "\
A chat system starts on this machine: three gateways, two service nodes, three log brokers, a registry, a history store.
A thousand people chat, 500 messages a second. After half a minute one of the three gateways is killed, without warning.
Watch the phase, the nodes (● runs, ○ down), p99 and `owed`: what was accepted and has not arrived yet.
At the end every message is accounted for.";

/// Tells the story while it happens, then shows the verdict.
pub(crate) fn demo(args: &DemoArgs, output: &Output) -> Result<Exit, Edge> {
    let file = FileArgs {
        file: "gateway-kill".to_owned(),
        scale: None,
        sets: CHANGES.map(str::to_owned).to_vec(),
        seed: args.seed,
        steady: None,
        arm: None,
        substrate: SubstrateName::Embedded,
    };
    let resolved = files::resolve(&file, output)?;
    output.talk(STORY);
    let signals = Signals::install()?;
    let command = args.seed.map_or_else(
        || "chatstorm demo".to_owned(),
        |seed| format!("chatstorm demo --seed {seed}"),
    );
    let wish = Wish {
        resolved: &resolved,
        substrate: Substrate::Embedded,
        shards: None,
        out: None,
        command,
    };
    run::run(&wish, output, &signals)
}
