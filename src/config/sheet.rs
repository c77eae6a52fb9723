//! The portals of a large building as a sheet: `portals = "portals.csv"`, a row for each portal, a column for each key of
//! `[[portal]]`, with a dot where the key is in a table (`reader.unit`).
//!
//! Each row becomes one more `[[portal]]` table behind the text of the file. So a sheet means what tables mean and is checked by the
//! same code; what is wrong is reported at the row and the column of the sheet.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::PathBuf;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::Surroundings;
use super::portal::PortalTable;
use crate::profile::document::{Diagnostic, Key, List, NotBlank, Place, Text, UNKNOWN_KEY, read_at};
use crate::profile::sheet::{self, NoSheet, Record};

/// What the column of a remark begins with, and the line of one.
const REMARK: char = '#';
/// How the table of a portal begins.
const TABLE: &str = "[[portal]]";
/// What the keys end in whose values are whole numbers, with the keys that have a name of their own. In all other columns digits are
/// text: rooms and zones have numbers for names.
const NUMBERS: [&str; 6] = ["_s", "_ms", "_w", "unit", "channel", "modbus_server"];
/// What lists are in.
const LISTS: [&str; 2] = ["allowed_steps_w", "interlock"];

/// What `portals` is, for those who wrote tables.
pub(super) struct Name;

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |why| {
            D::Error::custom(format!(
                "{why}; did you mean `{TABLE}`, a table for each portal, or `portals = \"portals.csv\"`, a sheet of them?"
            ))
        };
        Text::<NotBlank>::deserialize(deserializer).map(|_| Self).map_err(wrong)
    }
}

/// A sheet that was read, as far as it could be.
pub(super) struct Sheet {
    file: PathBuf,
    /// What is wrong with the sheet as such.
    pub(super) faults: Vec<Diagnostic>,
    /// Whether a column is wrong, and whether a row is left out: what follows from that is not reported.
    is_column_out: bool,
    is_row_out: bool,
    /// The line with the names of the columns.
    head: usize,
    /// The tables of its rows.
    tables: String,
    /// Where each line of these tables is from, and what stands there.
    cells: Vec<(Cell, String)>,
    /// The line of each row in the sheet.
    rows: Vec<usize>,
}

/// A place in the sheet.
#[derive(Clone, Copy)]
struct Cell {
    line: usize,
    /// Which column, from 1.
    column: usize,
}

impl Sheet {
    /// The sheet that the configuration names, if it names one. What is wrong with it is in it, so that all that is wrong is reported
    /// together.
    pub(super) fn of(text: &str, around: &Surroundings) -> Option<Self> {
        // What is wrong with the file itself is reported when all of it is read.
        let Ok(Some(key)) = read_at::<Key<Text<NotBlank>>>(text, &["portals"]) else { return None };
        let Text(NotBlank(name)) = key.get()?;
        let mut found = Self {
            file: around.base_dir.join(name),
            faults: Vec::new(),
            is_column_out: false,
            is_row_out: true,
            head: 1,
            tables: String::new(),
            cells: Vec::new(),
            rows: Vec::new(),
        };
        let decoded = match super::secret::bytes(&found.file, sheet::BYTES_MAX as u64) {
            Ok(bytes) => sheet::decode(&bytes),
            Err(error) => {
                let file = found.file.display();
                let message =
                    format!("cannot read the sheet of portals `{file}`: {error}; write it there, or remove this key");
                found.faults.push(Diagnostic { file: None, place: key.place.clone(), message });
                return Some(found);
            }
        };
        match decoded {
            Ok((rows, _)) => found.read(&rows),
            Err(NoSheet { line, what }) => {
                let line = line.and_then(|line| usize::try_from(line).ok()).unwrap_or(1);
                found.faults.push(found.fault(Cell { line, column: 1 }, String::new(), what));
            }
        }
        Some(found)
    }

    fn read(&mut self, text: &str) {
        let records = sheet::records(text);
        let mut records = records.into_iter().filter(|record| !is_remark(record));
        let Some(head) = records.next() else {
            let what = "the sheet is empty; its first line names the columns, e.g. `id,kind,zone,device.mqtt`";
            self.faults.push(self.fault(Cell { line: 1, column: 1 }, String::new(), what.to_owned()));
            return;
        };
        self.head = line_of(&head);
        // Behind a quotation mark that is never closed all rows are one cell.
        let open = sheet::open_quote(text).and_then(|line| usize::try_from(line).ok());
        if let Some(line) = open {
            let what = "a quotation mark opens a cell here and is not closed behind it; close it, or write it twice inside quotation marks if it belongs to the text";
            self.faults.push(self.fault(Cell { line, column: 1 }, String::new(), what.to_owned()));
        }
        let (out, faults) = self.columns(&head);
        self.is_column_out = !faults.is_empty();
        self.faults.extend(faults);
        self.is_row_out = open.is_some();
        let is_open = |record: &Record| open.is_some_and(|open| line_of(record) >= open);
        for record in records.take_while(|record| !is_open(record)) {
            if let Some(fault) = self.row(&head, &out, &record) {
                self.is_row_out = true;
                self.faults.push(fault);
            }
        }
        self.empty_columns(&head, &out);
    }

