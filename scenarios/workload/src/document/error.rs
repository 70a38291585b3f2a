//! Everything wrong with a file, drawn together: file, line, caret, nearest valid word.

use std::fmt;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

use super::node::{Mark, SourceText};

/// One thing wrong in a file or an argument.
#[derive(Debug, Clone)]
pub struct FileError {
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// How to put it right, if that is known.
    pub help: Option<String>,
    /// The display name of the source.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    offset: usize,
    len: usize,
    source: Arc<NamedSource<String>>,
}

impl FileError {
    /// An error at a place of a source.
    pub fn new(message: impl Into<String>, at: Mark) -> Self {
        let Mark { source, offset, len } = at;
        let before = source.text.get(..offset).unwrap_or(&source.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
        // A caret of one line is enough, also for a mapping that spans many.
        let rest = source.text.get(offset..offset + len).unwrap_or("");
        let len = rest.lines().next().map_or(0, str::len);
        let named = NamedSource::new(&source.name, source.text.clone());
        Self {
            message: message.into(),
            help: None,
            file: source.name.clone(),
            line,
            column,
            offset,
            len,
            source: Arc::new(named),
        }
    }

    /// The same error with a cure.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FileError {}

impl Diagnostic for FileError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source.as_ref())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new(
            Some("here".to_owned()),
            self.offset,
            self.len,
        ))))
    }
}

/// All that is wrong with the files of one run, in file order. Never empty.
#[derive(Debug, Clone)]
pub struct FileErrors {
    /// The errors; at least one.
    pub errors: Vec<FileError>,
}

impl FileErrors {
    /// One error that belongs to a name given by a person rather than to a place in a file.
    pub fn of_name(name: &str, message: impl Into<String>, help: Option<String>) -> Self {
        let source = SourceText::new("argument", name);
        let at = Mark { source, offset: 0, len: name.len() };
        let mut error = FileError::new(message, at);
        error.help = help;
        Self { errors: vec![error] }
    }

    /// Ok when nothing was found.
    ///
    /// # Errors
    /// The list, sorted by file and place, without repetitions.
    pub fn check(mut errors: Vec<FileError>) -> Result<(), Self> {
        if errors.is_empty() {
            return Ok(());
        }
        errors
            .sort_by(|a, b| (&a.file, a.offset, &a.message).cmp(&(&b.file, b.offset, &b.message)));
        errors.dedup_by(|a, b| a.file == b.file && a.offset == b.offset && a.message == b.message);
        Err(Self { errors })
    }

    /// The errors as text for people, each with its line and caret.
    pub fn render(&self, color: bool) -> String {
        let theme =
            if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
        let mut out = String::new();
        for error in &self.errors {
            handler.render_report(&mut out, error).expect("writing to a string cannot fail");
        }
        out
    }
}

impl From<FileError> for FileErrors {
    fn from(error: FileError) -> Self {
        Self { errors: vec![error] }
    }
}

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ix, e) in self.errors.iter().enumerate() {
            if ix > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}:{}: {}", e.file, e.line, e.column, e.message)?;
            if let Some(help) = &e.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for FileErrors {}
