//! A list of enrolments as a CSV sheet, the way an office keeps it in a spreadsheet: one row a card. It is read strictly, with all
//! faults at once, each with its line, its column and what to do; and written so that it reads back the same.
//!
//! `profile::sheet` decodes the bytes and cuts them into records, `column` knows the columns by their English and Chinese names, `cell` reads
//! one cell and recognises what spreadsheets do to UIDs, numbers and dates.

pub mod cell;
mod column;

use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::access::credential::{CardMarks, Enrolment, Entitlement, Role};
use crate::access::id::{CardUid, Timestamp};
use crate::access::portal::PortalKind;
use crate::profile::sheet::{self as text, NoSheet, Record};
use column::{Column, Columns};

pub use crate::profile::sheet::{BYTES_MAX, Encoding};

/// Rows of one sheet. A longer one is refused; a gateway takes no longer list either.
pub const ROWS_MAX: usize = 200_000;
/// Faults that are listed. Further ones are counted.
pub const FAULTS_MAX: usize = 100;
/// Digits of UIDs that are all 0 to 9 by chance less than once in 10⁹ sheets. A sheet with as many and no letter is taken to be
/// decimal.
const DIGITS_WITHOUT_LETTER_MAX: usize = 44;

/// What each card of a list may open.
pub type Enrolments = BTreeMap<CardUid, Enrolment>;

/// A sheet that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// The list.
    pub enrolments: Enrolments,
    /// How its text was encoded.
    pub encoding: Encoding,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The line, from 1; `None`: the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The name of the column in the sheet; `None`: the line as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Fault {
    fn file(what: impl Into<String>) -> Self {
        Self { line: None, column: None, what: what.into() }
    }

    fn line(line: u64, what: impl Into<String>) -> Self {
        Self { line: Some(line), column: None, what: what.into() }
    }
}

impl From<NoSheet> for Fault {
    fn from(NoSheet { line, what }: NoSheet) -> Self {
        Self { line, column: None, what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, &self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column `{column}`: {}", self.what),
            (Some(line), None) => write!(f, "line {line}: {}", self.what),
            (None, _) => f.write_str(&self.what),
        }
    }
}

/// Everything that is wrong with a sheet. Nothing of it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first [`FAULTS_MAX`], in the order of their lines.
    pub listed: Vec<Fault>,
    /// How many more there are.
    pub more: usize,
}

impl Faults {
    fn add(&mut self, fault: Fault) {
        if self.listed.len() < FAULTS_MAX {
            self.listed.push(fault);
        } else {
            self.more += 1;
        }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self { listed: vec![fault], more: 0 }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.listed {
            writeln!(f, "{fault}")?;
        }
        match (self.listed.len(), self.more) {
            (1, 0) => f.write_str("1 fault; nothing was loaded"),
            (listed, 0) => write!(f, "{listed} faults; nothing was loaded"),
            (_, more) => write!(f, "and {more} more faults; nothing was loaded"),
        }
    }
}

impl std::error::Error for Faults {}

/// How a sheet is to be read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Where dates without an offset are meant.
    pub timezone: TimeZone,
    /// Columns to pass over, by their names in the sheet.
    pub ignored: Vec<String>,
}

/// The columns: the name of each that is written, and its Chinese names.
pub fn columns() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    column::NAMES.iter().filter_map(|(_, names)| {
        let (first, others) = names.split_first()?;
        Some((*first, others.iter().copied().filter(|name| !name.is_ascii()).collect()))
    })
}

/// Reads a sheet. The error has everything that is wrong with it.
pub fn read(bytes: &[u8], reading: &Reading) -> Result<Sheet, Faults> {
    let (text, encoding) = text::decode(bytes).map_err(Fault::from)?;
    let mut records = text::records(&text).into_iter();
    let Some(head) = records.next() else {
        return Err(Fault::file("the file is empty; its first line names the columns, e.g. `uid,holder,gate`").into());
    };
    let mut faults = Faults::default();
    let mut rows = Rows {
        columns: Columns::of(&head, &reading.ignored, &mut faults),
        timezone: &reading.timezone,
        enrolments: Enrolments::new(),
        lines: BTreeMap::new(),
        digits: 0,
        has_letter: false,
        faults,
    };
    for (row, record) in records.enumerate() {
        if row >= ROWS_MAX {
            let what = format!("more than {ROWS_MAX} rows; load the list of one building at a time");
            rows.faults.add(Fault::line(record.line, what));
            break;
        }
        rows.take(&record);
    }
    rows.finish(encoding)
}

/// The rows read so far.
struct Rows<'r> {
    columns: Columns,
    timezone: &'r TimeZone,
    enrolments: Enrolments,
    /// On which line each card stands.
    lines: BTreeMap<CardUid, u64>,
    /// Hex digits of all UIDs, as long as none is a letter.
    digits: usize,
    has_letter: bool,
    faults: Faults,
}