    /// What is wrong with the names of columns in which no cell is filled: no table has them.
    fn empty_columns(&mut self, head: &Record, out: &[usize]) {
        let filled: BTreeSet<usize> =
            self.cells.iter().filter(|(_, shown)| !shown.is_empty()).map(|(cell, _)| cell.column).collect();
        for (at, name) in head.cells.iter().enumerate() {
            if name.starts_with(REMARK) || out.contains(&at) || filled.contains(&(at + 1)) {
                continue;
            }
            let found = read_at::<List<PortalTable>>(&format!("{TABLE}\n{name} = \"\"\n"), &["portal"]).err();
            if let Some(unknown) = found.into_iter().flatten().find(|found| found.message.starts_with(UNKNOWN_KEY)) {
                let cell = Cell { line: self.head, column: at + 1 };
                self.faults.push(self.fault(cell, name.clone(), unknown.message));
            }
        }
    }

    /// Whether it names columns and has no row: a sheet that somebody began.
    pub(super) fn is_head_only(&self) -> bool {
        self.faults.is_empty() && self.rows.is_empty()
    }

    /// What `behind` was read as, with what is wrong with the sheet.
    pub(super) fn judge<T>(&self, text: &str, read: Result<T, Vec<Diagnostic>>) -> Result<T, Vec<Diagnostic>> {
        let found = match read {
            Ok(read) if self.faults.is_empty() => return Ok(read),
            Ok(_) => Vec::new(),
            Err(found) => self.places(text, found),
        };
        let follows = |found: &Diagnostic| {
            let (path, is_of_row) = (&found.place.path, found.file.is_some());
            let by_name = path.starts_with("area[") || path.starts_with("walk[") || path.ends_with("interlock");
            self.is_row_out && by_name
                || self.is_column_out && (by_name || is_of_row && found.message.contains("is missing"))
        };
        Err(self.faults.iter().cloned().chain(found.into_iter().filter(|found| !follows(found))).collect())
    }

    /// The columns that are left out, and what is wrong with their names.
    fn columns(&self, head: &Record) -> (Vec<usize>, Vec<Diagnostic>) {
        let (mut out, mut faults) = (Vec::new(), Vec::new());
        for (at, name) in head.cells.iter().enumerate() {
            let is_key = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let what = if name.starts_with(REMARK) {
                continue;
            } else if name.is_empty() {
                format!("the column has no name; write a key of `{TABLE}`, or `{REMARK}` if it is a remark")
            } else if !name.split('.').all(is_key) {
                format!(
                    "`{name}` is no column; write a key of `{TABLE}` such as `zone` or `reader.unit`, or `{REMARK}` in front of it if it is a remark"
                )
            } else if head.cells.iter().take(at).any(|other| other == name) {
                format!("`{name}` is there twice; remove one of the two columns")
            } else if let Some(table) =
                head.cells.iter().find(|other| name.strip_prefix(*other).is_some_and(|rest| rest.starts_with('.')))
            {
                format!(
                    "`{table}` is a column too, and a value and a table with `{name}` in it cannot both be there; remove one of the two columns"
                )
            } else {
                continue;
            };
            out.push(at);
            faults.push(self.fault(Cell { line: line_of(head), column: at + 1 }, String::new(), what));
        }
        (out, faults)
    }

    /// Adds the table of a row.
    fn row(&mut self, head: &Record, out: &[usize], record: &Record) -> Option<Diagnostic> {
        let line = line_of(record);
        if record.cells.len() > head.cells.len() {
            let what = format!(
                "the row has {} cells and the first line {}; put a cell with a separator in it in double quotes",
                record.cells.len(),
                head.cells.len()
            );
            return Some(self.fault(Cell { line, column: head.cells.len() + 1 }, String::new(), what));
        }
        self.rows.push(line);
        self.cells.push((Cell { line, column: 1 }, String::new()));
        self.tables.push_str(TABLE);
        self.tables.push('\n');
        for (at, (name, cell)) in head.cells.iter().zip(&record.cells).enumerate() {
            if cell.is_empty() || name.starts_with(REMARK) || out.contains(&at) {
                continue;
            }
            self.cells.push((Cell { line, column: at + 1 }, cell.clone()));
            self.tables.push_str(&format!("{name} = {}\n", value(name, cell)));
        }
        None
    }

