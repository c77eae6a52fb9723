//! The portals of a large building as a sheet: `portals = "portals.csv"`, a row for each portal, a column for each key of
//! `[[portal]]`, with a dot where the key is in a table (`reader.unit`).
//!
//! Each row becomes one more `[[portal]]` table behind the text of the file. So a sheet means what tables mean and is checked by the
//! same code; what is wrong is reported at the row and the column of the sheet.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::Surroundings;
use crate::profile::document::{Diagnostic, Key, NotBlank, Place, Text, read_at};
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

/// A sheet that was read.
pub(super) struct Sheet {
    file: PathBuf,
    /// The tables of its rows.
    tables: String,
    /// Where each line of these tables is from.
    cells: Vec<Cell>,
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
    /// The sheet that the configuration names, if it names one.
    pub(super) fn of(text: &str, around: &Surroundings) -> Result<Option<Self>, Vec<Diagnostic>> {
        // What is wrong with the file itself is reported when all of it is read.
        let Ok(Some(key)) = read_at::<Key<Text<NotBlank>>>(text, &["portals"]) else { return Ok(None) };
        let Some(Text(NotBlank(name))) = key.get() else { return Ok(None) };
        let file = around.base_dir.join(name);
        let at_key = |message: String| vec![Diagnostic { file: None, place: key.place.clone(), message }];
        let bytes = super::secret::bytes(&file, sheet::BYTES_MAX as u64).map_err(|error| {
            let why = format!(
                "cannot read the sheet of portals `{}`: {error}; write it there, or remove this key",
                file.display()
            );
            at_key(why)
        })?;
        let wrong = |NoSheet { line, what }| {
            let line = line.and_then(|line| usize::try_from(line).ok()).unwrap_or(1);
            vec![Diagnostic {
                file: Some(file.clone()),
                place: Place { line, column: 1, path: String::new() },
                message: what,
            }]
        };
        let (rows, _) = sheet::decode(&bytes).map_err(wrong)?;
        let mut records = sheet::records(&rows).into_iter().filter(|record| !is_remark(record));
        let Some(head) = records.next() else {
            return Err(wrong(NoSheet {
                line: None,
                what: "the sheet is empty; its first line names the columns, e.g. `id,kind,zone,device.mqtt`"
                    .to_owned(),
            }));
        };
        let mut found = Self { file: file.clone(), tables: String::new(), cells: Vec::new(), rows: Vec::new() };
        let mut faults = found.columns(&head);
        // Under wrong columns each row would be wrong as well.
        if faults.is_empty() {
            faults = records.filter_map(|record| found.row(&head, &record)).collect();
        }
        if faults.is_empty() { Ok(Some(found)) } else { Err(faults) }
    }

    /// What is wrong with the names of the columns.
    fn columns(&self, head: &Record) -> Vec<Diagnostic> {
        let mut faults = Vec::new();
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
            } else {
                continue;
            };
            faults.push(self.fault(Cell { line: line_of(head), column: at + 1 }, String::new(), what));
        }
        faults
    }

    /// Adds the table of a row.
    fn row(&mut self, head: &Record, record: &Record) -> Option<Diagnostic> {
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
        self.cells.push(Cell { line, column: 1 });
        self.tables.push_str(TABLE);
        self.tables.push('\n');
        for (at, (name, cell)) in head.cells.iter().zip(&record.cells).enumerate() {
            if cell.is_empty() || name.starts_with(REMARK) {
                continue;
            }
            self.cells.push(Cell { line, column: at + 1 });
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
    pub(super) fn places(&self, text: &str, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let lines = text.matches('\n').count() + 1;
        let first = read_at::<Vec<IgnoredAny>>(text, &["portal"]).ok().flatten().map_or(0, |tables| tables.len());
        let mut seen: HashMap<(usize, String), usize> = HashMap::new();
        let mut placed: Vec<(Diagnostic, usize)> = Vec::new();
        for Diagnostic { file, place, message } in found {
            let message = self.names_rows(&message, first);
            let cell = place.line.checked_sub(lines + 1).and_then(|at| self.cells.get(at));
            let Some(cell) = cell else {
                placed.push((Diagnostic { file, place, message }, 0));
                continue;
            };
            let path =
                place.path.strip_prefix("portal[").and_then(|rest| rest.split_once(']')).map_or("", |(_, key)| key);
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
