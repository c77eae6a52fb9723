//! What is wrong with a document, and where: places in lines and columns, and the list that grows while it is read.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

/// One diagnostic in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key's path, e.g. `portal[2].delay_off_s`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A place in a document, for what is found to be wrong there only after it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key's path, e.g. `portal[2]`.
    pub path: String,
}

impl Place {
    /// A diagnostic at this place.
    #[must_use]
    pub fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic { line: self.line, column: self.column, path: self.path.clone(), message: message.into() }
    }
}

/// Where diagnostics are collected while a document is read.
#[derive(Clone)]
pub(super) struct Diagnostics {
    line_starts: Rc<[usize]>,
    found: Rc<RefCell<Vec<Diagnostic>>>,
}

impl Diagnostics {
    pub(super) fn for_text(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { line_starts: starts, found: Rc::default() }
    }

    pub(super) fn place(&self, span: &Range<usize>, path: &str) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= span.start).max(1);
        let column = span.start - self.line_starts.get(line - 1).copied().unwrap_or(0) + 1;
        Place { line, column, path: path.to_owned() }
    }

    pub(super) fn add(&self, span: Range<usize>, path: &str, message: impl Into<String>) {
        self.report(self.place(&span, path).diagnostic(message));
    }

    pub(super) fn report(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// All diagnostics so far, in the order of the document.
    pub(super) fn take(&self) -> Vec<Diagnostic> {
        let mut all = std::mem::take(&mut *self.found.borrow_mut());
        all.sort_by_key(|m| (m.line, m.column));
        all
    }
}
