//! `explain WORD`: what a word in a file or a report means.
use storm_workload::document::nearest;

use crate::args::{ExplainArgs, Format};
use crate::exit::{Edge, Exit};
use crate::output::Output;
use crate::words;

/// Explains every word that was asked for; a word nobody knows is a usage error with the nearest ones.
pub(crate) fn explain(args: &ExplainArgs, output: &Output) -> Result<Exit, Edge> {
    let mut found = Vec::new();
    for word in &args.words {
        let meanings = words::find(word);
        if meanings.is_empty() {
            let all = words::all();
            let hint = match nearest(word, all.iter().map(|meaning| meaning.word.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`chatstorm list` and `docs/glossary.md` have all words".to_owned(),
            };
            return Err(Edge::usage(format!("`{word}` is not a word of chatstorm")).hint(hint));
        }
        found.extend(meanings);
    }
    match output.format {
        Format::Json => output.json(&found)?,
        Format::Text => {
            let texts: Vec<String> = found.iter().map(words::Meaning::text).collect();
            output.data(&texts.join("\n"))?;
        }
    }
    Ok(Exit::Pass)
}
