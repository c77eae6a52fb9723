//! What is wrong with a document, and where: places in lines and columns, and the list of diagnostics that grows while the document
//! is read and checked.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

pub use crate::wire::text::{hint, nearest};

/// A place in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key's path, e.g. `portal[2].delay_off_s`; empty for the document as a whole.
    pub path: String,
}

impl Place {
    /// The place of the table that this key is missing in.
    pub(crate) fn of_table(&self) -> Self {
        let table = self.path.rsplit_once('.').map_or("", |(table, _)| table);
        Self { path: table.to_owned(), ..*self }
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// In which file; `None`: the one that was to be read.
    pub file: Option<PathBuf>,
    /// Where.
    pub place: Place,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.place.line, self.place.column)?;
        if !self.place.path.is_empty() {
            write!(f, "`{}`: ", self.place.path)?;
        }
        f.write_str(&self.message)
    }
}

/// The diagnostics of one document, collected while it is read and checked.
#[derive(Debug, Default)]
pub struct Log {
    line_starts: Vec<usize>,
    found: RefCell<Vec<Diagnostic>>,
}

impl Log {
    pub(super) fn new(text: &str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { line_starts, found: RefCell::default() }
    }

    /// Adds a diagnostic.
    pub fn add(&self, place: Place, message: impl Into<String>) {
        self.found.borrow_mut().push(Diagnostic { file: None, place, message: message.into() });
    }

    pub(super) fn place(&self, span: &Range<usize>, path: String) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= span.start).max(1);
        let column = span.start - self.line_starts.get(line - 1).copied().unwrap_or(0) + 1;
        Place { line, column, path }
    }

    /// All diagnostics so far, in the order of the document.
    pub(super) fn take(&self) -> Vec<Diagnostic> {
        let mut all = self.found.take();
        all.sort_by_key(|d| (d.place.line, d.place.column));
        all
    }
}
