//! Where text goes: data to stdout, talk to stderr; in which form and colour.
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::args::{Color, Format, Global};
use crate::exit::Edge;

/// How a command talks.
#[derive(Clone, Debug)]
pub struct Output {
    /// Form of the data.
    pub format: Format,
    /// Whether text may be coloured.
    pub color: bool,
    /// Only data and errors.
    pub quiet: bool,
    /// How much more than usual.
    pub verbose: u8,
    /// Whether stderr is a terminal, so that a line may be redrawn.
    pub terminal: bool,
}

impl Output {
    /// From what was typed, `NO_COLOR` and whether stderr is a terminal.
    pub fn new(global: &Global) -> Self {
        let terminal = io::stderr().is_terminal();
        let color = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                terminal
                    && io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Self {
            format: global.format,
            color,
            quiet: global.quiet,
            verbose: global.verbose,
            terminal,
        }
    }

    /// Writes data. A pipe closed by its reader is success.
    pub fn data(&self, text: &str) -> Result<(), Edge> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Edge::internal("standard output cannot be written").caused_by(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a value as JSON, with a line end.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Edge> {
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|e| Edge::internal("cannot write JSON").caused_by(e))?;
        text.push('\n');
        self.data(&text)
    }

    /// Says something to people, unless they asked for quiet. What cannot be said is lost without harm.
    pub fn talk(&self, text: &str) {
        if !self.quiet {
            let mut err = io::stderr().lock();
            drop(writeln!(err, "{text}"));
        }
    }

    /// Reports an error, quiet or not.
    pub fn error(&self, edge: &Edge) {
        let mut err = io::stderr().lock();
        drop(write!(err, "{edge}"));
    }
}