impl Rows<'_> {
    fn take(&mut self, record: &Record) {
        if record.cells.len() != self.columns.count() {
            let what = format!(
                "the line has {} cells and the first line {}; put a cell with a separator or a line break in it in double quotes, and close each quote",
                record.cells.len(),
                self.columns.count()
            );
            self.faults.add(Fault::line(record.line, what));
            return;
        }
        let uid = self.cell(record, Column::Uid, cell::uid);
        if let Some(uid) = uid {
            let text = self.columns.cell(record, Column::Uid).unwrap_or_default();
            self.has_letter |= text.bytes().any(|b| b.is_ascii_alphabetic());
            self.digits += 2 * uid.as_bytes().len();
        }
        let holder = self.cell(record, Column::Holder, cell::holder);
        let role = self.cell_or(record, Column::Role, Role::default(), cell::role);
        let marks = self.cell_or(record, Column::Marks, CardMarks::empty(), cell::marks);
        let entitlements = self.entitlements(record);
        let timezone = self.timezone;
        let time = |text: &str| cell::time(text, timezone).map(Some);
        let not_before = self.cell_or(record, Column::NotBefore, None, time);
        let not_after = self.cell_or(record, Column::NotAfter, None, time);
        if let (Some(Some(from)), Some(Some(to))) = (not_before, not_after)
            && to <= from
        {
            let what = format!("the time it ends, {to}, is not after the time it begins, {from}; correct one of them");
            self.fault(record, Column::NotAfter, what);
        }
        let (Some(uid), Some(holder), Some(role), Some(entitlements)) = (uid, holder, role, entitlements) else {
            return;
        };
        let (Some(marks), Some(not_before), Some(not_after)) = (marks, not_before, not_after) else { return };
        match self.lines.insert(uid, record.line) {
            None => {
                self.enrolments.insert(uid, Enrolment { holder, role, marks, not_before, not_after, entitlements });
            }
            Some(first) => {
                self.lines.insert(uid, first);
                let what =
                    format!("card {uid} stands on line {first} already; a card has one row, with all that it opens");
                self.fault(record, Column::Uid, what);
            }
        }
    }

    fn fault(&mut self, record: &Record, column: Column, what: String) {
        self.faults.add(Fault { line: Some(record.line), column: Some(self.columns.name(column)), what });
    }

    /// The value of a cell that must be there. That its column is missing is a fault of the first line, and not of each.
    fn cell<T>(&mut self, record: &Record, column: Column, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.columns.place(column)?;
        let text = self.columns.cell(record, column).unwrap_or_default();
        match read(text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.fault(record, column, what);
                None
            }
        }
    }

    /// The value of a cell that may be empty, or whose column may be missing.
    fn cell_or<T>(
        &mut self,
        record: &Record,
        column: Column,
        otherwise: T,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.columns.cell(record, column) {
            None | Some("") => Some(otherwise),
            Some(_) => self.cell(record, column, read),
        }
    }

    fn entitlements(&mut self, record: &Record) -> Option<Vec<Entitlement>> {
        let (mut all, mut is_whole, mut is_empty) = (Vec::new(), true, true);
        for column in Column::RIGHTS {
            let read = |text: &str| cell::entitlements(text, column.kind());
            is_empty &= matches!(self.columns.cell(record, column), None | Some(""));
            match self.cell_or(record, column, Vec::new(), read) {
                None => is_whole = false,
                Some(more) => all.extend(more),
            }
        }
        if Column::RIGHTS.iter().all(|column| self.columns.place(*column).is_none()) {
            return None;
        }
        if is_empty {
            let what = "the row opens nothing; name a zone or `*` in one of the columns of what it opens, write `-` there if it \
                        is to open nothing, or remove the row";
            self.faults.add(Fault::line(record.line, what));
            return None;
        }
        all.sort_unstable();
        all.dedup();
        is_whole.then_some(all)
    }

    fn finish(mut self, encoding: Encoding) -> Result<Sheet, Faults> {
        if self.digits >= DIGITS_WITHOUT_LETTER_MAX && !self.has_letter {
            let what = format!(
                "no UID in the column `{}` has a letter A to F, so they are decimal numbers; set the reader or the export to hexadecimal, in the order in which the card sends its bytes",
                self.columns.name(Column::Uid)
            );
            self.faults.add(Fault::file(what));
        }
        if self.faults.listed.is_empty() && self.enrolments.is_empty() {
            let what = "the list is empty, and every card would be withdrawn; put the cards that are to open something below the first line";
            self.faults.add(Fault::file(what));
        }
        if self.faults.listed.is_empty() {
            Ok(Sheet { enrolments: self.enrolments, encoding })
        } else {
            Err(self.faults)
        }
    }
}

/// Writes a list as a sheet in UTF-8. Times have the offset of `timezone`.
#[must_use]
pub fn write(enrolments: &Enrolments, timezone: &TimeZone) -> String {
    let mut records = vec![column::WRITTEN.iter().map(|column| column.as_str().to_owned()).collect::<Vec<_>>()];
    for (uid, enrolment) in enrolments {
        let of = |kind| cell::print_entitlements(&enrolment.entitlements, kind);
        let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| cell::print_time(at, timezone));
        let written = |column: &Column| match column {
            Column::Uid => uid.to_string(),
            Column::Holder => enrolment.holder.to_string(),
            Column::Role => enrolment.role.as_str().to_owned(),
            Column::Marks => cell::print_marks(enrolment.marks),
            Column::Gate if enrolment.entitlements.is_empty() => cell::NOTHING.to_owned(),
            Column::Gate => of(PortalKind::Gate),
            Column::Door => of(PortalKind::Door),
            Column::PowerBox => of(PortalKind::PowerBox),
            Column::NotBefore => time(enrolment.not_before),
            Column::NotAfter => time(enrolment.not_after),
            Column::Entitlements => String::new(),
        };
        records.push(column::WRITTEN.iter().map(written).collect());
    }
    text::print(&records)
}

#[cfg(test)]
mod tests;