    /// The file with the tables of the sheet behind it.
    pub(super) fn behind(&self, text: &str) -> String {
        format!("{text}\n{}", self.tables)
    }

    /// Diagnostics of that text, at the places of the sheet where they are of its rows. What is wrong with a column in the same way in
    /// many rows is reported at the first of them.
    fn places(&self, text: &str, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let lines = text.matches('\n').count() + 1;
        let first = read_at::<Vec<IgnoredAny>>(text, &["portal"]).ok().flatten().map_or(0, |tables| tables.len());
        let mut seen: HashMap<(usize, String), usize> = HashMap::new();
        let mut placed: Vec<(Diagnostic, usize)> = Vec::new();
        for Diagnostic { file, place, message } in found {
            // A line break in a cell is one in what the message repeats of it.
            let mut message = self.names_rows(&message, first).replace('\n', "\\n");
            let cell = place.line.checked_sub(lines + 1).and_then(|at| self.cells.get(at));
            let Some((cell, shown)) = cell else {
                placed.push((Diagnostic { file, place, message }, 0));
                continue;
            };
            if let Some(wanted) = message.strip_suffix("this is a string") {
                message = format!("{wanted}this is `{}`", shown.escape_debug());
            }
            let path =
                place.path.strip_prefix("portal[").and_then(|rest| rest.split_once(']')).map_or("", |(_, key)| key);
            // A name that is wrong stands once, in the head.
            if message.starts_with(UNKNOWN_KEY) {
                if seen.insert((cell.column, message.clone()), placed.len()).is_none() {
                    let cell = Cell { line: self.head, ..*cell };
                    placed.push((self.fault(cell, path.trim_start_matches('.').to_owned(), message), 0));
                }
                continue;
            }
            match seen.get(&(cell.column, message.clone())).and_then(|at| placed.get_mut(*at)) {
                Some((_, more)) => *more += 1,
                None => {
                    seen.insert((cell.column, message.clone()), placed.len());
                    placed.push((self.fault(*cell, path.trim_start_matches('.').to_owned(), message), 0));
                }
            }
        }
        let with_count = |(mut diagnostic, more): (Diagnostic, usize)| {
            if more > 0 {
                diagnostic.message.push_str(&format!(" (and so in {more} more rows)"));
            }
            diagnostic
        };
        placed.into_iter().map(with_count).collect()
    }

    /// A message in which the tables of rows, `portal[N]`, are named by the line of the row.
    fn names_rows(&self, message: &str, first: usize) -> String {
        let sheet = self.file.file_name().and_then(OsStr::to_str).unwrap_or("the sheet");
        let mut parts = message.split("portal[");
        let mut named = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (number, rest) = part.split_once(']').unwrap_or_default();
            let row = number.parse::<usize>().ok().and_then(|number| self.rows.get(number.checked_sub(first)?));
            match row {
                Some(line) => named.push_str(&format!("{sheet}:{line}{rest}")),
                None => named.push_str(&format!("portal[{part}")),
            }
        }
        named
    }

    fn fault(&self, Cell { line, column }: Cell, path: String, message: String) -> Diagnostic {
        Diagnostic { file: Some(self.file.clone()), place: Place { line, column, path }, message }
    }
}

fn is_remark(record: &Record) -> bool {
    record.cells.first().is_some_and(|cell| cell.starts_with(REMARK))
        && record.cells.iter().skip(1).all(String::is_empty)
}

fn line_of(record: &Record) -> usize {
    usize::try_from(record.line).unwrap_or(usize::MAX)
}

/// A cell as a TOML value.
fn value(name: &str, cell: &str) -> String {
    let is_number = || cell.strip_prefix('-').unwrap_or(cell).bytes().all(|b| b.is_ascii_digit());
    if LISTS.contains(&name) {
        let items = cell.split([' ', ';', ',']).filter(|item| !item.is_empty()).map(quoted);
        return format!("[{}]", items.collect::<Vec<_>>().join(", "));
    }
    match cell {
        // As spreadsheets write them.
        "true" | "TRUE" | "True" => "true".to_owned(),
        "false" | "FALSE" | "False" => "false".to_owned(),
        // Zeros in front of a number are no TOML.
        number if NUMBERS.iter().any(|end| name.ends_with(end)) && is_number() => {
            number.parse::<i64>().map_or_else(|_| quoted(number), |number| number.to_string())
        }
        text => quoted(text),
    }
}

/// A TOML string. What JSON escapes is escaped alike in TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
